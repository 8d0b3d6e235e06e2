"""The contract of the tutor's three tasks: an explanation in words, a judgement as JSON, a learning path as JSON.

Called as ``get_contract("tutor_json")``. `expected` is {"task": "tutoring" | "classification" | "path"}, with the right
``answer`` beside it where there is one; without it a text that begins like JSON is held to be JSON.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from numbers import Real
from typing import TYPE_CHECKING, Any

from lekhai_helpers.core.bengali import words
from lekhai_helpers.prepare.contracts.base import Contract, Verdict, expected_of
from lekhai_helpers.prepare.contracts.prose import PROSE_DEFECTS, prose_problems, repeated_sentences, sentences
from lekhai_helpers.prepare.model_json import NoJson, read_json
from lekhai_helpers.prepare.readability import readability

if TYPE_CHECKING:
    import pandas as pd

    from lekhai_helpers.prepare.dataset import Brief

TASKS = ("tutoring", "classification", "path")
LABELS = ("lecture", "explanation", "exercise", "story", "off_topic")
SCORES = ("engagement_score", "educational_value")
LOWEST, HIGHEST = 1, 10
NEAR = 2  # points by which a score may differ and still count as near: the labels are one writer's opinion
MOST_STEPS = 12
FEWEST_WORDS, MOST_WORDS = 20, 400
_SCORE = {"type": "integer", "minimum": LOWEST, "maximum": HIGHEST}
_WORDS = {"type": "string", "pattern": r"\w"}
CLASSIFICATION: Mapping[str, Any] = {
    "type": "object",
    "properties": {"classification": {"enum": list(LABELS)}} | dict.fromkeys(SCORES, _SCORE),
    "required": ["classification", *SCORES],
    "additionalProperties": False,
}
PATH: Mapping[str, Any] = {
    "type": "array",
    "minItems": 1,
    "maxItems": MOST_STEPS,
    "items": {
        "type": "object",
        "properties": {
            "level": {"type": "integer", "minimum": 1},
            "title": _WORDS,
            "goal": _WORDS,
            "minutes": {"type": "integer", "minimum": 1},
        },
        "required": ["level", "title", "goal", "minutes"],
        "additionalProperties": False,
    },
}
_SCHEMAS = {"classification": CLASSIFICATION, "path": PATH}


def task_of(text: str) -> str:
    """Return the task that a text looks like an answer to."""
    start = text.lstrip()[:1]
    return {"{": "classification", "[": "path"}.get(start, "tutoring")


def check(text: str, expected: Any = None) -> Verdict:
    """Return the verdict on one answer. Facts: ``words``; of explanations ``reading_ease`` and ``grade``; of paths
    ``rows``, the steps.
    """
    task = expected["task"] if isinstance(expected, Mapping) else task_of(text)
    return _check_prose(text) if task == "tutoring" else _check_json(text, task)


def _check_prose(text: str) -> Verdict:
    count, easy = len(words(text)), readability(text)
    problems = prose_problems(text)
    if task_of(text) != "tutoring":
        problems.append("an explanation is asked for, not JSON")
    if text.strip() and not FEWEST_WORDS <= count <= MOST_WORDS:
        problems.append(f"{count} word(s); an explanation has {FEWEST_WORDS} to {MOST_WORDS}")
    facts: dict[str, Any] = {"words": count, "repeated_rows": len(repeated_sentences(text))}
    if easy:
        facts |= {"reading_ease": easy.ease, "grade": easy.grade}
    return Verdict(not problems, problems, facts)


def _check_json(text: str, task: str) -> Verdict:
    import jsonschema

    facts: dict[str, Any] = {"words": len(words(text))}
    try:
        found = read_json(text)
    except NoJson as error:
        problem = "the JSON stands in a code fence" if text.lstrip().startswith("```") else f"no JSON: {error}"
        return Verdict(False, [problem], facts)
    errors = jsonschema.Draft202012Validator(_SCHEMAS[task]).iter_errors(found)
    problems = [_in_words(error) for error in sorted(errors, key=lambda error: list(map(str, error.path)))]
    if task == "path" and isinstance(found, list):
        facts["rows"] = len(found)
        problems = problems or _order_problems(found)
    return Verdict(not problems, problems, facts)


def _in_words(error: Any) -> str:
    """Say what is wrong and where; a long list or object, which the message would quote whole, is called "it"."""
    where, quoted = ".".join(str(part) for part in error.path), repr(error.instance)
    said = "there are no words in it" if error.validator == "pattern" else error.message
    message = said if len(quoted) <= 40 else said.replace(quoted, "it", 1)
    return f"{where}: {message}" if where else message


def _order_problems(steps: list[dict[str, Any]]) -> list[str]:
    levels = [step["level"] for step in steps]
    wanted = list(range(1, len(levels) + 1))
    return [] if levels == wanted else [f"the levels run {levels}, not 1 to {len(levels)} in order"]


def count(text: str, brief: Brief) -> dict[str, float | bool | None]:
    """Return what code counts, None where a task has nothing of the kind: the form; label and scores against the right
    ones; whether an explanation reads plainly and ends in a question back.
    """
    expected = expected_of(brief.expected) or {"task": task_of(text)}
    kept = check(text, expected).ok
    judged = _json_or_none(text) if expected["task"] == "classification" else None
    answer = expected.get("answer") or {}
    explains = expected["task"] == "tutoring"
    easy = readability(text) if explains else None
    return {
        "right_form": kept,
        "right_label": _label_right(judged, answer) if answer else None,
        "near_scores": _scores_near(judged, answer) if answer else None,
        "reads_plainly": easy.plain if easy else None,
        "asks_back": "?" in "".join(sentences(text)[-2:]) if explains else None,
    }


def _json_or_none(text: str) -> Any:
    try:
        return read_json(text)
    except NoJson:
        return None


def _label_right(judged: Any, answer: Mapping[str, Any]) -> bool:
    return isinstance(judged, Mapping) and judged.get("classification") == answer["classification"]


def _scores_near(judged: Any, answer: Mapping[str, Any]) -> float:
    """Return the share of the two scores that lie within `NEAR` points of the right ones; no JSON, no score."""
    if not isinstance(judged, Mapping):
        return 0.0
    given = [(judged.get(name), answer[name]) for name in SCORES]
    return sum(_is_number(own) and abs(own - right) <= NEAR for own, right in given) / len(SCORES)


def _is_number(found: Any) -> bool:
    return isinstance(found, Real) and not isinstance(found, bool)  # 7.0 is 7 to the schema, True no number


def show(text: str) -> pd.DataFrame | str:
    """Return a path as a table of its steps, a judgement as a table of one row, an explanation as it is."""
    import pandas as pd

    found = _json_or_none(text)
    if isinstance(found, list) and all(isinstance(step, Mapping) for step in found):
        return pd.DataFrame(found)
    return pd.DataFrame([found]) if isinstance(found, Mapping) else text


def _spoil_json(text: str, spoil: Callable[[Any], list[Any]]) -> list[str]:
    found = _json_or_none(text) if task_of(text) != "tutoring" else None
    return [json.dumps(version, ensure_ascii=False) for version in spoil(found)] if found else []


def _score_out_of_range(found: Any) -> list[Any]:
    return [found | {name: HIGHEST * 10} for name in SCORES if name in found] if isinstance(found, dict) else []


def _unknown_label(found: Any) -> list[Any]:
    return [found | {"classification": "educational"}] if isinstance(found, dict) else []


def _steps_swapped(found: Any) -> list[Any]:
    if not isinstance(found, list):
        return []
    return [[*found[:n], found[n + 1], found[n], *found[n + 2 :]] for n in range(len(found) - 1)]


def _goal_lost(found: Any) -> list[Any]:
    if not isinstance(found, list):
        return []
    bare = [{name: value for name, value in step.items() if name != "goal"} for step in found]
    return [[*found[:n], bare[n], *found[n + 1 :]] for n in range(len(found))]


def _bracket_lost(text: str) -> list[str]:
    return [text.rstrip()[:-1]] if task_of(text) != "tutoring" else []


def _only_prose(spoil: Callable[[str], list[str]]) -> Callable[[str], list[str]]:
    return lambda text: spoil(text) if task_of(text) == "tutoring" else []


DEFECTS: Mapping[str, Callable[[str], list[str]]] = {
    "the last bracket is missing": _bracket_lost,
    "a score is out of range": lambda text: _spoil_json(text, _score_out_of_range),
    "the label is unknown": lambda text: _spoil_json(text, _unknown_label),
    "two steps are swapped": lambda text: _spoil_json(text, _steps_swapped),
    "a step has no goal": lambda text: _spoil_json(text, _goal_lost),
    **{name: _only_prose(spoil) for name, spoil in PROSE_DEFECTS.items()},
}

CONTRACT = Contract(
    name="tutor_json",
    check=check,
    one="an answer of the right form",
    many="answers of the right form",
    show=show,
    count=count,
    defects=DEFECTS,
    right="right_label",
    rule=f"A judgement is JSON with one of {len(LABELS)} labels and two scores from {LOWEST} to {HIGHEST}; a learning "
    "path is a JSON list of steps from level 1 on; an explanation is running text.",
)
