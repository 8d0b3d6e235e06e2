"""The few words that change with the recipe: what is written, what it is called when it is sound, how rows are grouped.

``words = prepare.contracts.words_of(settings)``; plots, verdicts and the report speak with them, so that none of them
asks which recipe is running.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Words:
    """`unit` is the thing written ("script"), `one` and `many` what a sound one is ("a valid table", "valid tables"),
    `group` what rows are spread over ("industry"). The defaults are LekhAI's own.
    """

    unit: str = "script"
    one: str = "a valid table"
    many: str = "valid tables"
    group: str = "industry"

    @property
    def units(self) -> str:
        """Return the plural of `unit`."""
        return plural(self.unit)

    @property
    def heading(self) -> str:
        """Return `many` as a sentence begins: "Valid tables"."""
        return self.many[:1].upper() + self.many[1:]

    @property
    def groups(self) -> str:
        """Return the plural of `group`."""
        return plural(self.group)


def plural(word: str) -> str:
    """Return the plural of a regular English word: industry, industries; script, scripts."""
    return f"{word[:-1]}ies" if word.endswith("y") and word[-2:-1] not in "aeiou" else f"{word}s"
