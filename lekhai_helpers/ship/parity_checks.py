"""The single questions of the parity gate, each a plain function of what Hugging Face and llama.cpp said.

`ship.parity` asks both sides and puts the answers together; nothing here loads a model or starts a server, so that
every fault can be planted in a test. Each answer names what was found, the cause and the remedy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lekhai_helpers.ship.errors import QuantizeError
from lekhai_helpers.ship.gguf_facts import GgufFacts
from lekhai_helpers.ship.ollama_template import Modelfile, render_template

TEMPLATE, SPECIAL, PRE, PADDING, WEIGHTS, TRAINING, ROUNDING, NOT_SHOWN = (
    "template",
    "special token",
    "pre-tokenizer",
    "vocabulary padding",
    "weights",
    "training",
    "rounding",
    "not shown",
)
_AGAIN = "convert again from the folder the model was trained in, with convert_to_gguf"


@dataclass(frozen=True)
class Check:
    """One answer: which question, of which file, whether all is well, what was found; if not, why and what to do."""

    name: str
    file: str
    passed: bool
    found: str
    cause: str = ""
    fix: str = ""


@dataclass(frozen=True)
class Reference:
    """What Hugging Face makes of the prompts, and the folder's dictionary.

    `rendered` and `ids` belong to the prompts; `ends` are all ids that end an answer, `turn_end` the one its template
    writes behind an answer (None: none); `rows` is the height of the embedding table; `added` are ids of added tokens.
    """

    rendered: tuple[str, ...]
    ids: tuple[tuple[int, ...], ...]
    pieces: tuple[str, ...]
    rows: int
    bos: int | None
    ends: frozenset[int]
    turn_end: int | None
    special: frozenset[int]
    added: frozenset[int]
    bos_text: str = ""


@dataclass(frozen=True)
class View:
    """What llama.cpp makes of the same prompts with one file.

    `rendered` comes from the template inside the file, `ids` from cutting Hugging Face's text, `started` from cutting
    its own text as for an answer, start mark included; `evaluated` counts the tokens really read for the first prompts.
    `ends` are all ids at which llama.cpp stops.
    """

    name: str
    facts: GgufFacts
    rendered: tuple[str, ...]
    ids: tuple[tuple[int, ...], ...]
    started: tuple[tuple[int, ...], ...]
    evaluated: tuple[int, ...]
    ends: frozenset[int]


def first_difference(ours: Sequence, theirs: Sequence) -> int | None:
    """Return the first place where two texts or lists differ; None where they are the same."""
    if ours == theirs:
        return None
    pairs = zip(ours, theirs, strict=False)
    return next((place for place, (a, b) in enumerate(pairs) if a != b), min(len(ours), len(theirs)))


def check_vocabulary(reference: Reference, facts: GgufFacts, file: str) -> Check:
    """Are the dictionaries the same, entry by entry, and as long as the table of weights?"""
    name, known = "vocabulary", len(facts.pieces)
    if not known == facts.rows == reference.rows:
        found = f"{known} tokens and {facts.rows} rows of weights in the file, {reference.rows} rows in the model"
        fix = (
            "make tokenizer and weights equally long before converting: model.resize_token_embeddings(len(tokenizer)), "
            f"save both, then {_AGAIN}"
        )
        return Check(name, file, False, found, PADDING, fix)
    both = enumerate(zip(reference.pieces, facts.pieces, strict=False))
    # Added tokens are written with plain spaces in some files; the ids of those that matter are checked by themselves.
    other = next((i for i, (a, b) in both if a != b and i not in reference.added), None)
    if other is not None:
        found = f"token {other} is {reference.pieces[other]!r} in the model and {facts.pieces[other]!r} in the file"
        return Check(name, file, False, found, PADDING, f"the file has another dictionary: {_AGAIN}")
    return Check(name, file, True, f"{known} tokens, the same on both sides")


def check_rendered(reference: Reference, view: View) -> Check:
    """Does the template inside the file lay out every prompt as Hugging Face does (start mark aside)?"""
    pairs = [
        (a.removeprefix(reference.bos_text), b.removeprefix(reference.bos_text))
        for a, b in zip(reference.rendered, view.rendered, strict=True)
    ]
    return _same_text("rendered text", view.name, pairs, f"the file carries another chat template: {_AGAIN}")


def _same_text(name: str, file: str, pairs: Sequence[tuple[str, str]], fix: str) -> Check:
    wrong = [(place, a, b) for a, b in pairs if (place := first_difference(a, b)) is not None]
    if not wrong:
        return Check(name, file, True, f"{len(pairs)} of {len(pairs)} prompts the same")
    place, ours, theirs = wrong[0]
    cut = slice(max(0, place - 8), place + 16)
    found = f"{len(wrong)} of {len(pairs)} prompts differ, first at sign {place}: {ours[cut]!r} became {theirs[cut]!r}"
    return Check(name, file, False, found, TEMPLATE, fix)


def check_ids(reference: Reference, view: View) -> Check:
    """Is Hugging Face's text cut into the same tokens, and the same text as llama.cpp lays it out itself?"""
    name, count = "token ids", len(reference.ids)
    wrong = [
        pair for pair in [*zip(reference.ids, view.ids, strict=True), *_own(reference, view)] if pair[0] != pair[1]
    ]
    if not wrong:
        return Check(name, view.name, True, f"{count} of {count} prompts the same")
    ours, theirs = wrong[0]
    place = first_difference(ours, theirs) or 0
    near = (
        [reference.pieces[i] if i < len(reference.pieces) else str(i) for i in ids[place : place + 4]]
        for ids in (ours, theirs)
    )
    found = "{} of {} readings differ, first at token {}: {} became {}".format(len(wrong), 2 * count, place, *near)
    if {*ours[place : place + 1], *theirs[place : place + 1]} & reference.special:
        fix = f"the file does not mark its special tokens as such: {_AGAIN}"
        return Check(name, view.name, False, found, SPECIAL, fix)
    how = f"kind {view.facts.kind!r}, pre-tokenizer {view.facts.pre!r}"
    fix = f"the file cuts text by another rule ({how}): use the converter of requirements.txt, and {_AGAIN}"
    return Check(name, view.name, False, found, PRE, fix)


def _own(reference: Reference, view: View) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Return both sides' ids, start marks aside, of the prompts that both lay out alike; the others say nothing."""
    bos, mark = reference.bos_text, reference.bos
    rows = zip(reference.rendered, view.rendered, reference.ids, view.started, strict=True)
    alike = [(ours, theirs) for a, b, ours, theirs in rows if a.removeprefix(bos) == b.removeprefix(bos)]
    return [(ours[_leading(ours, mark) :], theirs[_leading(theirs, mark) :]) for ours, theirs in alike]


def check_bos(reference: Reference, view: View) -> Check:
    """Does what llama.cpp really reads begin with exactly one start mark, as Hugging Face's ids do?"""
    name, bos = "BOS once", reference.bos
    counts = {_leading(ids, bos) for ids in view.started}
    expected = {_leading(ids, bos) for ids in reference.ids}
    lengths = [len(ids) for ids in reference.ids[: len(view.evaluated)]]
    if counts == expected and len(expected) == 1 and expected <= {0, 1} and lengths == list(view.evaluated):
        return Check(name, view.name, True, f"{min(counts)} at the start of {len(view.started)} prompts")
    fault = f"{_listed(counts)} at the start where Hugging Face has {_listed(expected)}"
    found = fault if counts != expected else f"{list(view.evaluated)} tokens read where Hugging Face has {lengths}"
    fix = (
        "one side alone may write the start mark: take it out of the chat template inside the file, or set "
        f"tokenizer.ggml.add_bos_token; simplest: {_AGAIN}"
    )
    return Check(name, view.name, False, found, TEMPLATE if max(counts) > 1 else SPECIAL, fix)


def _leading(ids: Sequence[int], token: int | None) -> int:
    return next((place for place, other in enumerate(ids) if other != token), len(ids))


def _listed(numbers: set[int]) -> str:
    return " or ".join(str(number) for number in sorted(numbers))


def check_ends(reference: Reference, view: View) -> Check:
    """Is the token that ends an answer known as an end on both sides?"""
    name, end, facts = "end of turn", reference.turn_end, view.facts
    if end is None:
        fix = "write eos_token behind the assistant's text in the chat template, and train again"
        return Check(name, view.name, False, "the chat template puts no token behind an answer", TEMPLATE, fix)
    piece = reference.pieces[end]
    if end not in reference.ends:
        fix = f"add {end} to eos_token_id in generation_config.json, and export again"
        found = f"answers end with {piece!r} ({end}), which Hugging Face does not stop at"
        return Check(name, view.name, False, found, SPECIAL, fix)
    if end not in view.ends or facts.eos not in reference.ends:
        found = (
            f"answers end with {piece!r} ({end}); the file names {facts.eos} as its end and stops at "
            f"{sorted(view.ends)[:4]}"
        )
        fix = f"tokenizer.ggml.eos_token_id must be {end}: {_AGAIN}"
        return Check(name, view.name, False, found, SPECIAL, fix)
    return Check(name, view.name, True, f"{piece!r} ({end}) ends an answer on both sides")


def check_modelfile(reference: Reference, found: Modelfile, prompts: Sequence[tuple[str, str]]) -> list[Check]:
    """Does the Modelfile lay out every prompt (system text, user's text) alike, and does it stop where answers end?

    Without a TEMPLATE Ollama reads the one inside the file, which is checked already.
    """
    name = "Modelfile"
    if found.template is None:
        return [Check("Modelfile template", name, True, "none: Ollama reads the one inside the file")]
    try:
        theirs = [render_template(found.template, system, prompt) for system, prompt in prompts]
    except QuantizeError as error:
        fix = "write it anew with write_modelfile"
        return [Check("Modelfile template", name, False, str(error), TEMPLATE, fix)]
    ours = [text.removeprefix(reference.bos_text) for text in reference.rendered]
    fix = "Ollama would ask otherwise than the model was trained: write it anew with write_modelfile"
    return [
        _same_text("Modelfile template", name, list(zip(ours, theirs, strict=True)), fix),
        _check_stop(reference, found),
    ]


def _check_stop(reference: Reference, found: Modelfile) -> Check:
    name, file = "Modelfile stop", "Modelfile"
    end = None if reference.turn_end is None else reference.pieces[reference.turn_end]
    ends = {reference.pieces[number] for number in reference.ends if number < len(reference.pieces)}
    wrong = [stop for stop in found.stops if stop not in ends]
    if end in found.stops and not wrong:
        return Check(name, file, True, f"stops at {end!r}")
    what = f"stops at {', '.join(map(repr, found.stops)) or 'nothing of its own'}; answers end with {end!r}"
    return Check(name, file, False, what, SPECIAL, f'it must say PARAMETER stop "{end}" and no other stop')
