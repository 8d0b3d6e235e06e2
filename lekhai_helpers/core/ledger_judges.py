"""What judges and people said, as the ledger keeps it: verdicts, the audits of the judges, and human marks.

The second half of `core.ledger.Ledger`: ``phase.ledger.add_audit("gpt-4o", audit.rows(), passed=..., sentence=...)``.
Taught in notebook 11.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lekhai_helpers.core.ledger_file import LedgerError, LedgerFile
from lekhai_helpers.core.ledger_rows import (
    AUDIT,
    LABEL,
    VERDICT,
    audit_values,
    label_values,
    marks,
    now,
    records,
    verdict_values,
)

if TYPE_CHECKING:
    from pandas import DataFrame

GEVAL = "g-eval"  # how the summary's figures begin that are a judge's marks and no count
AUDIT_VERDICT = "passed"  # the figure of an audit that says whether the judge is to be trusted: 1 or 0


class JudgeTables(LedgerFile):
    """The tables of one experiment that hold what was said of its texts, and of those who said it."""

    experiment_id: int

    def add_verdicts(self, judge: str, rows: Sequence[Mapping[str, Any]]) -> int:
        """Write what a judge said, all rows or none. Returns how many rows were written.

        A row holds stage, brief_id, seed, criterion, status (scored, unparsable or failed), score (None unless
        scored), reason, and in `rubric` what was asked (`measure.judge.rubric_of`; "" without). The judge's verdicts by
        any other rubric go: their marks mean something else. One that is scored is not replaced by one that is not:
        an endpoint that is down today takes nothing away. Raises LedgerError where the response a row speaks of is not
        in the ledger, or the rows are of several rubrics.
        """
        values = [(self.experiment_id, judge, *verdict_values(row), now()) for row in rows]
        rubric = _only([str(row.get("rubric", "")) for row in rows])
        columns = ("experiment_id", "judge", *VERDICT, "at")
        try:
            with self._transaction() as db:
                if rubric is not None:
                    own = (self.experiment_id, judge, rubric)
                    db.execute("DELETE FROM judge_verdicts WHERE experiment_id = ? AND judge = ? AND rubric <> ?", own)
                return db.executemany(
                    f"""INSERT INTO judge_verdicts ({", ".join(columns)}, rubric)
                    VALUES ({marks((*columns, "rubric"))}) ON CONFLICT DO UPDATE SET
                    status = excluded.status, score = excluded.score, reason = excluded.reason, at = excluded.at
                    WHERE excluded.status = 'scored' OR judge_verdicts.status <> 'scored'""",
                    [(*value, rubric) for value in values],
                ).rowcount
        except sqlite3.IntegrityError as error:
            raise LedgerError(
                f"the verdicts of {judge} cannot be written: {error}. Each must speak of a response that is in the "
                "ledger (add_responses first), and has a score exactly if its status is 'scored'."
            ) from error

    def verdicts(self) -> DataFrame:
        """Return a table of judge, stage, brief_id, seed, criterion, status, score, reason."""
        query = f"SELECT judge, {', '.join(VERDICT)} FROM judge_verdicts WHERE experiment_id = ? ORDER BY id"
        return self._own(query)

    def add_audit(self, judge: str, rows: Any, *, passed: bool, sentence: str) -> int:
        """Write what a judge's audit found, in place of its earlier one. Returns how many figures were written.

        A row (of a list or a table) holds metric and value, and where there are any low, high, n and note. `sentence`
        says in words what `passed` says in one bit.
        """
        verdict = {"metric": AUDIT_VERDICT, "value": float(passed), "note": sentence}
        values = [(self.experiment_id, judge, *audit_values(row), now()) for row in [verdict, *records(rows)]]
        columns = ("experiment_id", "judge", *AUDIT, "at")
        with self._transaction() as db:
            db.execute("DELETE FROM judge_audits WHERE experiment_id = ? AND judge = ?", (self.experiment_id, judge))
            db.executemany(f"INSERT INTO judge_audits ({', '.join(columns)}) VALUES ({marks(columns)})", values)
        return len(values)

    def audits(self) -> DataFrame:
        """Return a table of judge, metric, value, low, high, n, note. A judge's first row is its verdict, `passed`."""
        return self._own(f"SELECT judge, {', '.join(AUDIT)} FROM judge_audits WHERE experiment_id = ? ORDER BY id")

    def add_labels(self, rows: Any) -> int:
        """Write marks that people gave, all or none. Returns how many were written.

        A row (of a list or a table) holds stage, brief_id, seed, criterion, rater and score (1 to 10). The text it
        speaks of is kept with it, so that no mark is lost, or counted for another text, when a stage is written anew.
        Raises LedgerError where there is no such response.
        """
        values = [label_values(row) for row in records(rows)]
        columns = ("experiment_id", *LABEL, "text", "at")
        with self._transaction() as db:
            found = [(self.experiment_id, *row, self._text_of(row), now()) for row in values]
            db.executemany(
                f"""INSERT INTO human_labels ({", ".join(columns)}) VALUES ({marks(columns)})
                ON CONFLICT DO UPDATE SET score = excluded.score, at = excluded.at""",
                found,
            )
        return len(values)

    def labels(self) -> DataFrame:
        """Return stage, brief_id, seed, criterion, rater, score: the marks of the texts that still stand."""
        return self._own(
            f"""SELECT {", ".join(f"human_labels.{name}" for name in LABEL)}
            FROM human_labels JOIN model_responses USING (experiment_id, stage, brief_id, seed, text)
            WHERE experiment_id = ? ORDER BY human_labels.id"""
        )

    def _text_of(self, label: tuple) -> str:
        key = (self.experiment_id, *label[:3])
        query = "SELECT text FROM model_responses WHERE experiment_id = ? AND stage = ? AND brief_id = ? AND seed = ?"
        found = self._db.execute(query, key).fetchone()
        if found is None:
            where = "stage {}, brief {}, seed {}".format(*label[:3])
            raise LedgerError(f"a label speaks of {where}, and no such text is in the ledger: write that stage first")
        return found[0]

    def _own(self, query: str, *values: Any) -> DataFrame:
        """Return what a query finds of this experiment; its first question mark is the experiment."""
        return self.read(query, self.experiment_id, *values)


def _only(rubrics: Sequence[str]) -> str | None:
    """Return the one rubric of these; None where there is no row."""
    if len(set(rubrics)) > 1:
        raise LedgerError("the verdicts are of several rubrics: write those of one grading at a time")
    return rubrics[0] if rubrics else None
