"""Bengali text, counted and cleaned the way the script needs it. Taught in notebook 03.

Letters are counted by Unicode script extension (``\\p{scx=Beng}``), which includes the danda (।) and the
taka sign (৳); characters are counted as graphemes (``\\X``), so that ক্ষ is one character and not three.
"""

import unicodedata

import regex

_LETTER = regex.compile(r"[\p{L}\p{M}\p{N}]")
_BENGALI = regex.compile(r"[\p{L}\p{M}\p{N}&&\p{scx=Beng}]", regex.V1)
_WORD = regex.compile(r"[\p{L}\p{M}\p{N}\u200c\u200d]+(?:[-'’][\p{L}\p{M}\p{N}]+)*")
_INVISIBLE = regex.compile(r"[\ufeff\u200b\u2060\u00ad]")
_STEM = 4  # letters and signs
_STRAY_JOINER = regex.compile(r"(?<![\p{scx=Beng}])[\u200c\u200d]|[\u200c\u200d](?![\p{scx=Beng}])")


def normalize(text: str) -> str:
    """Return `text` in NFC, without a byte-order mark and stray invisible characters; applied twice, it changes
    nothing more.

    Zero-width joiners between Bengali letters are kept: they decide which conjunct is drawn. The library
    bnunicodenormalizer is not used on scripts because it deletes ৳, quotation marks and such joiners.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\u00a0", " ")
    # NFC comes last: two vowel signs that only an invisible character kept apart become one.
    text = _STRAY_JOINER.sub("", _INVISIBLE.sub("", text))
    return unicodedata.normalize("NFC", text).strip()


def graphemes(text: str) -> list[str]:
    """Return the characters a reader sees (Unicode extended grapheme clusters)."""
    return regex.findall(r"\X", text)


def words(text: str) -> list[str]:
    """Return the words of `text`, in any script, without punctuation."""
    return _WORD.findall(text)


def stems(text: str) -> set[str]:
    """Return the beginnings of the words of `text`: four letters or signs; a single letter is no word.

    Bengali adds its endings behind: দেয়াল, দেয়ালে, দেয়ালের begin alike.
    """
    return {word[:_STEM].casefold() for word in words(normalize(text)) if len(word) > 1}


def bengali_share(text: str) -> float:
    """Return the share (0 to 1) of letters, signs and digits that belong to the Bengali script.

    Punctuation and spaces do not count. A text without any letter has share 0.
    """
    letters = len(_LETTER.findall(text))
    return len(_BENGALI.findall(text)) / letters if letters else 0.0


def char_ngrams(text: str, n: int = 5) -> set[str]:
    """Return the set of `n` neighbouring graphemes, spaces folded: the basis of near-duplicate checks."""
    chars = graphemes(" ".join(text.split()))
    return {"".join(chars[i : i + n]) for i in range(max(len(chars) - n + 1, 1))}


def jaccard(a: set[str], b: set[str]) -> float:
    """Return the overlap of two sets, from 0 (nothing shared) to 1 (equal)."""
    return len(a & b) / len(a | b) if a or b else 1.0
