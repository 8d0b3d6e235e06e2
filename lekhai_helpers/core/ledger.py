"""The ledger: one SQLite file, ``runs/centralized.db``, in which every run writes down what it measured.

Judge, plots, report and model card read only this file. Opened by every notebook through ``open_phase``:
``phase.ledger.log_metrics("06_fine_tuning", step=20, values={"loss": 1.2})``. Taught in notebook 05. The file itself
is the matter of `core.ledger_file`, questions over all runs that of `core.ledger_queries`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lekhai_helpers.core.ledger_file import WAIT_SECONDS, LedgerError
from lekhai_helpers.core.ledger_judges import JudgeTables
from lekhai_helpers.core.ledger_rows import RESPONSE, floats, marks, now, response_values, whole
from lekhai_helpers.core.ledger_schema import SCHEMA_VERSION

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["SCHEMA_VERSION", "WAIT_SECONDS", "Ledger", "LedgerError"]


class Ledger(JudgeTables):
    """The measurements of one experiment (a run's label) in the file all runs share; see `JudgeTables` for judges'.

    Every method reads and writes this experiment only. Raises LedgerError as `LedgerFile` does, on opening and on
    every write.
    """

    def __init__(
        self, path: Path, *, experiment: str, recipe: str, profile: str, settings: str, wait: float = WAIT_SECONDS
    ) -> None:
        super().__init__(path, wait=wait)
        self.experiment = experiment
        try:
            self.experiment_id = self._enter(experiment, recipe, profile, settings)
        except LedgerError:
            self.close()
            raise

    # --- training

    def log_metrics(self, phase: str, step: int, values: Mapping[str, float]) -> None:
        """Write the figures of one training step, e.g. {"loss": 1.2}. The same step written again replaces them."""
        rows = [(self.experiment_id, phase, int(step), name, float(value), now()) for name, value in values.items()]
        self._write(
            """INSERT INTO training_metrics (experiment_id, phase, step, name, value, at) VALUES (?, ?, ?, ?, ?, ?)
            ON CONFLICT DO UPDATE SET value = excluded.value, at = excluded.at""",
            rows,
        )

    def clear_metrics(self, phase: str) -> None:
        """Forget the figures of a phase that starts again, so that no step of an earlier try is mixed in."""
        self._write("DELETE FROM training_metrics WHERE experiment_id = ? AND phase = ?", [(self.experiment_id, phase)])

    def metrics(self, phase: str) -> DataFrame:
        """Return a table of step, name, value, in the order of steps."""
        return self._own(
            "SELECT step, name, value FROM training_metrics WHERE experiment_id = ? AND phase = ? ORDER BY step, name",
            phase,
        )

    # --- responses

    def add_responses(self, stage: str, rows: Sequence[Mapping[str, Any]]) -> int:
        """Write what the model of one stage answered, all rows or none. Returns how many rows were written.

        A row holds brief_id, seed, industry, tone, prompt, text, ok, problems (list), facts (dict), tokens,
        seconds and stopped. The same stage, brief and seed written again replaces the row.
        """
        values = [(self.experiment_id, stage, *response_values(row), now()) for row in rows]
        columns = ("experiment_id", "stage", *RESPONSE, "at")
        changes = ", ".join(f"{name} = excluded.{name}" for name in columns[4:])
        self._write(
            f"""INSERT INTO model_responses ({", ".join(columns)}) VALUES ({marks(columns)})
            ON CONFLICT DO UPDATE SET {changes}""",
            values,
        )
        return len(values)

    def clear_stage(self, stage: str) -> None:
        """Forget the responses, verdicts and summary of a stage that is written anew with other briefs or seeds.

        Marks that people gave are kept, with the text they were given to.
        """
        with self._transaction() as db:
            for table in ("model_responses", "evaluation_summary"):  # verdicts go with their responses
                db.execute(f"DELETE FROM {table} WHERE experiment_id = ? AND stage = ?", self._key(stage))

    def responses(self, stage: str | None = None) -> DataFrame:
        """Return the responses of one stage, or of all, one row each, in the order first written.

        `ok` and `stopped` are True or False, `problems` a list, `facts` a dict.
        """
        where, values = ("AND stage = ?", (stage,)) if stage is not None else ("", ())
        table = self._own(
            f"""SELECT stage, {", ".join(RESPONSE)}, at FROM model_responses
            WHERE experiment_id = ? {where} ORDER BY id""",
            *values,
        )
        for name in ("problems", "facts"):
            table[name] = table[name].map(json.loads).astype(object)
        return table.astype({"ok": bool, "stopped": bool})

    def stages(self) -> list[str]:
        """Return the stages that have responses, in the order first written."""
        query = "SELECT stage FROM model_responses WHERE experiment_id = ? GROUP BY stage ORDER BY MIN(id)"
        return self._own(query)["stage"].tolist()

    # --- what was found

    def summarize(
        self,
        stage: str,
        metric: str,
        value: float | None,
        low: float | None = None,
        high: float | None = None,
        n: int | None = None,
        note: str = "",
    ) -> None:
        """Write one figure of a stage with its interval (low to high) and what it was counted on (n)."""
        figures = [(*self._key(stage), metric, *floats(value, low, high), whole(n), note)]
        self._write(
            """INSERT INTO evaluation_summary (experiment_id, stage, metric, value, low, high, n, note)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
            value = excluded.value, low = excluded.low, high = excluded.high, n = excluded.n, note = excluded.note""",
            figures,
        )

    def clear_figures(self, beginning: str) -> None:
        """Forget the summary's figures whose names begin so, in all stages."""
        self._write(
            "DELETE FROM evaluation_summary WHERE experiment_id = ? AND substr(metric, 1, ?) = ?",
            [(self.experiment_id, len(beginning), beginning)],
        )

    def summary(self) -> DataFrame:
        """Return a table of stage, metric, value, low, high, n, note, in the order first written."""
        return self._own(
            """SELECT stage, metric, value, low, high, n, note FROM evaluation_summary
            WHERE experiment_id = ? ORDER BY id"""
        )

    def add_aqi(
        self,
        stage: str,
        layer: int,
        metric: str,
        value: float | None,
        low: float | None = None,
        high: float | None = None,
        n: int | None = None,
    ) -> None:
        """Write one alignment-quality figure of one layer of a stage's model, with its interval."""
        self._write(
            """INSERT INTO aqi_scores (experiment_id, stage, layer, metric, value, low, high, n)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
            value = excluded.value, low = excluded.low, high = excluded.high, n = excluded.n""",
            [(*self._key(stage), int(layer), metric, *floats(value, low, high), whole(n))],
        )

    def clear_aqi(self) -> None:
        """Forget the alignment-quality figures, so that a phase that starts again mixes in none of an earlier try."""
        self._write("DELETE FROM aqi_scores WHERE experiment_id = ?", [(self.experiment_id,)])

    def aqi(self) -> DataFrame:
        """Return a table of stage, layer, metric, value, low, high, n, in the order first written."""
        return self._own(
            "SELECT stage, layer, metric, value, low, high, n FROM aqi_scores WHERE experiment_id = ? ORDER BY id"
        )

    # --- within

    def _enter(self, experiment: str, recipe: str, profile: str, settings: str) -> int:
        self._write(
            """INSERT INTO experiments (name, recipe, profile, settings, created, opened) VALUES (?, ?, ?, ?, ?, ?)
            ON CONFLICT DO UPDATE SET recipe = excluded.recipe, profile = excluded.profile,
            settings = excluded.settings, opened = excluded.opened""",
            [(experiment, recipe, profile, settings, now(), now())],
        )
        return self._db.execute("SELECT id FROM experiments WHERE name = ?", (experiment,)).fetchone()[0]

    def _key(self, stage: str) -> tuple[int, str]:
        return self.experiment_id, stage
