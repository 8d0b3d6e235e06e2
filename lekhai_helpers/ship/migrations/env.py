"""How alembic reaches the scripts' database: through the connection that `ship.store_open` hands it."""

from alembic import context

from lekhai_helpers.ship.store_schema import VERSION_TABLE, metadata

# All steps and the version in the one transaction the caller began, also on SQLite, where alembic's usual way is not.
context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
