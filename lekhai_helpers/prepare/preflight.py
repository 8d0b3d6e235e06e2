"""The look before the merge: can these two models be merged? Notebook 02. (Room and time: `merge_needs`.)

mergekit checks architecture and tensor shapes and nothing else. Another rotary base, tied embeddings, a stranger's
dictionary or no common ancestor pass silently and give a model that speaks garbage. `check_mergeable` looks at what
it does not, from small files alone, before gigabytes are downloaded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lekhai_helpers.prepare.model_facts import (
    ModelConfig,
    ModelFacts,
    recorded_facts,
    rope_parameters,
    text_part,
)

Verdict = Literal["pass", "warn", "block"]


@dataclass(frozen=True)
class Check:
    """One row of the preflight: what was compared, what each side has, and what follows."""

    what: str
    first: Any
    second: Any
    verdict: Verdict
    consequence: str


# What must be equal, how bad it is when it is not, and why.
_FIELDS: dict[str, tuple[Verdict, str]] = {
    "architectures": ("block", "the two models are built differently"),
    "num_hidden_layers": ("block", "one model has layers the other lacks: there is nothing to blend them with"),
    "hidden_size": ("block", "the tensors have different widths and cannot be added"),
    "num_attention_heads": ("block", "the attention tensors have different shapes"),
    "num_key_value_heads": ("block", "the key and value tensors have different shapes"),
    "head_dim": ("block", "the attention heads have different widths"),
    "intermediate_size": ("block", "the MLP tensors have different shapes"),
    "vocab_size": ("warn", "the dictionaries have different sizes: say which pieces the merge shall have"),
    "rope parameters": (
        "block",
        "the models count positions differently; mergekit merges them without a word, into garbage",
    ),
    "tie_word_embeddings": ("block", "one model shares its first and last layer, one not"),
    "rms_norm_eps": ("warn", "the layers normalise a little differently; the merge takes the language donor's value"),
    "hidden_act": ("block", "the MLP layers bend numbers by different curves: their weights mean different things"),
    "dtype": ("warn", "the number formats differ; the merge is written in one"),
}
_UNRELATED = 0.5  # with fewer than half of the pieces in common two models speak of different things

# Licences whose terms travel with everything made from the model, and what others add or forbid.
_TRAVELS, _COPYLEFT, _NO_TRADE = ("gemma", "llama"), ("gpl", "agpl", "cc-by-sa"), ("-nc",)


def check_mergeable(first: ModelFacts | ModelConfig, second: ModelFacts | ModelConfig) -> list[Check]:
    """Compare two models by what their small files say.

    A ``block`` means: do not merge. A ``warn`` means: it will merge, and here is what to settle or to look up first.
    What one or both sides do not say is a warning, never a pass. A bare config is taken as a model of which nothing
    else is known.
    """
    a, b = _as_facts(first), _as_facts(second)
    left, right = _comparable(a), _comparable(b)
    checks = [_compare(what, left.get(what), right.get(what), *_FIELDS[what]) for what in _FIELDS]
    checks.append(_check_quantized(left, right))
    checks += [_check_tokens(a, b), _check_special(a, b), _check_licence(a, b), _check_lineage(a, b)]
    return [_mark(check, a.uncertain, b.uncertain) for check in checks]


def blocks(checks: Sequence[Check]) -> list[str]:
    """Return the reasons not to merge; an empty list means the pair can be merged."""
    return [f"{c.what}: {c.first} against {c.second}, so {c.consequence}" for c in checks if c.verdict == "block"]


def preflight_table(checks: Sequence[Check]):
    """Return the preflight as a pandas table: what, first, second, verdict, consequence."""
    import pandas as pd

    rows = [(c.what, c.first, c.second, c.verdict, c.consequence if c.verdict != "pass" else "") for c in checks]
    return pd.DataFrame(rows, columns=["what", "first", "second", "verdict", "consequence"]).set_index("what")


def pairs_table(pairs: Mapping[str, Sequence[str]], read: Callable[[str], ModelFacts] = recorded_facts):
    """Return a pandas table with one row a pair: the verdict, and the rows of its preflight that led to it."""
    import pandas as pd

    rows = []
    for name, (first, second) in pairs.items():
        checks = check_mergeable(read(first), read(second))
        found = {verdict: ", ".join(c.what for c in checks if c.verdict == verdict) for verdict in ("block", "warn")}
        verdict = "block" if found["block"] else "warn" if found["warn"] else "pass"
        rows.append((name, verdict, found["block"], found["warn"]))
    return pd.DataFrame(rows, columns=["pair", "verdict", "blocked by", "to look up or settle"]).set_index("pair")


def common_ancestor(first: ModelFacts, second: ModelFacts) -> str | None:
    """Return the nearest model both descend from (it may be one of them), or None where none is known."""
    return next((name for name in first.ancestors if name in second.ancestors), None)


def merged_licence(first: str | None, second: str | None) -> str | None:
    """Return the licence of a blend: the one both have, else both; None where one of them is not said."""
    if first is None or second is None:
        return None
    return first if first == second else f"{first} and {second}"


def _as_facts(model: ModelFacts | ModelConfig) -> ModelFacts:
    return model if isinstance(model, ModelFacts) else ModelFacts(name="", config=model)


def _comparable(facts: ModelFacts) -> dict[str, Any]:
    return text_part(facts.config) | {"rope parameters": rope_parameters(facts.config) or None}


def _compare(what: str, a: Any, b: Any, verdict: Verdict, why: str) -> Check:
    shown = _shown(a), _shown(b)
    if a is None or b is None:
        side = "neither model says it" if a is None and b is None else "only one of the two models says it"
        return Check(what, *shown, "warn", f"{side}: look it up before you merge")
    return Check(what, *shown, "pass" if _equal(a, b) else verdict, why)


def _shown(value: Any) -> Any:
    """Return a value as a table shows it: {"all": {"rope_theta": 1e4}} is "rope_theta 10000"."""
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if not isinstance(value, dict):
        return int(value) if isinstance(value, float) and value.is_integer() else value
    parts = [
        _shown(inner) if key == "all" else f"{key} {_shown(inner)}"
        for key, inner in value.items()
        if inner not in (None, "default")
    ]
    return ", ".join(str(part) for part in parts)


def _equal(a: Any, b: Any) -> bool:
    """Compare two values; a file that went through GGUF says 9.999999974752427e-07 and means 1e-06."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_equal(a[key], b[key]) for key in a)
    if isinstance(a, float) or isinstance(b, float):
        return isinstance(a, (int, float)) and isinstance(b, (int, float)) and math.isclose(a, b, rel_tol=1e-6)
    return a == b


def _check_quantized(a: ModelConfig, b: ModelConfig) -> Check:
    left, right = (bool(config.get("quantization_config")) for config in (a, b))
    verdict: Verdict = "block" if left or right else "pass"
    return Check("already quantised", left, right, verdict, "merge the 16-bit weights instead")


def _check_tokens(a: ModelFacts, b: ModelFacts) -> Check:
    """Compare the dictionaries: the share of all pieces that both have under the same id."""
    what = "same tokens"
    if a.tokens is None or b.tokens is None:
        left, right = (f"{len(facts.tokens)} tokens" if facts.tokens else None for facts in (a, b))
        return Check(what, left, right, "warn", "not both dictionaries are at hand: compare them before you merge")
    both = a.tokens.keys() & b.tokens.keys()
    same = sum(a.tokens[piece] == b.tokens[piece] for piece in both) / len(a.tokens.keys() | b.tokens.keys())
    left, right = (f"{len(tokens)} tokens, {same:.1%} the same" for tokens in (a.tokens, b.tokens))
    if len(both) < _UNRELATED * min(len(a.tokens), len(b.tokens)):
        return Check(what, left, right, "block", "they cut text by different dictionaries: layers expect other words")
    why = "some ids mean other words: let mergekit align them (tokenizer: union, or the language donor's)"
    return Check(what, left, right, "pass" if same == 1 else "warn", why)


def _check_special(a: ModelFacts, b: ModelFacts) -> Check:
    why = "the models begin or end a text with different tokens: the merge takes the language donor's; test it stops"
    return _compare("special tokens", a.special, b.special, "warn", why)


def _check_licence(a: ModelFacts, b: ModelFacts) -> Check:
    return _compare("licence", a.licence, b.licence, "warn", _licence_words(str(a.licence), str(b.licence)))


def _licence_words(a: str, b: str) -> str:
    """Say what two different licences mean for the merge."""

    def either(words: tuple[str, ...]) -> str | None:
        return next((name for name in (a, b) if any(word in name for word in words)), None)

    travels, copyleft, no_trade = either(_TRAVELS), either(_COPYLEFT), either(_NO_TRADE)
    if travels and copyleft:
        return f"conflict: {copyleft} forbids further terms and {travels} has some, so the merge may not be passed on"
    if no_trade:
        return f"the merge may not be used in trade, because {no_trade} forbids it"
    if travels:
        return f"the merge is under both {a} and {b}; the terms of {travels} bind everything made from it"
    return f"the merge is under both {a} and {b}: keep both texts with it"


def _check_lineage(a: ModelFacts, b: ModelFacts) -> Check:
    left, right = (facts.ancestors[-1] if facts.ancestors else None for facts in (a, b))
    if any(_origin_unknown(facts) for facts in (a, b)):
        return Check(
            "lineage", left, right, "warn", "whose child it is, is not said: look it up; strangers do not merge"
        )
    shared = common_ancestor(a, b)
    why = "no common ancestor is known: numbers of two strangers mean different things, and their mean means nothing"
    return Check("lineage", left, right, "pass" if shared else "warn", why)


def _origin_unknown(facts: ModelFacts) -> bool:
    return not facts.ancestors or "base_model" in facts.uncertain


def _mark(check: Check, first: frozenset[str], second: frozenset[str]) -> Check:
    """Put a question mark behind values that are not known for certain; equal ones then warn instead of pass."""
    field = {"lineage": "base_model"}.get(check.what, check.what)
    if field not in first | second:
        return check
    left = f"{check.first} (?)" if field in first else check.first
    right = f"{check.second} (?)" if field in second else check.second
    if check.verdict != "pass":
        return Check(check.what, left, right, check.verdict, check.consequence)
    return Check(
        check.what, left, right, "warn", "recorded from second hand: read the model's own files before you merge"
    )
