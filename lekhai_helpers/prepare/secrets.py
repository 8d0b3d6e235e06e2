"""Secrets in a text: keys and passwords, mail addresses, phone numbers, each replaced by a word for what it was.

``text, found = mask("ring +1-902-555-0142")`` gives "ring [phone number]" and {"phone": 1}. It knows secrets by their
shape only: a name, a street, a diagnosis or a password of plain words has none and stays where it is.
"""

from __future__ import annotations

from collections import Counter

import regex

NAMES = {"key": "[key]", "mail": "[mail address]", "phone": "[phone number]"}

# Every repetition is bounded: a megabyte of one letter must not take hours.
_KEYS = (
    regex.compile(r"-----BEGIN [A-Z ]{0,20}PRIVATE KEY-----.{0,8000}?-----END [A-Z ]{0,20}PRIVATE KEY-----", regex.S),
    # The beginnings by which large services mark their keys, so that they are found in what people paste.
    regex.compile(
        r"\b(?:sk-|ghp_|gho_|ghs_|ghu_|github_pat_|glpat-|hf_|npm_|pypi-|xox[abprs]-|AIza)[\w-]{16,300}"
        r"|\bAKIA[0-9A-Z]{16}\b|\beyJ[\w-]{8,2000}\.[\w-]{8,2000}\.[\w-]{8,2000}"
    ),
    regex.compile(r"(?<![\w+/-])(?=[\w+/-]{0,64}[A-Z])(?=[\w+/-]{0,64}[a-z])(?=[\w+/-]{0,64}\d)[A-Za-z\d+/_-]{32,300}"),
)
_NAMED = regex.compile(
    r"(?i)\b(?P<name>(?:api|access)[ _-]?(?:key|token)|token|secret|pass(?:word|phrase|wd)|pwd|pin(?: code)?"
    r"|পাসওয়ার্ড|পিন)(?P<sign>[\"'*_]{0,3}\s{0,3}(?:::|[:=]|\bis\b)\s{0,3}[\"'*_]{0,3})(?P<value>[^\s\"',;]{4,300})"
)
_MAIL = regex.compile(r"(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,6}")
_PHONES = (
    regex.compile(r"(?<![\w+])\+\d(?:[ ().-]{0,3}\d){7,14}(?!\d)"),  # +880 1712-345678
    regex.compile(r"(?<![\w.,/+-])00[1-9](?:[ ()-]{0,2}\d){9,13}(?![\w.,/-])"),
    regex.compile(r"(?<![\w.,/+-])(?:880[ -]?|৮৮০[ -]?)?[0০]?[1১][3-9৩-৯](?:[ -]?\d){8}(?!\d)"),  # 01712-345678
    regex.compile(r"(?<![\w.,/+-])(?:1[ -])?(?:\(\d{3}\) ?|\d{3}[-. ])\d{3}[-. ]\d{4}(?![\w/-])"),  # (902) 555-0187
)
_CALLED = regex.compile(
    r"(?i)\b(?P<name>(?:tele)?phone|tel|mobile|cell|whatsapp|fax|call|ring|ফোন|মোবাইল|নম্বর)"
    r"(?P<sign>[\"'*_.]{0,3}\s{0,2}(?:::|[:=]|no\.?|number|at|on)?\s{0,3}[\"'*_]{0,3})"
    r"(?P<value>\(?\d(?:[ ()-]{0,2}\d){6,14})(?![\w/-])"
)
_DATE = regex.compile(r"\d{4}-\d{2}-\d{2}")


def mask(text: str) -> tuple[str, Counter[str]]:
    """Return the text with its secrets replaced by words, and how many there were: {"key", "mail", "phone"}."""
    found: Counter[str] = Counter()
    for pattern in _KEYS:
        text = _replace(pattern, text, "key", found)
    text = _NAMED.sub(lambda match: _named_key(match, found), text)
    text = _replace(_MAIL, text, "mail", found)
    for pattern in _PHONES:
        text = _replace(pattern, text, "phone", found)
    text = _CALLED.sub(lambda match: _named_phone(match, found), text)
    return text, +found


def _replace(pattern: regex.Pattern, text: str, what: str, found: Counter[str]) -> str:
    text, times = pattern.subn(NAMES[what], text)
    found[what] += times
    return text


def _named_key(match: regex.Match, found: Counter[str]) -> str:
    """Mask what is called a password, unless it is an ordinary word: "the secret: nobody knew" is no secret."""
    value = match["value"]
    if value in NAMES.values() or value.rstrip(".!?:)]*_").isalpha():
        return match.group()
    found["key"] += 1
    return f"{match['name']}{match['sign']}{NAMES['key']}"


def _named_phone(match: regex.Match, found: Counter[str]) -> str:
    if _DATE.match(match["value"]):
        return match.group()
    found["phone"] += 1
    return f"{match['name']}{match['sign']}{NAMES['phone']}"
