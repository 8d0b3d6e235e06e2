"""The tables of the ledger, version by version. Read by `core.ledger_file`, which makes and upgrades the file.

A version is never edited once a ledger was written with it: what changes is a further entry of MIGRATIONS. A new file
goes through all of them, so that it has the same tables as one that was upgraded.
"""

from __future__ import annotations

from collections.abc import Iterable

# `value` may be NULL: a loss that is not a number is a fact to keep, and SQLite stores NaN as NULL.
# The trigger: a verdict speaks of one text, so it goes when that text is written anew.
_FIRST = (
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

# A person's mark keeps the text it was given to: hours of reading must not go when a stage is written anew.
# The index: the UNIQUE above has the judge in its middle, so it cannot serve the foreign key and the trigger.
_SECOND = (
    """CREATE TABLE judge_audits (
        id INTEGER PRIMARY KEY,
        experiment_id INTEGER NOT NULL REFERENCES experiments(id) ON DELETE CASCADE,
        judge TEXT NOT NULL, metric TEXT NOT NULL,
        value REAL, low REAL, high REAL, n INTEGER, note TEXT NOT NULL, at TEXT NOT NULL,
        UNIQUE (experiment_id, judge, metric))""",
    """CREATE TABLE human_labels (
        id INTEGER PRIMARY KEY,
        experiment_id INTEGER NOT NULL REFERENCES experiments(id) ON DELETE CASCADE,
        stage TEXT NOT NULL, brief_id TEXT NOT NULL, seed INTEGER NOT NULL, text TEXT NOT NULL,
        criterion TEXT NOT NULL, rater TEXT NOT NULL,
        score REAL NOT NULL CHECK (score BETWEEN 1 AND 10), at TEXT NOT NULL,
        UNIQUE (experiment_id, stage, brief_id, seed, criterion, rater, text))""",
    """CREATE INDEX verdicts_by_response ON judge_verdicts (experiment_id, stage, brief_id, seed)""",
)

# What a judge was asked: marks by other words are not to be mixed. Of the verdicts that are there nobody knows it.
_THIRD = ("ALTER TABLE judge_verdicts ADD COLUMN rubric TEXT NOT NULL DEFAULT ''",)

# The statements that lead from the version before to this one.
MIGRATIONS: dict[int, Iterable[str]] = {1: _FIRST, 2: _SECOND, 3: _THIRD}
SCHEMA_VERSION = max(MIGRATIONS)
TABLES = (
    *("experiments", "training_metrics", "model_responses", "evaluation_summary", "aqi_scores"),
    *("judge_verdicts", "judge_audits", "human_labels"),
)
