"""The LekhAI contract: a Markdown table of two columns, Visual and Audio, one row a shot.

Called as ``check(text)``; taught in notebooks 03, 05 and 07. Cells are counted on the raw line: the usual
Markdown parsers drop cells that are too many without a word, and so would hide the commonest fault.
"""

from dataclasses import dataclass

import regex

from lekhai_helpers.core.bengali import bengali_share, normalize, words
from lekhai_helpers.prepare.contracts.base import Verdict

HEADER = ["visual", "audio"]
MIN_ROWS, MAX_ROWS = 3, 16
NO_TABLE = "there is no table"

# Shots a film of so many seconds holds, fewest and most.
ROWS_BY_SECONDS = {15: (4, 6), 20: (4, 7), 30: (6, 9), 45: (8, 11), 60: (10, 14)}
MAX_WORDS_PER_SECOND = 2.4

_CELL_BORDER = regex.compile(r"(?<!\\)\|")
_RULE = regex.compile(r"^:?-+:?$")
# What is heard but not spoken, and the other labels that are known without a sentence end before them.
_UNSPOKEN = r"(?:SFX|এসএফএক্স|সাউন্ড|মিউজিক|সঙ্গীত|সংগীত|আবহসংগীত|আবহ|শব্দ|MUSIC|SOUND)"
_SPEAKERS = r"(?:ভিও|ভয়েসওভার|ভয়েস ওভার|জিঙ্গেল|VO|V\.O\.|JINGLE)"
_NAME = r"[\p{L}\p{M}][\p{L}\p{M}\p{N}\u200c\u200d'’-]*"
_BRACKET = r"(?:\s*\([^()]{0,40}\))?"
_COLON = r"\s*[:：](?!(?<=\p{N}[:：])\p{N})"  # 10:30 is a time of day, not a label
_KNOWN_LABEL = rf"(?:{_UNSPOKEN}|{_SPEAKERS})(?:\s+{_NAME}){{0,2}}{_BRACKET}(?:{_COLON}|ঃ(?=\s))"
_NAMED_LABEL = rf"{_NAME}(?:\s+{_NAME}){{0,2}}{_BRACKET}{_COLON}"
# A name is a label only where a sentence begins: "ভিও: শর্ত একটাই: আগে খান" has one speaker.
_LABEL = regex.compile(
    rf"(?<![\p{{L}}\p{{M}}])(?:{_KNOWN_LABEL})|(?:^|(?<=[।?!.…;][\s\"'”’)]{{0,3}}))(?:{_NAMED_LABEL})", regex.IGNORECASE
)
_LAST_WORD_LABEL = regex.compile(rf"(?<![\p{{L}}\p{{M}}\p{{N}}])({_NAME}){_BRACKET}{_COLON}")
_IS_UNSPOKEN = regex.compile(rf"(?:^|\s){_UNSPOKEN}(?![\p{{L}}\p{{M}}])", regex.IGNORECASE)
_DIRECTION = regex.compile(r"\([^()]*\)|\[[^\[\]]*\]")


@dataclass(frozen=True)
class AdScript:
    """A parsed script: ``rows`` are (visual, audio) pairs, one a shot."""

    rows: list[tuple[str, str]]

    def to_markdown(self) -> str:
        """Return the script as the training data writes it."""
        lines = [f"| {visual} | {audio} |" for visual, audio in self.rows]
        return "\n".join(["| Visual | Audio |", "|---|---|", *lines])


def raw_cells(line: str) -> list[str] | None:
    """Return the cells of one table line, every one of them, or None where the line is no table line."""
    parts = _CELL_BORDER.split(line.strip())
    if len(parts) < 3 or parts[0] or parts[-1]:  # an escaped pipe at the end closes no cell
        return None
    return [cell.strip() for cell in parts[1:-1]]


def parse_ad_script(text: str) -> tuple[AdScript, list[str]]:
    """Read a script and return it with the list of problems found; an empty list means it is well formed."""
    lines = [line for line in normalize(text).split("\n") if line.strip()]
    table = [cells for line in lines if (cells := raw_cells(line)) is not None]
    problems = []
    if not table:
        return AdScript([]), [NO_TABLE]
    if len(table) < len(lines):
        problems.append(f"{len(lines) - len(table)} line(s) stand outside the table")
    if [cell.lower() for cell in table[0]] != HEADER:
        problems.append("the header is not | Visual | Audio |")
    has_rule = len(table) > 1 and all(_RULE.match(cell) for cell in table[1])
    if not has_rule:
        problems.append("the line |---|---| is missing under the header")
    rows = []
    for number, cells in enumerate(table[2 if has_rule else 1 :], start=1):
        if len(cells) != 2:
            problems.append(f"row {number} has {len(cells)} cell(s) instead of 2")
        elif not all(words(cell) for cell in cells):
            problems.append(f"row {number} has an empty cell")
        else:
            rows.append((cells[0], cells[1]))
    return AdScript(rows), problems


def spoken_words(audio: str) -> list[str]:
    """Return the words of an Audio cell that somebody says or sings; labels, SFX and music do not count."""
    return [word for line in spoken_lines(audio) for word in words(line)]


def spoken_lines(audio: str) -> list[str]:
    """Return what is said or sung in an Audio cell, one entry a speaker, without labels and (stage directions)."""
    lines = [_DIRECTION.sub(" ", text).strip() for label, text in audio_pieces(audio) if not _IS_UNSPOKEN.search(label)]
    return [line for line in lines if words(line)]


def audio_pieces(audio: str) -> list[tuple[str, str]]:
    """Cut an Audio cell into (label, text): "ভিও (নারী): চলো। SFX: বৃষ্টি।" holds two pieces.

    Text before the first label has the label "". Nothing of the cell is lost but colons and asterisks.
    """
    audio = audio.replace("*", "")
    marks = list(_LABEL.finditer(audio))
    pieces = [("", audio[: marks[0].start() if marks else len(audio)])]
    ends = [mark.start() for mark in marks[1:]] + [len(audio)]
    for mark, end in zip(marks, ends, strict=False):
        pieces += _after_sound(mark.group().rstrip(" :：ঃ"), audio[mark.end() : end])
    return [(label.strip(), text.strip()) for label, text in pieces if label.strip() or text.strip()]


def _after_sound(label: str, text: str) -> list[tuple[str, str]]:
    """A sound says nothing, so a name with a colon inside one speaks: "SFX: বৃষ্টি মা: চল" holds two pieces."""
    inner = _LAST_WORD_LABEL.search(text) if _IS_UNSPOKEN.search(label) else None
    if inner is None:
        return [(label, text)]
    return [(label, text[: inner.start()]), (inner.group().rstrip(" :："), text[inner.end() :])]


def check(text: str, seconds: int | None = None) -> Verdict:
    """Return the verdict on one script; with `seconds`, the length of the film is checked as well.

    Facts: ``rows``, ``bengali_share`` of the cells (0 to 1), ``spoken_words``, ``repeated_rows``.
    """
    script, problems = parse_ad_script(text)
    count = len(script.rows)
    cells = " ".join(cell for row in script.rows for cell in row)
    spoken = sum(len(spoken_words(audio)) for _, audio in script.rows)
    if problems == [NO_TABLE]:
        return Verdict(False, problems, _facts(script, cells, spoken))
    if not MIN_ROWS <= count <= MAX_ROWS:
        problems.append(f"{count} row(s); a script has {MIN_ROWS} to {MAX_ROWS}")
    if seconds is not None:
        problems += _length_problems(count, spoken, seconds)
    return Verdict(not problems, problems, _facts(script, cells, spoken))


def _facts(script: AdScript, cells: str, spoken: int) -> dict[str, int | float]:
    return {
        "rows": len(script.rows),
        "bengali_share": round(bengali_share(cells), 4),
        "spoken_words": spoken,
        "repeated_rows": len(script.rows) - len(set(script.rows)),
    }


def _length_problems(rows: int, spoken: int, seconds: int) -> list[str]:
    """Return what does not fit a film of `seconds`."""
    nearest = min(ROWS_BY_SECONDS, key=lambda known: abs(known - seconds))
    fewest, most = ROWS_BY_SECONDS[nearest]
    problems = []
    if not fewest <= rows <= most:
        problems.append(f"{rows} rows; a film of {seconds} s has {fewest} to {most}")
    if spoken > seconds * MAX_WORDS_PER_SECOND:
        problems.append(f"{spoken} spoken words do not fit {seconds} s (most: {int(seconds * MAX_WORDS_PER_SECOND)})")
    return problems
