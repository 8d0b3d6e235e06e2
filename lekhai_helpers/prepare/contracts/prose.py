"""What is wrong with running text, whatever it says, and how it can be spoilt: shared by the contracts of prose."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

import regex

from lekhai_helpers.core.bengali import words

_DEBRIS = regex.compile(
    r"<\|[a-z_]+\|>|</?s>|\[/?INST\]|<(?:start|end)_of_turn>|<bos>|<eos>|^(?:user|assistant|system)\s*:"
    r"|^### (?:Request|Answer|Instruction|Input|Question|Reply|Response):",
    regex.IGNORECASE | regex.MULTILINE,
)
_PROGRAM = regex.compile(
    r"\bas an? (?:AI|artificial intelligence|(?:large )?language model|AI (?:language )?model)\b"
    r"|\bI(?: a|['’])m (?:just |only )?an? (?:AI|(?:large )?language model|chatbot)\b",
    regex.IGNORECASE,
)
_SENTENCE = regex.compile(r"(?<=[.!?।][\"'”’)]{0,2})\s+")
_LOOP_WORDS = 6  # shorter sentences may well come twice: "So be it."
# One to five words, five times and more in a row: "blue blue blue blue blue". Figures may be: 10, 10, 10, 10, 10.
_LOOP = regex.compile(r"(?<!\S)(\S*\p{L}\S*+(?: \S++){0,4}?)(?: \1){4,}(?!\S)")
DISCLAIMER = "As an AI language model, I have no opinions of my own, but here is an answer."


def sentences(text: str) -> list[str]:
    """Return the sentences of a text, in English or Bengali."""
    return [part.strip() for part in _SENTENCE.split(text) if part.strip()]


def prose_problems(text: str) -> list[str]:
    """Return what no answer may hold: nothing at all, a template's marks, a program's disclaimer, a loop."""
    if not words(text):
        return ["there is no text"]
    problems = []
    if found := _DEBRIS.search(text):
        problems.append(f"the marks of a chat template stand in it: {found.group().strip()}")
    if found := _PROGRAM.search(text):
        problems.append(f"it speaks as a program: {found.group()}")
    if repeated := repeated_sentences(text):
        problems.append(f"it goes round in circles: “{repeated[0][:80]}” stands there more than once")
    elif loop := _LOOP.search(" ".join(words(text.casefold()))):
        problems.append(f"it goes round in circles: “{loop.group(1)[:80]}” is said over and over")
    return problems


def repeated_sentences(text: str) -> list[str]:
    """Return the sentences of six words or more that stand in a text more than once."""
    folded = Counter(" ".join(words(sentence.casefold())) for sentence in sentences(text))
    return [sentence for sentence, times in folded.items() if times > 1 and len(sentence.split()) >= _LOOP_WORDS]


def repeat_a_sentence(text: str) -> list[str]:
    """Return every version in which a sentence stands again where the next one should be."""
    parts = sentences(text)
    return [
        " ".join([*parts[: n + 1], parts[n], *parts[n + 2 :]])
        for n in range(len(parts) - 1)
        if len(words(parts[n])) >= _LOOP_WORDS
    ]


def lose_the_ending(text: str) -> list[str]:
    """Return the text cut off in the middle of its last sentence."""
    parts = sentences(text)
    last = parts[-1].split() if parts else []
    return [" ".join([*parts[:-1], *last[: len(last) // 2]])] if len(last) > 3 else []


def add_a_disclaimer(text: str) -> list[str]:
    """Return the text with its first sentence made a program's disclaimer."""
    parts = sentences(text)
    return [" ".join([DISCLAIMER, *parts[1:]])] if parts else []


PROSE_DEFECTS: Mapping[str, Callable[[str], list[str]]] = {
    "a sentence is repeated": repeat_a_sentence,
    "the ending is missing": lose_the_ending,
    "it speaks as a program": add_a_disclaimer,
}
