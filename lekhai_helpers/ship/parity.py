"""The parity gate: are the Hugging Face folder, the GGUF files and the Modelfile one and the same model?

``parity_gate(folder, files, settings, prompts, heldout, modelfile)`` asks all of them the same and returns a `Parity`:
``print(gate.sentence)`` says "Export OK" only where the gate passed, and names the files that pass and those that do
not; ``gate.table()`` shows each check with cause and remedy, ``gate.rows`` what each file costs in quality. After the
recommendation, `modelfile_checks` asks the Modelfile that really ships. Taught in notebook 12.

Hard are: text, tokens, start and end marks of every file; and that the 16-bit file gives tokens the same probabilities.
Every file must end answers where Hugging Face ends them, and keep its contract share: a smaller one that does not is
named as not passed, and is not recommended. Not hard are the greedy texts, since two sums rounded otherwise may part
ways at any word. The Modelfile is held to text, stop and file: Ollama itself is not run, so it has no tokens to show.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from lekhai_helpers.core.recipe import Decoding, Settings
from lekhai_helpers.learn.model import Generation, Message
from lekhai_helpers.prepare.contracts import get_contract
from lekhai_helpers.ship import parity_answers as answered
from lekhai_helpers.ship import parity_checks as checks
from lekhai_helpers.ship.budgets import check_disk
from lekhai_helpers.ship.errors import QuantizeError
from lekhai_helpers.ship.gguf_facts import GgufFacts, read_facts
from lekhai_helpers.ship.llama_server import LlamaServer
from lekhai_helpers.ship.ollama_template import read_modelfile
from lekhai_helpers.ship.parity_checks import Check, Reference, View
from lekhai_helpers.ship.parity_reference import reference
from lekhai_helpers.ship.parity_result import Parity
from lekhai_helpers.ship.scoring import (
    Passage,
    Scored,
    distance,
    distinct_scripts,
    kept_mb,
    kl_interval,
    passages,
    score_gguf,
    score_model,
)

# Nats a token, on average. Measured on the embedded base: 0.006 from Hugging Face in 32 bits, 0.09 from it in bfloat16,
# whose sums are the rougher ones.
MOST_DISTANCE, _MOST_IN_16_BIT = 0.05, 0.25
_EXACT_UP_TO = 1_500_000_000  # parameters; larger models are compared in the 16 bits they are stored in


def parity_gate(
    folder: Path,
    files: Mapping[str, Path],
    settings: Settings,
    prompts: Sequence[Sequence[Message]],
    heldout: Sequence[Mapping[str, Any]],
    modelfile: Path | None = None,
    greedy: int = 4,
    shares: Mapping[str, float] | None = None,
) -> Parity:
    """Compare the model in `folder` with GGUF `files` (kind to path, the 16-bit one first) and with `modelfile`.

    `prompts` are messages, 20 of them by rule; the first `greedy` are also answered, and without any the gate does not
    pass. `heldout` are dataset rows that nothing was trained or chosen on; each script counts once. `shares` are
    contract shares (0 to 1) by kind, from a larger exam, and then a condition: without them those of the greedy
    answers stand in the rows.

    Raises QuantizeError where there is no file, no prompt or no held-out row, and ExportError where the disk has no
    room for the predictions that are compared.
    """
    if not files or not heldout or not prompts:
        raise QuantizeError("the parity gate needs a GGUF file, a prompt and a held-out row: see notebooks 03 and 12")
    decoding = settings.decoding.model_copy(update={"temperature": 0.0, "repetition_penalty": 1.0})
    with tempfile.TemporaryDirectory() as place:
        gate = _Gate(
            folder, settings, decoding, prompts, distinct_scripts(heldout), greedy, Path(place) / "rows", shares or {}
        )
        gate.ask_hugging_face()
        for kind, path in files.items():
            gate.ask_file(kind, path)
        if modelfile is not None:
            names = {path.name for path in files.values()}
            gate.checks += modelfile_checks(gate.reference, modelfile, gate.prompts, settings, names)
    return _with_verdicts(Parity(tuple(gate.checks), tuple(gate.rows), len(prompts), len(gate.written)))


def _with_verdicts(parity: Parity) -> Parity:
    """Return the same with ``passed`` in each file's row."""
    rows = tuple(row | {"passed": row["file"] in parity.passed} for row in parity.rows)
    return Parity(parity.checks, rows, parity.prompts, parity.greedy)


class _Gate:
    """The work of `parity_gate`: first Hugging Face, whose answers the files are then held against."""

    def __init__(self, folder, settings, decoding, prompts, heldout, greedy, kept, shares) -> None:
        self.folder: Path = Path(folder)
        self.settings: Settings = settings
        self.decoding: Decoding = decoding
        self.prompts: list[list[Message]] = [list(prompt) for prompt in prompts]
        self.heldout, self.greedy, self.kept, self.shares = heldout, greedy, kept, dict(shares)
        self.checks: list[Check] = []
        self.rows: list[dict[str, Any]] = []
        self.whole_share: float | None = None

    def ask_hugging_face(self) -> None:
        """Render, cut, write and read with Hugging Face, then let go of the model."""
        from lekhai_helpers.learn.model import generate, load_plain

        model, tokenizer = load_plain(self.folder)
        exact = sum(parameter.numel() for parameter in model.parameters()) <= _EXACT_UP_TO
        model = model.float() if exact else model
        self.most_distance = MOST_DISTANCE if exact else _MOST_IN_16_BIT
        self.reference = reference(self.folder, tokenizer, self.prompts)
        self.texts: list[Passage] = passages(tokenizer, self.heldout)
        check_disk(kept_mb(self.texts, self.reference.rows), self.kept.parent, "comparing predictions")
        self.written: list[Generation] = (
            generate(model, tokenizer, self.prompts[: self.greedy], self.decoding, 1) if self.greedy else []
        )
        self.scored: Scored = score_model(model, self.texts)

    def ask_file(self, kind: str, path: Path) -> None:
        """Ask one file all of it; a file that cannot be read or loaded is a failed check and nothing more."""
        try:
            facts = read_facts(path)
            self.checks.append(checks.check_vocabulary(self.reference, facts, path.name))
            first = not self.rows
            scored = score_gguf(
                path, self.texts, keep=self.kept if first else None, against=self.kept if not first else None
            )
            view, answers = self._view(path, facts, scored)
        except QuantizeError as error:
            self.checks.append(self._not_loaded(path, str(error)))
            return
        for check in (checks.check_rendered, checks.check_ids, checks.check_bos, checks.check_ends):
            self.checks.append(check(self.reference, view))
        row = self._row(kind, path, scored, answers)
        self.checks.append(
            answered.check_stops(path.name, self._ended, _stopped(answers), first, self._parted(answers))
        )
        if first:
            self.whole_share = self.shares.get(kind)
            self.checks.append(answered.check_distance(path.name, row["dlogp"], self.most_distance))
        elif kind in self.shares and self.whole_share is not None:
            self.checks.append(answered.check_share(path.name, self.shares[kind], self.whole_share))
        self.rows.append(row)

    @property
    def _ended(self) -> list[bool]:
        return [text.stopped for text in self.written]

    def _parted(self, answers: Sequence[Mapping[str, Any]]) -> list[bool]:
        """Say of each greedy answer whether it left Hugging Face's text before that ended."""
        pairs = zip(self.written, answers, strict=True)
        return [not answer["content"].startswith(text.text.rstrip()) for text, answer in pairs]

    def _not_loaded(self, path: Path, found: str) -> Check:
        padded = any(check.file == path.name and check.cause == checks.PADDING for check in self.checks)
        cause = checks.PADDING if padded else checks.WEIGHTS
        return Check("loads", path.name, False, found, cause, "convert again with convert_to_gguf, and quantise anew")

    def _view(self, path: Path, facts: GgufFacts, scored: Scored) -> tuple[View, list[dict[str, Any]]]:
        """Start llama.cpp's server on the file and ask it what it makes of the prompts."""
        with LlamaServer(path, context=self.settings.model.max_seq_length, slots=1) as server:
            rendered = tuple(server.render(prompt) for prompt in self.prompts)
            answers = [server.complete(text, self.decoding, 1) for text in rendered[: self.greedy]]
            view = View(
                name=path.name,
                facts=facts,
                rendered=rendered,
                ids=tuple(tuple(server.tokenize(text)) for text in self.reference.rendered),
                started=tuple(tuple(server.tokenize(text, start=True)) for text in rendered),
                evaluated=tuple(answer["tokens_evaluated"] for answer in answers),
                ends=frozenset(scored.facts["ends"]),
            )
        return view, answers

    def _row(self, kind: str, path: Path, scored: Scored, answers: list[dict[str, Any]]) -> dict[str, Any]:
        texts = [answer["content"] for answer in answers]
        places = [checks.first_difference(ours.text, text) for ours, text in zip(self.written, texts, strict=True)]
        contract = get_contract(self.settings.data.contract)
        share = self.shares.get(kind, _share([contract(text).ok for text in texts]))
        low, high = kl_interval(scored, self.settings.seed) or (None, None)
        return {
            "file": path.name,
            "size_mb": round(path.stat().st_size / 1e6, 1),
            "perplexity": round(scored.perplexity, 3),
            "distance": round(scored.kl, 5) if scored.kl is not None else 0.0,
            "distance_low": None if low is None else round(low, 5),
            "distance_high": None if high is None else round(high, 5),
            "scripts": len(self.texts),
            "places": scored.places,
            "dlogp": round(distance(scored, self.scored), 5),
            "same_next": round(scored.same_next, 4) if scored.same_next is not None else 1.0,
            "greedy_equal": f"{sum(place is None for place in places)} of {len(places)}",
            "first_difference": next((place for place in places if place is not None), None),
            "stopped_share": _share(_stopped(answers)),
            "valid_share": share,
        }


def modelfile_checks(
    known: Reference, path: Path, prompts: Sequence[Sequence[Message]], settings: Settings, names: Collection[str]
) -> list[Check]:
    """Hold a Modelfile, read back from disk, against Hugging Face: template text, stop, system text, and its file.

    `known` is `parity_reference.reference` of the model's folder and the same prompts; `names` are the files it may
    build on: for the one that ships, the recommended file alone.
    """
    found = read_modelfile(path.read_text(encoding="utf-8"))
    there = found.source.removeprefix("./") in names and found.system in (None, settings.system_prompt)
    what = f"builds on {found.source}, system text {'as trained' if there else 'or file not as examined'}"
    cause, fix = ("", "") if there else (checks.TEMPLATE, "write it anew with write_modelfile, naming an examined file")
    # Ollama's template language is read here for one question; a longer conversation Ollama puts together by itself.
    pairs = [_system_and_user(prompt) for prompt in prompts if len(prompt) <= 2]
    return [
        *checks.check_modelfile(known, found, pairs),
        Check("Modelfile file", path.name, there, what, cause, fix),
    ]


def _system_and_user(prompt: Sequence[Message]) -> tuple[str, str]:
    """Return the two texts an Ollama template takes, trimmed as our chat template trims them."""
    said = {message["role"]: message["content"].strip() for message in prompt}
    return said.get("system", ""), said.get("user", "")


def _stopped(answers: Sequence[Mapping[str, Any]]) -> list[bool]:
    return [answer["stop_type"] in ("eos", "word") for answer in answers]


def _share(hits: Sequence[bool]) -> float:
    return round(sum(hits) / len(hits), 4) if hits else 0.0
