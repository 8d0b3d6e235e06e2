"""What a language is called, and a first line in it for a base model to go on with. Used in notebook 01."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Language:
    """The English name of a language, and the beginning of a sentence in it."""

    name: str
    opening: str


_LANGUAGES = {
    "bn": Language("Bengali", "বৃষ্টির দিনে এক কাপ চা"),
    "en": Language("English", "On a rainy day, a cup of tea"),
}


def language_of(code: str) -> Language:
    """Return the language of a code such as "bn"; one that is not listed goes by its code, with an English line."""
    return _LANGUAGES.get(code, Language(code, _LANGUAGES["en"].opening))
