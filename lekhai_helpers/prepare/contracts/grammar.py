"""The grammar of an ad script: the contract as rules a decoder can obey, letter by letter. Taught in notebook 07.

Called as ``get_grammar("ad_script")(brief.prompt)``. The same description is written out twice: as Lark for
llguidance, which masks the tokens of a model in this process, and as GBNF for llama.cpp's server. A text that ends
within it always keeps the contract: the header, 3 to 16 rows of two cells, in each cell at least one Bengali letter
or a known label, and nothing in it but Bengali script, digits, punctuation, known labels and the Latin words of the
brief itself.

How the rules are built into decoding: Willard and Louf 2023, "Efficient guided generation for large language models".
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import regex

from lekhai_helpers.core.bengali import normalize
from lekhai_helpers.prepare.contracts.ad_script import MAX_ROWS, MIN_ROWS, AdScript


@dataclass(frozen=True)
class Grammar:
    """One grammar in two languages: `lark` for llguidance, `gbnf` for llama.cpp.

    `words` are the Latin words a cell may hold, labels included. A grammar of a table also names its `header` lines and
    the fewest rows: with these a decoder can steer the last tokens, so that the limit cuts no text.
    """

    lark: str
    gbnf: str
    words: tuple[str, ...] = ()
    header: str = ""
    least_rows: int = 0


@dataclass(frozen=True)
class Chars:
    """Any one character of these ranges of code points, both ends included."""

    ranges: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Seq:
    """One part after the other."""

    parts: tuple[Rule, ...]


@dataclass(frozen=True)
class Alt:
    """One of the parts. No two begin with the same character but words, so that a reader never has to guess."""

    parts: tuple[Rule, ...]


@dataclass(frozen=True)
class Repeat:
    """The part at least `least` and at most `most` times."""

    part: Rule
    least: int
    most: int


Rule = str | Chars | Seq | Alt | Repeat

HEADER = AdScript([]).to_markdown()
# The labels the contract knows that are not written in Bengali letters.
LATIN_LABELS = ("SFX", "VO", "V.O.", "MUSIC", "SOUND", "JINGLE")
# No gold cell is longer than 130 characters; a bound there must be, or a cell might never end.
MAX_CELL = 160
MAX_LATIN_WORD = 24

_LETTER = (
    *((0x985, 0x98C), (0x98F, 0x990), (0x993, 0x9A8), (0x9AA, 0x9B0), (0x9B2, 0x9B2), (0x9B6, 0x9B9)),
    *((0x9CE, 0x9CE), (0x9DC, 0x9DD), (0x9DF, 0x9E1)),
)
_SIGN = ((0x981, 0x983), (0x9BC, 0x9C4), (0x9C7, 0x9C8), (0x9CB, 0x9CD), (0x9D7, 0x9D7))
_DIGIT = ((0x30, 0x39), (0x9E6, 0x9EF))
# What stands in the gold cells, and the quotation marks, dashes and the taka sign of ordinary Bengali print.
_MARKS = "।:,!-?().+" + "\"'‘’“”–—…;%/৳"
_MARK = tuple((ord(mark), ord(mark)) for mark in sorted(_MARKS))
# র‍্যাব and উদ্‌যাপন need them: they say which conjunct is drawn.
_JOINER = Chars(((0x200C, 0x200D),))
_LATIN_WORD = regex.compile(r"(?:\p{N}*\p{Latin}[\p{Latin}\p{N}]*)(?:[.'’&+-][\p{Latin}\p{N}]+)*")


def latin_words(text: str) -> list[str]:
    """Return the words of `text` in Latin letters, as they are written there, each once: ["spoken", "English"]."""
    found = dict.fromkeys(_LATIN_WORD.findall(normalize(text)))
    return [word for word in found if len(word) <= MAX_LATIN_WORD]


def cell(words: tuple[str, ...]) -> Rule:
    """Return the rule of one cell with the spaces around it; `words` are the Latin ones it may hold.

    No space stands beside another, and no Latin word right after a letter, so that two words cannot be glued into a
    third.
    """
    latin, letters = Alt(words), Chars(_LETTER)
    number = Seq((Repeat(Chars(_DIGIT + _MARK), 1, 8), Repeat(" ", 0, 1)))  # "১০:৩০ মিনিট", "(নারী)"
    piece = Alt(
        (
            Chars(_LETTER + _SIGN + _DIGIT),
            Seq((_JOINER, Chars(_LETTER + _SIGN))),
            Seq((Chars(_MARK), Repeat(latin, 0, 1))),
            Seq((" ", Alt((Chars(_LETTER + _DIGIT), Seq((Chars(_MARK), Repeat(latin, 0, 1))), latin)))),
        )
    )
    return Seq((" ", Repeat(number, 0, 2), Alt((letters, latin)), Repeat(piece, 0, MAX_CELL), " "))


def ad_script_grammar(asked: str = "") -> Grammar:
    """Return the grammar of a script for one brief; the Latin words of `asked` (prompt, brand, product) are allowed.

    Sampled with GBNF, a table may still be cut by the limit of new tokens: llama.cpp does not steer to the end.
    """
    words = tuple(sorted({*LATIN_LABELS, *latin_words(asked)}, key=lambda word: (-len(word), word)))
    rule = cell(words)
    head, rows = json.dumps(HEADER), f"{{{MIN_ROWS},{MAX_ROWS}}}"
    # The spaces belong to the cell: llguidance reads the longest cell it can, a separator " |" would never be found.
    lark = f'start: {head} row{rows}\nrow: "\\n|" CELL "|" CELL "|"\nCELL: /{to_regex(rule)}/\n'
    gbnf = f'root ::= {head} row{rows}\nrow ::= "\\n|" cell "|" cell "|"\ncell ::= {to_gbnf(rule)}\n'
    return Grammar(lark, gbnf, words, HEADER, MIN_ROWS)


def to_regex(rule: Rule) -> str:
    """Write a rule as a regular expression of llguidance (Rust's syntax)."""
    match rule:
        case str():
            return "".join(char if char.isascii() and char.isalnum() else _hex(ord(char)) for char in rule)
        case Chars(ranges):
            return "[" + "".join(_hex(a) if a == b else f"{_hex(a)}-{_hex(b)}" for a, b in ranges) + "]"
        case Seq(parts):
            return "".join(map(to_regex, parts))
        case Alt(parts):
            return f"(?:{'|'.join(map(to_regex, parts))})"
        case Repeat(part, least, most):
            return f"(?:{to_regex(part)}){{{least},{most}}}"


def to_gbnf(rule: Rule) -> str:
    """Write a rule as GBNF, the grammars of llama.cpp."""
    match rule:
        case str():
            return json.dumps(rule)
        case Chars(ranges):
            return "[" + "".join(f"\\u{a:04X}" if a == b else f"\\u{a:04X}-\\u{b:04X}" for a, b in ranges) + "]"
        case Seq(parts):
            return f"({' '.join(map(to_gbnf, parts))})"
        case Alt(parts):
            return f"({' | '.join(map(to_gbnf, parts))})"
        case Repeat(part, least, most):
            return f"{to_gbnf(part)}{{{least},{most}}}"


def _hex(number: int) -> str:
    return rf"\x{{{number:X}}}"
