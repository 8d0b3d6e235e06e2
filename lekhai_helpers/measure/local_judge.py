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

from lekhai_helpers.measure.judge_client import Judge
from lekhai_helpers.measure.judge_forms import Form, Message, Wording

CONTEXT = 4096  # tokens: the examples, a brief, two scripts of a 60-second film, the answer
MAX_TOKENS = 160  # five criteria at about 12 tokens each, and room
TIMEOUT = 600.0  # seconds; a processor reads some hundred tokens a second, a slow one some ten

_GRADING = """You grade Bengali advertising scripts. Give each criterion a whole number from 1 (bad) to 10 (very good):
{rubric}
Use the whole scale. Answer with JSON only."""
_COMPARING = """Two Bengali advertising scripts answer the same brief. Which is better: does it meet the brief, is the \
table whole, does the tone fit, is the Bengali natural? Which stands first means nothing, and longer is not better. \
Answer with JSON only: A, B or tie."""

_BRIEF = "টিপটিপ ছাতা নিয়ে ১৫ সেকেন্ডের একটি প্রাণবন্ত বিজ্ঞাপন লিখুন।"
_GOOD = """| Visual | Audio |
|---|---|
| ওয়াইড শট: হঠাৎ বৃষ্টি, বাসস্টপে সবাই ছুটছে। | SFX: মেঘের গর্জন। মেয়ে: দৌড়! |
| মিড শট: একজন ছাতা মেলে নাচের ভঙ্গিতে হাঁটে। | জিঙ্গেল: নামুক যত টিপটিপ, আমার মাথায় টিপটিপ! |
| ক্লোজ-আপ: ছাতা ঘোরে, ফোঁটা ছিটকে যায়। | ছেলে: ভিজলাম তো আমি! |
| প্যাকশট: রঙিন টিপটিপ ছাতা। | ভিও: টিপটিপ ছাতা। বৃষ্টিকে বলুন, আসুক। |"""
_DULL = """| Visual | Audio |
|---|---|
| একটি ছাতা দেখা যায়। | ভিও: এটি একটি ভালো ছাতা। |
| একজন মানুষ ছাতা ধরে আছে। | ভিও: ছাতার মান ভালো। |
| ছাতা দেখা যায়। | ভিও: টিপটিপ ছাতা। কিনুন। |"""
_BROKEN = """Here is the script: umbrella umbrella
| ছাতা | ছাতা | ছাতা |
ছাতা ছাতা ছাতা"""
# What each of the three is worth; a criterion that is not here gets the script's first number.
_MARKS: dict[str, dict[str, int]] = {
    _GOOD: {"fluency": 9, "structure": 9, "tone": 9, "adherence": 10, "idea": 8},
    _DULL: {"fluency": 7, "structure": 4, "tone": 2, "adherence": 6, "idea": 2},
    _BROKEN: {"fluency": 1, "structure": 1, "tone": 1, "adherence": 2, "idea": 1},
}


@dataclass
class LocalJudge(Judge):
    """A judge on llama.cpp's server. It gives numbers without reasons: those of so small a model explain nothing."""

    def _form(self, form: Form) -> Form:
        return dataclasses.replace(form, schema=_without_reasons(form.schema))


def local_judge(
    address: str, model: str, weights: str, criteria: Mapping[str, str], cache: Path | None = None
) -> LocalJudge:
    """Return the judge behind llama.cpp's server at `address` (``http://127.0.0.1:8080``, with or without /v1).

    `model` is the name that ledger and report show; `weights`, the served file's sum or name, stands in the cache for
    the address, whose port is another one each time; `criteria` are those it will grade by: the examples show them.
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
        wording=local_wording(criteria),
    )


def local_wording(criteria: Mapping[str, str]) -> Wording:
    """Return short questions with examples: a good, a dull and a broken script; each side better once, and a tie."""
    graded = [_example({"brief": _BRIEF, "script": text}, _marks(text, criteria)) for text in (_GOOD, _BROKEN, _DULL)]
    compared = [
        _example({"brief": _BRIEF, "script A": first, "script B": second}, {"better": better})
        for first, second, better in ((_GOOD, _BROKEN, "A"), (_DULL, _GOOD, "B"), (_DULL, _DULL, "tie"))
    ]
    return Wording(
        _GRADING, _COMPARING, tuple(m for pair in graded for m in pair), tuple(m for pair in compared for m in pair)
    )


def _marks(text: str, criteria: Mapping[str, str]) -> dict[str, dict[str, int]]:
    known = _MARKS[text]
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
