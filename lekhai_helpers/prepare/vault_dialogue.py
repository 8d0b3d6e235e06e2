"""A reflection as a conversation of two: what somebody might have asked, and the note as the answer.

``question(note, entry, kind)`` and ``answer(entry)`` are the two sides. The question comes from the note itself: the
one it asks, its title, or, on a page of a diary, the sentence it opens with.
"""

from __future__ import annotations

import datetime
import hashlib

import regex

from lekhai_helpers.core.bengali import bengali_share, words
from lekhai_helpers.prepare.vault_markdown import Note, plain
from lekhai_helpers.prepare.vault_select import Entry, reflective

_FEWEST = 20  # words that have to remain as the answer where its first sentence becomes the question
_OPENING = (8, 45)  # words of what is quoted: "Baba fell." alone says too little, a whole story too much
_LONGEST = 2000  # characters of a line in which sentences are looked for
_BANGLA = 0.5  # a text with more Bengali letters than that is asked about in Bengali
_TITLED = {
    "en": {
        "decision": ("{title}: how do you decide?", "{title}: how did you weigh it up?"),
        "lesson": ("{title}: what did you learn?", "{title}: what do you take away from it?"),
        "reflection": ("{title}: what do you make of it?", "{title}: what goes through your mind?"),
    },
    "bn": {
        "decision": ("{title}: কীভাবে ঠিক করলে?", "{title}: দুই দিক কীভাবে মাপলে?"),
        "lesson": ("{title}: কী শিখলে?", "{title}: এখান থেকে কী নিয়ে যাচ্ছ?"),
        "reflection": ("{title}: কী ভাবছ?", "{title}: তোমার কী মনে হয়?"),
    },
}
_OPENED = {
    "en": {
        "decision": "{day}you wrote: “{opening}” What did you decide, and why?",
        "lesson": "{day}you wrote: “{opening}” What did you learn from it?",
        "reflection": "{day}you wrote: “{opening}” What did you make of it?",
    },
    "bn": {
        "decision": "{day}তুমি লিখেছিলে: “{opening}” কী ঠিক করলে, আর কেন?",
        "lesson": "{day}তুমি লিখেছিলে: “{opening}” সেখান থেকে কী শিখলে?",
        "reflection": "{day}তুমি লিখেছিলে: “{opening}” তারপর কী মনে হলো?",
    },
}
_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_MONTHS_BN = (
    *("জানুয়ারি", "ফেব্রুয়ারি", "মার্চ", "এপ্রিল", "মে", "জুন"),
    *("জুলাই", "আগস্ট", "সেপ্টেম্বর", "অক্টোবর", "নভেম্বর", "ডিসেম্বর"),
)
_BENGALI_DIGITS = str.maketrans("0123456789", "০১২৩৪৫৬৭৮৯")
_QUESTION_FIELD = "question"
_NO_SENTENCE = regex.compile(r"[ \t>]*(?:[-*+] |\d+[.)] |\||#{1,6} |`{3}|~{3})")
_SENTENCE = regex.compile(r"\S.{8,}?[.!?।…][\"”')*_]*(?=\s|$)")


def answer(entry: Entry) -> str:
    """Return the entry as its writer would say it, without headings of the first level, tags and figures."""
    text = plain(entry.text, keep_field=reflective)
    return regex.sub(r"\A#[ \t]+.*\n*", "", text).strip()


def dialogue(note: Note, entry: Entry, kind: str) -> tuple[str, str]:
    """Return the question and the answer. Where the first sentence is asked about, the answer goes on after it."""
    text = answer(entry)
    tongue = "bn" if bengali_share(text) > _BANGLA else "en"
    asked = _own_question(note, entry)
    if asked:
        return asked, _without(text, asked)
    opening, rest = _opening(text)
    if note.daily and opening and len(words(rest)) >= _FEWEST:
        return _OPENED[tongue][kind].format(day=_on(note.date, tongue), opening=opening), rest
    return _titled(entry.heading or note.title, kind, tongue, text), text


def _own_question(note: Note, entry: Entry) -> str:
    """Return the question that the note itself is about, by a field of that name; empty where it has none."""
    if entry.heading:
        return ""
    return next((text for text in note.fields.get(_QUESTION_FIELD, []) if text.rstrip().endswith("?")), "")


def _without(text: str, asked: str) -> str:
    """Return the answer without the line that became the question, unless nothing else would remain."""
    lines = [line for line in text.split("\n") if line.strip() != asked.strip()]
    rest = "\n".join(lines).strip()
    return rest if len(words(rest)) >= _FEWEST else text


def _titled(title: str, kind: str, tongue: str, text: str) -> str:
    wordings = _TITLED[tongue][kind]
    # Drawn by the text: the same note is asked about in the same words, whatever stands before it in the vault.
    wording = wordings[hashlib.sha256(text.encode()).digest()[0] % len(wordings)]
    asked = title.strip()
    if not asked.endswith(("?", "!", ".", "।")):
        return wording.format(title=asked)
    rest = wording.removeprefix("{title}: ")
    return f"{asked} {rest[0].upper()}{rest[1:]}"


def _opening(text: str) -> tuple[str, str]:
    """Return the first sentences and the rest; two empty texts where the note does not begin with a sentence."""
    first, _, rest = text.partition("\n")
    ends = [] if _NO_SENTENCE.match(first) else [match.end() for match in _SENTENCE.finditer(first[:_LONGEST])]
    fitting = [end for end in ends if len(words(first[:end])) <= _OPENING[1]]
    if not fitting:
        return "", ""
    end = next((end for end in fitting if len(words(first[:end])) >= _OPENING[0]), fitting[-1])
    return first[:end].strip(), f"{first[end:].strip()}\n{rest}".strip()


def _on(day: str, tongue: str) -> str:
    if not day:
        return ""
    date = datetime.date.fromisoformat(day)
    if tongue == "bn":
        return f"{date.day} {_MONTHS_BN[date.month - 1]} {date.year} ".translate(_BENGALI_DIGITS)
    return f"On {date.day} {_MONTHS[date.month - 1]} {date.year} "
