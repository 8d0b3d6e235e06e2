"""The ledger: one SQLite file, ``runs/centralized.db``, in which every run writes down what it measured.

Judge, plots, report and model card read only this file. Opened by every notebook through ``open_phase``:
``phase.ledger.log_metrics("06_fine_tuning", step=20, values={"loss": 1.2})``. Taught in notebook 05.

One write is one transaction, and a second writer waits for the first, so a run that is killed in the middle
leaves the file readable, with the last whole write in it.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

if TYPE_CHECKING:
    from pandas import DataFrame

SCHEMA_VERSION = 1
WAIT_SECONDS = 60  # how long a writer waits for another one

# `value` may be NULL: a loss that is not a number is a fact to keep, and SQLite stores NaN as NULL.
# The trigger: a verdict speaks of one text, so it goes when that text is written anew.
_SCHEMA = (
    """CREATE TABLE experiments (
        id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, recipe TEXT NOT NULL, profile TEXT NOT NULL,
        settings TEXT NOT NULL, created TEXT NOT NULL, opened TEXT NOT NULL)""",
    """CREATE TABLE training_metrics (
        experiment_id INTEGER NOT NULL REFERENCES experiments(id) ON DELETE CASCADE,
        phase TEXT NOT NULL, step INTEGER NOT NULL, name TEXT NOT NULL, value REAL, at TEXT NOT NULL,
        PRIMARY KEY (experiment_id, phase, step, name))""",
    """CREATE TABLE model_responses (
        id INTEGER PRIMARY KEY,
        experiment_id INTEGER NOT NULL REFERENCES experiments(id) ON DELETE CASCADE,
        stage TEXT NOT NULL, brief_id TEXT NOT NULL, seed INTEGER NOT NULL,
        industry TEXT NOT NULL, tone TEXT NOT NULL, prompt TEXT NOT NULL, text TEXT NOT NULL,
        ok INTEGER NOT NULL CHECK (ok IN (0, 1)), problems TEXT NOT NULL, facts TEXT NOT NULL,
        tokens INTEGER NOT NULL, seconds REAL NOT NULL, stopped INTEGER NOT NULL CHECK (stopped IN (0, 1)),
        at TEXT NOT NULL,
        UNIQUE (experiment_id, stage, brief_id, seed))""",
    """CREATE TABLE evaluation_summary (
        id INTEGER PRIMARY KEY,
        experiment_id INTEGER NOT NULL REFERENCES experiments(id) ON DELETE CASCADE,
        stage TEXT NOT NULL, metric TEXT NOT NULL, value REAL, low REAL, high REAL, n INTEGER, note TEXT NOT NULL,
        UNIQUE (experiment_id, stage, metric))""",
    """CREATE TABLE aqi_scores (
        id INTEGER PRIMARY KEY,
        experiment_id INTEGER NOT NULL REFERENCES experiments(id) ON DELETE CASCADE,
        stage TEXT NOT NULL, layer INTEGER NOT NULL, metric TEXT NOT NULL,
        value REAL, low REAL, high REAL, n INTEGER,
        UNIQUE (experiment_id, stage, layer, metric))""",
    """CREATE TABLE judge_verdicts (
        id INTEGER PRIMARY KEY,
        experiment_id INTEGER NOT NULL, judge TEXT NOT NULL,
        stage TEXT NOT NULL, brief_id TEXT NOT NULL, seed INTEGER NOT NULL, criterion TEXT NOT NULL,
        status TEXT NOT NULL CHECK (status IN ('scored', 'unparsable', 'failed')),
        score REAL CHECK ((status = 'scored') = (score IS NOT NULL)), reason TEXT NOT NULL, at TEXT NOT NULL,
        UNIQUE (experiment_id, judge, stage, brief_id, seed, criterion),
        FOREIGN KEY (experiment_id, stage, brief_id, seed)
            REFERENCES model_responses(experiment_id, stage, brief_id, seed) ON DELETE CASCADE)""",
    """CREATE TRIGGER verdicts_of_an_old_text AFTER UPDATE OF text ON model_responses WHEN old.text <> new.text
        BEGIN
            DELETE FROM judge_verdicts WHERE experiment_id = old.experiment_id AND stage = old.stage
                AND brief_id = old.brief_id AND seed = old.seed;
        END""",
)

_RESPONSE = (
    *("brief_id", "seed", "industry", "tone", "prompt", "text"),
    *("ok", "problems", "facts", "tokens", "seconds", "stopped"),
)
_VERDICT = ("stage", "brief_id", "seed", "criterion", "status", "score", "reason")


class LedgerError(RuntimeError):
    """The ledger cannot be opened or a row cannot be written; the text names the remedy."""


class Ledger:
    """The measurements of one experiment (a run's label) in the file all runs share.

    Every method reads and writes this experiment only. Raises LedgerError where `path` was written by a newer
    LekhAI, or is no database.
    """

    def __init__(self, path: Path, *, experiment: str, recipe: str, profile: str, settings: str) -> None:
        self.path, self.experiment = Path(path), experiment
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # isolation_level=None: transactions begin where we say so, and never by themselves.
        self._db = sqlite3.connect(self.path, timeout=WAIT_SECONDS, isolation_level=None)
        try:
            self._prepare()
            self.experiment_id = self._enter(experiment, recipe, profile, settings)
        except sqlite3.DatabaseError as error:
            self._db.close()
            # An OperationalError is a lock, a read-only folder or a full disk: the file itself is whole.
            remedy = _WAIT if isinstance(error, sqlite3.OperationalError) else _MOVE
            raise LedgerError(f"{self.path.name} cannot be used as the ledger: {error}. Remedy: {remedy}.") from error
        except LedgerError:
            self._db.close()
            raise

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file. A closed ledger cannot be used again."""
        self._db.close()

    # --- training

    def log_metrics(self, phase: str, step: int, values: Mapping[str, float]) -> None:
        """Write the figures of one training step, e.g. {"loss": 1.2}. The same step written again replaces them."""
        rows = [(self.experiment_id, phase, int(step), name, float(value), _now()) for name, value in values.items()]
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
        return self._read(
            "SELECT step, name, value FROM training_metrics WHERE experiment_id = ? AND phase = ? ORDER BY step, name",
            phase,
        )

    # --- responses

    def add_responses(self, stage: str, rows: Sequence[Mapping[str, Any]]) -> int:
        """Write what the model of one stage answered, all rows or none. Returns how many rows were written.

        A row holds brief_id, seed, industry, tone, prompt, text, ok, problems (list), facts (dict), tokens,
        seconds and stopped. The same stage, brief and seed written again replaces the row.
        """
        values = [(self.experiment_id, stage, *_response_values(row), _now()) for row in rows]
        columns = ("experiment_id", "stage", *_RESPONSE, "at")
        changes = ", ".join(f"{name} = excluded.{name}" for name in columns[4:])
        self._write(
            f"""INSERT INTO model_responses ({", ".join(columns)}) VALUES ({", ".join("?" * len(columns))})
            ON CONFLICT DO UPDATE SET {changes}""",
            values,
        )
        return len(values)

    def clear_stage(self, stage: str) -> None:
        """Forget the responses, verdicts and summary of a stage that is written anew with other briefs or seeds."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            for table in ("model_responses", "evaluation_summary"):  # verdicts go with their responses
                self._db.execute(f"DELETE FROM {table} WHERE experiment_id = ? AND stage = ?", self._key(stage))

    def responses(self, stage: str | None = None) -> DataFrame:
        """Return the responses of one stage, or of all, one row each, in the order first written.

        `ok` and `stopped` are True or False, `problems` a list, `facts` a dict.
        """
        where, values = ("AND stage = ?", (stage,)) if stage is not None else ("", ())
        table = self._read(
            f"""SELECT stage, {", ".join(_RESPONSE)}, at FROM model_responses
            WHERE experiment_id = ? {where} ORDER BY id""",
            *values,
        )
        for name in ("problems", "facts"):
            table[name] = table[name].map(json.loads).astype(object)
        return table.astype({"ok": bool, "stopped": bool})

    def stages(self) -> list[str]:
        """Return the stages that have responses, in the order first written."""
        query = "SELECT stage FROM model_responses WHERE experiment_id = ? GROUP BY stage ORDER BY MIN(id)"
        return [stage for (stage,) in self._db.execute(query, (self.experiment_id,))]

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
        figures = [(*self._key(stage), metric, *_floats(value, low, high), _int(n), note)]
        self._write(
            """INSERT INTO evaluation_summary (experiment_id, stage, metric, value, low, high, n, note)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
            value = excluded.value, low = excluded.low, high = excluded.high, n = excluded.n, note = excluded.note""",
            figures,
        )

    def summary(self) -> DataFrame:
        """Return a table of stage, metric, value, low, high, n, note, in the order first written."""
        return self._read(
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
            [(*self._key(stage), int(layer), metric, *_floats(value, low, high), _int(n))],
        )

    def aqi(self) -> DataFrame:
        """Return a table of stage, layer, metric, value, low, high, n, in the order first written."""
        return self._read(
            "SELECT stage, layer, metric, value, low, high, n FROM aqi_scores WHERE experiment_id = ? ORDER BY id"
        )

    def add_verdicts(self, judge: str, rows: Sequence[Mapping[str, Any]]) -> int:
        """Write what a judge said, all rows or none. Returns how many rows were written.

        A row holds stage, brief_id, seed, criterion, status (scored, unparsable or failed), score (None unless
        scored) and reason. Raises LedgerError where the response it speaks of is not in the ledger.
        """
        values = [(self.experiment_id, judge, *_verdict_values(row), _now()) for row in rows]
        try:
            self._write(
                f"""INSERT INTO judge_verdicts (experiment_id, judge, {", ".join(_VERDICT)}, at)
                VALUES ({", ".join("?" * (len(_VERDICT) + 3))}) ON CONFLICT DO UPDATE SET
                status = excluded.status, score = excluded.score, reason = excluded.reason, at = excluded.at""",
                values,
            )
        except sqlite3.IntegrityError as error:
            raise LedgerError(
                f"the verdicts of {judge} cannot be written: {error}. Each must speak of a response that is in the "
                "ledger (add_responses first), and has a score exactly if its status is 'scored'."
            ) from error
        return len(values)

    def verdicts(self) -> DataFrame:
        """Return a table of judge, stage, brief_id, seed, criterion, status, score, reason."""
        query = f"SELECT judge, {', '.join(_VERDICT)} FROM judge_verdicts WHERE experiment_id = ? ORDER BY id"
        return self._read(query)

    # --- within

    def _prepare(self) -> None:
        """Check the schema's version, or make the tables in a new file."""
        self._db.execute("PRAGMA foreign_keys = ON")
        version = self._version()
        if version > SCHEMA_VERSION:
            raise LedgerError(
                f"{self.path.name} was written by a newer LekhAI (schema {version}; this one knows {SCHEMA_VERSION}). "
                f"Remedy: update LekhAI, or {_MOVE}."
            )
        if version == 0:
            # Of two processes that switch a new file to WAL, SQLite refuses one at once without waiting.
            with FileLock(self.path.with_name(f".{self.path.name}.lock"), timeout=WAIT_SECONDS):
                self._make_tables()

    def _make_tables(self) -> None:
        if self._version() == SCHEMA_VERSION:  # another process made them while we waited
            return
        self._db.execute("PRAGMA journal_mode = WAL")  # readers do not wait for a writer
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            for statement in _SCHEMA:
                self._db.execute(statement)
            self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def _version(self) -> int:
        return self._db.execute("PRAGMA user_version").fetchone()[0]

    def _enter(self, experiment: str, recipe: str, profile: str, settings: str) -> int:
        self._write(
            """INSERT INTO experiments (name, recipe, profile, settings, created, opened) VALUES (?, ?, ?, ?, ?, ?)
            ON CONFLICT DO UPDATE SET recipe = excluded.recipe, profile = excluded.profile,
            settings = excluded.settings, opened = excluded.opened""",
            [(experiment, recipe, profile, settings, _now(), _now())],
        )
        return self._db.execute("SELECT id FROM experiments WHERE name = ?", (experiment,)).fetchone()[0]

    def _key(self, stage: str) -> tuple[int, str]:
        return self.experiment_id, stage

    def _write(self, statement: str, rows: Iterable[tuple]) -> None:
        """Run one statement for every row, all or none."""
        with self._db:  # commits, or rolls back where a row is refused
            self._db.execute("BEGIN IMMEDIATE")  # takes the write lock now: no deadlock between two writers
            self._db.executemany(statement, rows)

    def _read(self, query: str, *values: Any) -> DataFrame:
        import pandas as pd

        cursor = self._db.execute(query, (self.experiment_id, *values))
        names = [column[0] for column in cursor.description]
        table = pd.DataFrame(cursor.fetchall(), columns=names)
        # A column of NULLs only would be of objects: figures stay figures, so that they can be drawn.
        kinds = {"value": "float", "low": "float", "high": "float", "score": "float", "n": "Int64"}
        return table.astype({name: kind for name, kind in kinds.items() if name in names})


_MOVE = "move the file away (a new one is made), or set LEKHAI_RUNS to another folder"
_WAIT = "let other runs finish, check that its folder can be written and has space, and run again"


def _response_values(row: Mapping[str, Any]) -> tuple:
    _check_keys(row, _RESPONSE, "a response")
    return (
        str(row["brief_id"]),
        int(row["seed"]),
        *(str(row[name]) for name in ("industry", "tone", "prompt", "text")),
        int(bool(row["ok"])),
        json.dumps(list(row["problems"]), ensure_ascii=False),
        json.dumps(dict(row["facts"]), ensure_ascii=False),
        int(row["tokens"]),
        float(row["seconds"]),
        int(bool(row["stopped"])),
    )


def _verdict_values(row: Mapping[str, Any]) -> tuple:
    _check_keys(row, _VERDICT, "a verdict")
    key = (str(row["stage"]), str(row["brief_id"]), int(row["seed"]), str(row["criterion"]))
    return (*key, str(row["status"]), *_floats(row["score"]), str(row["reason"]))


def _check_keys(row: Mapping[str, Any], needed: Sequence[str], what: str) -> None:
    missing = [name for name in needed if name not in row]
    if missing:
        raise LedgerError(f"{what} lacks {', '.join(missing)}; it has {', '.join(map(str, row)) or 'nothing'}")


def _floats(*values: float | None) -> tuple[float | None, ...]:
    return tuple(None if value is None else float(value) for value in values)


def _int(value: int | None) -> int | None:
    return None if value is None else int(value)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
