"""The contract of a voice: running text in a person's own words. Called as ``get_contract("persona")``.

What makes a voice that person's, no code can say (a style test measures it); the contract only rules out what no
person says: a program's disclaimer, the marks of a template, the same sentence again, a list in place of speech.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import regex

from lekhai_helpers.core.bengali import words
from lekhai_helpers.prepare.contracts.base import Contract, Verdict
from lekhai_helpers.prepare.contracts.prose import PROSE_DEFECTS, prose_problems, repeated_sentences, sentences

if TYPE_CHECKING:
    from lekhai_helpers.prepare.dataset import Brief

FEWEST_WORDS, MOST_WORDS = 3, 800
_LISTED = regex.compile(r"^\s*(?:[-*•]|\d+[.)])\s", regex.MULTILINE)
_FIRST_PERSON = regex.compile(r"\b(?:I|I'[a-z]+|me|my|mine|we|us|our)\b|(?<!\p{L})(?:আমি|আমার|আমাকে|আমরা|আমাদের)(?!\p{L})")
_ENDED = regex.compile(r"[.!?।…][\"'”’)\]]*\s*$")


def check(text: str, expected: Any = None) -> Verdict:
    """Return the verdict on one text; `expected` is not used, a voice has no right answer.

    Facts: ``words``, ``sentences``, ``repeated_rows`` (sentences that stand there more than once).
    """
    count = len(words(text))
    problems = prose_problems(text)
    if text.strip() and not FEWEST_WORDS <= count <= MOST_WORDS:
        problems.append(f"{count} word(s); a person's answer has {FEWEST_WORDS} to {MOST_WORDS}")
    lines = [line for line in text.split("\n") if line.strip()]
    if len(_LISTED.findall(text)) * 2 > len(lines) > 1:
        problems.append("it is a list, not speech")
    facts = {"words": count, "sentences": len(sentences(text)), "repeated_rows": len(repeated_sentences(text))}
    return Verdict(not problems, problems, facts)


def count(text: str, brief: Brief) -> dict[str, float | bool | None]:
    """Return what code counts of a voice: the contract; does somebody speak of himself, and come to an end?"""
    return {
        "in_plain_speech": check(text).ok,
        "first_person": bool(_FIRST_PERSON.search(text)),
        "ends_whole": bool(_ENDED.search(text)),
        "no_repeated_sentence": not repeated_sentences(text),
    }


CONTRACT = Contract(
    name="persona",
    check=check,
    one="an answer in plain speech",
    many="answers in plain speech",
    show=str,
    count=count,
    defects=PROSE_DEFECTS,
    rule="An answer in plain speech has no list, no disclaimer of a program, no mark of a template and no sentence "
    "twice; whose voice it is, code cannot say.",
)
