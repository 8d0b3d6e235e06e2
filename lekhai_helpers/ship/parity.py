"""The parity gate: are the Hugging Face folder, the GGUF files and the Modelfile one and the same model?

``parity_gate(folder, files, settings, prompts, heldout, modelfile)`` asks all of them the same and returns a `Parity`:
``print(gate.sentence)`` says "Export OK" only where every check passed, ``gate.table()`` shows each with cause and
remedy, ``gate.rows`` holds what each file costs in quality. Taught in notebook 12.

Hard are: text, tokens, start and end marks of every file; that the 16-bit file ends answers by itself as Hugging Face
does, and gives tokens the same probabilities. Not hard are the greedy texts, since two sums rounded otherwise may part
ways at any word, and what a smaller file loses, which is what the rows are for.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lekhai_helpers.core.recipe import Decoding, Settings
from lekhai_helpers.learn.model import Generation, Message
from lekhai_helpers.prepare.contracts import get_contract
from lekhai_helpers.ship import parity_checks as checks
from lekhai_helpers.ship.errors import QuantizeError
from lekhai_helpers.ship.gguf_facts import GgufFacts, read_facts
from lekhai_helpers.ship.llama_server import LlamaServer
from lekhai_helpers.ship.ollama_template import read_modelfile
from lekhai_helpers.ship.parity_checks import Check, View
from lekhai_helpers.ship.parity_reference import reference
from lekhai_helpers.ship.scoring import Passage, Scored, distance, passages, score_gguf, score_model

# Nats a token, on average. Measured on the embedded base: 0.006 from Hugging Face in 32 bits, 0.09 from it in bfloat16,
# whose sums are the rougher ones.
MOST_DISTANCE, _MOST_IN_16_BIT = 0.05, 0.25
_STOP_SLACK = 0.25  # share of greedy answers that may run on where Hugging Face stopped
_EXACT_UP_TO = 1_500_000_000  # parameters; larger models are compared in the 16 bits they are stored in


@dataclass(frozen=True)
class Parity:
    """The gate's answer: every check, and a row of figures for each file, the 16-bit one first.

    A row: file, size_mb, perplexity (of held-out answers), distance (mean Kullback-Leibler divergence from the 16-bit
    file, nats), dlogp (mean absolute difference to Hugging Face at the token that follows, nats), same_next (share of
    places with the same likeliest token), greedy_equal ("3 of 4"), first_difference, stopped_share, valid_share.
    """

    checks: tuple[Check, ...]
    rows: tuple[dict[str, Any], ...]
    prompts: int

    @property
    def ok(self) -> bool:
        """Say whether every check passed, and there was one."""
        return bool(self.checks) and all(check.passed for check in self.checks)

    @property
    def faults(self) -> list[Check]:
        """Return the failed checks that the export is to blame for: a model that never ends was trained so."""
        return [check for check in self.checks if not check.passed and check.cause != checks.TRAINING]

    @property
    def sentence(self) -> str:
        """Return "Export OK ..." where the gate passed, else the first fault with cause and remedy."""
        if self.ok:
            return (
                f"Export OK: on {self.prompts} prompts {len(self.rows)} GGUF files and the Modelfile give Hugging "
                "Face's text and tokens, one start mark and an end that all know."
            )
        wrong = [check for check in self.checks if not check.passed]
        if not wrong:
            return "Not passed: nothing was checked."
        one = wrong[0]
        return (
            f"Not passed: {len(wrong)} of {len(self.checks)} checks failed. First: {one.name} of {one.file}: "
            f"{one.found}. Cause: {one.cause}. Remedy: {one.fix}."
        )

    def table(self):
        """Return the checks as a pandas table: check, file, passed, found, cause, fix."""
        import pandas as pd

        return pd.DataFrame([vars(check) for check in self.checks]).set_index("name")

    def figures(self):
        """Return the rows as a pandas table, one for each file."""
        import pandas as pd

        return pd.DataFrame(self.rows).set_index("file")


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

    `prompts` are messages, 20 of them by rule; the first `greedy` are also answered. `heldout` are dataset rows that
    nothing was trained on; `shares` are contract shares (0 to 1) by kind, from a larger exam: without them those of
    the greedy answers stand in the rows.

    Raises QuantizeError where there is no file or no held-out row.
    """
    if not files or not heldout:
        raise QuantizeError("the parity gate needs a GGUF file and a held-out row: see notebooks 03 and 12")
    decoding = settings.decoding.model_copy(update={"temperature": 0.0, "repetition_penalty": 1.0})
    with tempfile.TemporaryDirectory() as place:
        gate = _Gate(
            folder, settings, decoding, prompts, list(heldout), greedy, Path(place) / "rows", dict(shares or {})
        )
        gate.ask_hugging_face()
        for kind, path in files.items():
            gate.ask_file(kind, path)
        if modelfile is not None:
            gate.ask_modelfile(modelfile, {path.name for path in files.values()})
    return Parity(tuple(gate.checks), tuple(gate.rows), len(prompts))


class _Gate:
    """The work of `parity_gate`: first Hugging Face, whose answers the files are then held against."""

    def __init__(self, folder, settings, decoding, prompts, heldout, greedy, kept, shares) -> None:
        self.folder: Path = Path(folder)
        self.settings: Settings = settings
        self.decoding: Decoding = decoding
        self.prompts: list[list[Message]] = [list(prompt) for prompt in prompts]
        self.heldout, self.greedy, self.kept, self.shares = heldout, greedy, kept, shares
        self.checks: list[Check] = []
        self.rows: list[dict[str, Any]] = []

    def ask_hugging_face(self) -> None:
        """Render, cut, write and read with Hugging Face, then let go of the model."""
        from lekhai_helpers.learn.model import generate, load_plain

        model, tokenizer = load_plain(self.folder)
        exact = sum(parameter.numel() for parameter in model.parameters()) <= _EXACT_UP_TO
        model = model.float() if exact else model
        self.most_distance = MOST_DISTANCE if exact else _MOST_IN_16_BIT
        self.reference = reference(self.folder, tokenizer, self.prompts)
        self.texts: list[Passage] = passages(tokenizer, self.heldout)
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
        if first:
            self.checks += [self._check_stops(path, row), self._check_distance(path, row)]
        self.rows.append(row)

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
        return {
            "file": path.name,
            "size_mb": round(path.stat().st_size / 1e6, 1),
            "perplexity": round(scored.perplexity, 3),
            "distance": round(scored.kl, 5) if scored.kl is not None else 0.0,
            "dlogp": round(distance(scored, self.scored), 5),
            "same_next": round(scored.same_next, 4) if scored.same_next is not None else 1.0,
            "greedy_equal": f"{sum(place is None for place in places)} of {len(places)}",
            "first_difference": next((place for place in places if place is not None), None),
            "stopped_share": _share([answer["stop_type"] in ("eos", "word") for answer in answers]),
            "valid_share": share,
        }

    def _check_stops(self, path: Path, row: Mapping[str, Any]) -> Check:
        name, ours, theirs = "stops by itself", _share([text.stopped for text in self.written]), row["stopped_share"]
        if not self.written:
            return Check(name, path.name, True, "not asked: no greedy answers")
        found = f"{theirs:.0%} of {len(self.written)} answers ended by themselves, {ours:.0%} in Hugging Face"
        if theirs > 0 and theirs >= ours - _STOP_SLACK:
            return Check(name, path.name, True, found)
        if ours == 0:
            fix = "train longer, or raise decoding.max_new_tokens: the model itself does not end its answers"
            return Check(name, path.name, False, found, checks.TRAINING, fix)
        fix = "the end-of-turn token is not the one the model writes: see the check of that name, then convert again"
        return Check(name, path.name, False, found, checks.SPECIAL, fix)

    def _check_distance(self, path: Path, row: Mapping[str, Any]) -> Check:
        name, found = "same probabilities", f"{row['dlogp']:.4f} nats a token from Hugging Face"
        if row["dlogp"] <= self.most_distance:  # NaN does not pass
            return Check(name, path.name, True, found)
        fix = "the weights are not those of the folder: convert the folder that was examined, and look for a warning"
        return Check(name, path.name, False, f"{found}, more than {self.most_distance}", checks.WEIGHTS, fix)

    def ask_modelfile(self, path: Path, names: set[str]) -> None:
        """Read the Modelfile back and hold it against Hugging Face."""
        found = read_modelfile(path.read_text(encoding="utf-8"))
        pairs = [_system_and_user(prompt) for prompt in self.prompts]
        self.checks += checks.check_modelfile(self.reference, found, pairs)
        there = found.source.removeprefix("./") in names and found.system in (None, self.settings.system_prompt)
        what = f"builds on {found.source}, system text {'as trained' if there else 'or file not as examined'}"
        fix = "write it anew with write_modelfile, naming one of the examined files"
        self.checks.append(
            Check("Modelfile file", path.name, there, what, "" if there else checks.TEMPLATE, "" if there else fix)
        )


def _system_and_user(prompt: Sequence[Message]) -> tuple[str, str]:
    """Return the two texts an Ollama template takes, trimmed as our chat template trims them."""
    said = {message["role"]: message["content"].strip() for message in prompt}
    return said.get("system", ""), said.get("user", "")


def _share(hits: Sequence[bool]) -> float:
    return round(sum(hits) / len(hits), 4) if hits else 0.0
