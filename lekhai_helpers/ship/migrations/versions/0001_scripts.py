"""Make the table of scripts.

A step is never edited once a database went through it: what changes is a further step.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the table and the index its newest-first pages are read by."""
    op.create_table(
        "scripts",
        sa.Column("id", sa.Uuid(as_uuid=False), primary_key=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("industry", sa.Text, nullable=False),
        sa.Column("request", sa.JSON, nullable=False),
        sa.Column("markdown", sa.Text, nullable=False),
        sa.Column("valid", sa.Boolean, nullable=False),
        sa.Column("problems", sa.JSON, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("seconds", sa.Float, nullable=False),
        sa.Column("search_text", sa.Text, nullable=False),
    )
    op.create_index("scripts_newest_first", "scripts", ["created_at", "id"])
