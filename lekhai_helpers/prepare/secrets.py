"""Secrets in a text: keys and passwords, mail addresses, phone numbers, each replaced by a word for what it was.

``text, found = mask("ring +1-902-555-0142")`` gives "ring [phone number]" and {"phone": 1}. It knows secrets by their
shape only: a name, a street, a diagnosis or a password of plain words has none and stays where it is.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable

import regex

NAMES = {"key": "[key]", "mail": "[mail address]", "phone": "[phone number]"}

# What looks alike is searched alike, character by character, so that places stay the same: spaces that do not break,
# dashes of all lengths, the digits of every script. What stands in the text is not changed by it.
_ALIKE = {
    **dict.fromkeys(map(ord, "\u00a0\u2007\u2009\u202f"), " "),
    **dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2014\u2015\u2212"), "-"),
    **{ord(digit): str(unicodedata.digit(digit)) for digit in "০১২৩৪৫৬৭৮৯०१२३४५६७८९٠١٢٣٤٥٦٧٨٩０１２３４５６７８９"},
    ord("＠"): "@",
}

# Every repetition is bounded: a megabyte of one letter must not take hours.
_KEYS = (
    regex.compile(r"-----BEGIN [A-Z ]{0,20}PRIVATE KEY-----.{0,8000}?-----END [A-Z ]{0,20}PRIVATE KEY-----", regex.S),
    # The beginnings by which large services mark their keys, so that they are found in what people paste.
    regex.compile(
        r"\b(?:sk-|[sr]k_(?:live|test)_|ghp_|gho_|ghs_|ghu_|github_pat_|glpat-|hf_|npm_|pypi-|xox[abprs]-|AIza)"
        r"[\w-]{16,300}|\bAKIA[0-9A-Z]{16}\b|\beyJ[\w-]{8,2000}\.[\w-]{8,2000}\.[\w-]{8,2000}"
    ),
    regex.compile(r"(?<![\w+/-])(?=[\w+/-]{0,64}[A-Z])(?=[\w+/-]{0,64}[a-z])(?=[\w+/-]{0,64}\d)[A-Za-z\d+/_-]{32,300}"),
    regex.compile(r"(?i)\b(?:bearer|basic)[ \t]{1,3}(?P<value>(?=[^\s\d]{0,64}\d)[\w.~+/=-]{16,2000})"),
    regex.compile(r"://[^\s:/@]{0,60}:(?P<value>(?!\[key\]@)[^\s/@]{1,200})(?=@)"),  # postgres://user:password@host
)
# DB_PASSWORD=..., **password:** ..., "my passphrase is: ...", "Password - ...", | password | ... |
_NAMED = regex.compile(
    r"(?i)(?<![^\W_])(?P<name>(?:api|access|secret|private|auth|license)[ _-]?(?:key|token)|token|secret"
    r"|pass(?:word|phrase|code|wd)|pwd|otp|pin(?: code)?|পাসওয়ার্ড|পিন)(?:[ \t]{0,2}\([^()\n]{0,40}\))?"
    r"(?P<sign>[\"'*_`]{0,3}\s{0,3}(?:::|[:=]|\b(?:is|was)\b:?)[\"'*_`]{0,3}\s{0,3}|[*_`]{0,3}[ \t]{1,3}[|-][ \t]{1,3})"
    r"(?:[\"“‘'](?P<value>[^\"”’'\n]{4,100})[\"”’']|[\"'*_`]{0,3}(?P<value>[^\s\"',;`]{4,300}))"
)
_MAIL = regex.compile(r"(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,6}")

# A number does not begin inside a word, a sum or an address; after another number a comma or a stroke may stand.
_HERE = r"(?<![\w+.-]|(?<!\d{6}|\])[,/])"
_THERE = r"(?!\w|[.-]\d|,\d(?!\d{5}))"
_NO_SUM = r"(?<!(?:[$€£₹৳]|\b(?:tk|rs|bdt|usd|eur|isbn)\b)[^\w\n]{0,3}(?:1[03][^\w\n]{0,3})?)"
_NO_COUNT = r"(?! ?(?:bytes|rows|people|times|taka|tk|rupees|dollars|years|steps|words)\b)"
_PHONES = tuple(
    regex.compile(pattern, regex.I)
    for pattern in (
        r"(?<![\w+])\+\d(?:[ ().-]{0,3}\d){7,14}(?!\d)",  # +880 1712-345678
        rf"{_HERE}00[1-9](?:[ ()-]{{0,2}}\d){{9,13}}{_THERE}",
        rf"{_HERE}(?:880[ -]?)?0?1[3-9](?:[ -]?\d){{8}}(?!\d)",  # 01712-345678
        rf"{_HERE}(?:1[ -])?(?:\(\d{{3}}\) ?|\d{{3}}[-. ])\d{{3}}[-. ]\d{{4}}{_THERE}",  # (902) 555-0187
        rf"{_HERE}{_NO_SUM}[2-9]\d{{2}}[2-9]\d{{6}}{_THERE}{_NO_COUNT}",  # 9025550187
        rf"{_HERE}{_NO_SUM}(?=(?:[ -]?\d){{10,11}}(?![ -]?\d))0[1-9]\d{{1,3}}[ -]\d{{3,4}}[ -]?\d{{3,4}}{_THERE}",
        rf"{_HERE}{_NO_SUM}07\d{{9}}{_THERE}",
        # 06 12 34 56 78; days and months in a row (01 02 03 04 05) are none
        rf"{_HERE}(?<!\d )(?!0\d(?:[ .-][01]\d){{4}})0[1-9](?:[ .-]\d\d){{4}}(?! ?\d){_THERE}",
        r"\bwa\.me/\+?(?P<value>\d{7,15})(?!\d)",
    )
)
_CALLED = regex.compile(
    r"(?i)\b(?:(?:tele)?phone|tel|mobile|cell|whatsapp|fax|call|ring|text|(?:my|his|her|our|their|your) number"
    r"|ফোন|মোবাইল|নম্বর)[\"'*_.]{0,3}\s{0,2}(?:number\s{0,2})?(?:(?:me|us|him|her)\s{1,2})?"
    r"(?:::|[:=-]|no\.?|at|on|(?:is|was)\b:?)?[\"'*_]{0,3}\s{0,3}[\"'*_]{0,3}"
    r"(?P<value>\(?\d(?:[ ()-]{0,2}\d){6,14})(?![\w/-])"
)
_DATE = regex.compile(r"(?:\d{4}-\d{2}-\d{2}|\d{1,2}[ -]\d{1,2}[ -](?:19|20)\d\d|(?:19|20)\d\d[ -](?:19|20)\d\d)(?!\d)")
_WORD = regex.compile(r"[\p{L}\p{M}]+")


def mask(text: str) -> tuple[str, Counter[str]]:
    """Return the text with its secrets replaced by words, and how many there were: {"key", "mail", "phone"}."""
    found: Counter[str] = Counter()
    for pattern in _KEYS:
        text = _replace(pattern, text, "key", found)
    text = _replace(_NAMED, text, "key", found, _is_key)
    text = _replace(_MAIL, text, "mail", found)
    for pattern in _PHONES:
        text = _replace(pattern, text, "phone", found)
    text = _replace(_CALLED, text, "phone", found, lambda match: not _DATE.match(match["value"]))
    return text, +found


def mask_path(path: str) -> str:
    """Return a path or a nested tag masked part by part: after a stroke a number is else taken for an address's."""
    return "/".join(mask(part)[0] for part in path.split("/"))


def _replace(
    pattern: regex.Pattern,
    text: str,
    what: str,
    found: Counter[str],
    meant: Callable[[regex.Match], bool] = lambda match: True,
) -> str:
    """Replace what a pattern finds: its group `value`, or the whole where it has none."""
    group = "value" if "value" in pattern.groupindex else 0
    pieces, at = [], 0
    for match in pattern.finditer(text.translate(_ALIKE)):
        if meant(match):
            start, end = match.span(group)
            pieces += [text[at:start], NAMES[what]]
            at = end
            found[what] += 1
    return "".join(pieces) + text[at:]


def _is_key(match: regex.Match) -> bool:
    """Say whether what is called a password is one, and no ordinary word: "the secret: nobody knew" is no secret."""
    value, name = match["value"], match["name"].lower()
    if value in NAMES.values():
        return False
    if match["sign"].strip(" \t*_`") in ("-", "|") and not name.startswith("pass"):
        return bool(regex.search(r"\p{L}", value) and regex.search(r"\d", value))
    if " " in value:
        return name.startswith("pass") or bool(regex.search(r"\d", value))
    return not _WORD.fullmatch(value.rstrip(".!?:)]*_।"))
