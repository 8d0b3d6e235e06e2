"""A small language model on this machine as a judge: the same client, with short words and examples.

``with LlamaServer(full_paths()[0], context=CONTEXT, slots=1) as server: judge = local_judge(server.address, ...)``.
The whole path of an LLM as a judge runs for real without a key; how little so small a model can judge, its audit
says. Taught in notebook 11.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lekhai_helpers.core.recipe import Judge as JudgeSettings
from lekhai_helpers.measure.audit_figures import AuditPair
from lekhai_helpers.measure.judge_client import Judge
from lekhai_helpers.measure.judge_forms import Form, Message, Wording

CONTEXT = 4096  # tokens: the examples, a brief, two scripts of a 60-second film, the answer
MAX_TOKENS = 160  # five criteria at about 12 tokens each, and room
TIMEOUT = 600.0  # seconds; a processor reads some hundred tokens a second, a slow one some ten

_GRADING = """You grade answers to requests. Give each criterion a whole number from 1 (bad) to 10 (very good):
{rubric}
Use the whole scale. Answer with JSON only."""
_COMPARING = """Two answers to the same brief. Which is better: does it do what was asked, is its form whole, is the \
language natural? Which stands first means nothing, and longer is not better. Answer with JSON only: A, B or tie."""

# What a good, a dull and a broken example are worth; a criterion that is not here gets the first number.
_MARKS: dict[str, dict[str, int]] = {
    "good": {"fluency": 9, "structure": 9, "tone": 9, "adherence": 10, "idea": 8},
    "dull": {"fluency": 7, "structure": 4, "tone": 2, "adherence": 6, "idea": 2},
    "broken": {"fluency": 1, "structure": 1, "tone": 1, "adherence": 2, "idea": 1},
}
# In this order, so that both sides are better once, and one pair is a tie.
_COMPARED = (("good", "broken", "A"), ("dull", "good", "B"), ("dull", "dull", "tie"))


@dataclass
class LocalJudge(Judge):
    """A judge on llama.cpp's server. It gives numbers without reasons: those of so small a model explain nothing."""

    def _form(self, form: Form) -> Form:
        return dataclasses.replace(form, schema=_without_reasons(form.schema))


def local_judge(
    address: str,
    model: str,
    weights: str,
    settings: JudgeSettings,
    cache: Path | None = None,
    pair: AuditPair | None = None,
) -> LocalJudge:
    """Return the judge behind llama.cpp's server at `address` (``http://127.0.0.1:8080``, with or without /v1).

    `model` is the name that ledger and report show; `weights`, the served file's sum or name, stands in the cache for
    the address, whose port is another one each time; `settings` and `pair` are what it is asked with (`local_wording`).
    """
    return LocalJudge(
        model,
        address.rstrip("/").removesuffix("/v1") + "/v1",
        "no-key",
        cache=cache,
        max_retries=0,  # a server on this machine that does not answer is down or out of memory
        timeout=TIMEOUT,
        max_tokens=MAX_TOKENS,
        identity=weights,
        wording=local_wording(settings, pair),
    )


def local_wording(settings: JudgeSettings, pair: AuditPair | None = None) -> Wording:
    """Return short questions with examples: a good, a dull and a broken text; each side better once, and a tie.

    Where the recipe brings no examples, those are made of `pair`, a good text and a spoilt copy of it, which must not
    be in the audit: the judge has been told which side is better. Without either there are no examples.
    """
    own, texts = settings.wording, _texts(settings, pair)
    words = (own.short_grading, own.short_comparing) if own else (_GRADING, _COMPARING)
    if texts is None:
        return Wording(*words)
    brief, by_kind = texts
    graded = [
        _example({"brief": brief, "script": by_kind[kind]}, _marks(kind, settings.criteria))
        for kind in ("good", "broken", "dull")
    ]
    compared = [
        _example({"brief": brief, "script A": by_kind[one], "script B": by_kind[other]}, {"better": better})
        for one, other, better in _COMPARED
    ]
    return Wording(*words, tuple(m for pair in graded for m in pair), tuple(m for pair in compared for m in pair))


def _texts(settings: JudgeSettings, pair: AuditPair | None) -> tuple[str, dict[str, str]] | None:
    """Return the brief of the examples and the texts by kind.

    Of a planted pair the dull one is the spoilt side, the broken one half a text.
    """
    if own := settings.examples:
        return own.brief, {"good": own.good, "dull": own.dull, "broken": own.broken}
    if pair is None:
        return None
    half = pair.better[: len(pair.better) // 2].rstrip()
    return pair.brief.prompt, {"good": pair.better, "dull": pair.worse, "broken": half}


def _marks(kind: str, criteria: Mapping[str, str]) -> dict[str, dict[str, int]]:
    known = _MARKS[kind]
    return {name: {"score": known.get(name, known["fluency"])} for name in criteria}


def _example(material: Mapping[str, str], answer: Mapping[str, Any]) -> tuple[Message, Message]:
    """Return question and answer, written as `judge_forms` writes the real question."""
    return (
        {"role": "user", "content": json.dumps(material, ensure_ascii=False, indent=1)},
        {"role": "assistant", "content": json.dumps(answer, ensure_ascii=False)},
    )


def _without_reasons(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema without its fields named reason, at every depth."""
    if "properties" not in schema:
        return dict(schema)
    kept = {name: _without_reasons(part) for name, part in schema["properties"].items() if name != "reason"}
    return {**schema, "properties": kept, "required": list(kept)}
