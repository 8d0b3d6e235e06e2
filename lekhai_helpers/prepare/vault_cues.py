"""The words by which people weigh options or draw a lesson, in English and Bengali: cues, in five kinds.

``find_cues(text)`` names the kinds that occur, each with the words that showed it. How often they are right is
measured on `data/companion/notes.jsonl`.
"""

from __future__ import annotations

import unicodedata

import regex

# Of the kinds one is enough, if it is a decisive one; see vault_select.
_CUES: dict[str, tuple[str, ...]] = {
    "weighs": (
        r"on the (?:one|other) hand|pros and cons|in favou?r\b|the argument against|torn between|weigh(?:ed|ing)?\b",
        r"either (?:i|we|it|he|she|they)\b[^.?!]{1,120}\bor\b|\byes or no\b",
        r"(?:^|\n)[ \t*_-]{0,4}(?:for|against|why (?:stay|go|not))\b[^:,\n]{0,40}:",
        r"should i\b|shall i\b|would i\b|ought i\b|do i\b[^.!]{1,80}\?|whether (?:to|or not|i|it|we)\b",
        r"(?:my|the) (?:options|choices)|choices now|\bif i\b[^.?!]{1,160}[.?!]\s+(?:and |but |or )?if i\b",
        r"একদিকে|অন্যদিকে|অন্য দিকে|লাভের দিক|ক্ষতির দিক|নাকি|কি না|পক্ষে|বিপক্ষে|এখন কী করি",
    ),
    "learns": (
        r"\bi(?:'ve| have|'d| had)? (?:\w+ )?(?:learn(?:ed|t)|reali[sz]ed?|understood|discovered|noticed?)\b",
        r"\blesson\b|\bi (?:now )?(?:see|saw) (?:now|that|clearly|quite)|\bi can see|turn(?:s|ed) out",
        r"it (?:struck|occurred to|hadn't struck) me|the (?:truth|trouble) is|\bi (?:catch|caught) myself",
        r"\bwhat i(?:'d| had| have)? (?:got wrong|learned|forgotten|called|should have)",
        r"\bi(?:'ve| have)? (?:come|begun|begin|came|began) to (?:think|believe|see|suspect)",
        r"বুঝলাম|বুঝতে পারলাম|টের পেলাম|শিখলাম|মনে হলো|মনে হল|প্রথম মনে|জানতাম না|আসলে",
    ),
    "revises": (
        r"\bi(?:'d| had) (?:always |never )?(?:thought|assumed|expected|believed|imagined|supposed|put it down)\b",
        r"used to think|\bi was (?:wrong|right|mistaken)|what i should|\bmy (?:mistake|fault)|not proud",
        r"\bi (?:should|could|ought to|might|wish i) (?:have|had)\b|\bin hindsight|looking back",
        r"ভাবতাম|ভুল(?:টা|ই)? (?:আমার|জায়গা|হ)|উচিত ছিল|দোষ",
    ),
    "resolves": (
        r"next (?:time|year)|from (?:now|tomorrow)|(?:the|a) rule\b|(?:^|\n|\. )so[,:] ",
        r"\bi(?:'ll| will| shall) (?:not|never|go|tell|ask)\b|\bi(?:'ve| have)? decided\b|\bdecided[:,]",
        r"(?:that|this) (?:settled|decides) it|\bi (?:can|could) (?:at least|choose)",
        r"পরের বার|নিয়ম দিলাম|এখন থেকে|আপাতত|ঠিক করলাম|সিদ্ধান্ত",
    ),
    "doubts": (
        r"\bi (?:don't|do not|can't|cannot|couldn't) (?:know|tell|say|be certain|claim)",
        r"\bi (?:wonder|suspect|distrust)\b",
        r"\bperhaps\b|\bmaybe\b|honest(?:ly)?\b|to be fair|\bi(?:'m| am) (?:not )?(?:sure|certain|afraid)\b",
        r"হয়তো|বোধহয়|জানি না|সত্যি",
    ),
}
# Some Bengali letters have two spellings in Unicode; notes are read in NFC, so the cues stand in NFC too.
_PATTERNS = {
    name: tuple(regex.compile(unicodedata.normalize("NFC", cue), regex.I) for cue in cues)
    for name, cues in _CUES.items()
}
_FIRST_PERSON = regex.compile(r"\b(?:i|i'm|i've|i'd|i'll|me|my|mine|myself|we|our|us)\b|আমি|আমার|আমাকে|নিজে", regex.I)


def find_cues(text: str) -> dict[str, str]:
    """Return the kinds of cues in a text (in NFC), each with the first words that showed it."""
    text = text.replace("’", "'")  # phones write I’ve
    found = {}
    for name, patterns in _PATTERNS.items():
        match = next(filter(None, (pattern.search(text) for pattern in patterns)), None)
        if match:
            found[name] = " ".join(match.group().split())[:60]
    return found


def first_person(text: str) -> int:
    """Return how many words speak of the writer: I, my, we, আমি and their like."""
    return len(_FIRST_PERSON.findall(text.replace("’", "'")))
