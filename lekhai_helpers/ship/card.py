"""The model card: README.md of the exported model, with figures from the ledger and from nowhere else.

Called by notebook 08: ``write_text(folder / "README.md", model_card(settings, ledger, figures))``; and by notebook 12
for the GGUF files, when the judges have been asked as well. The text stands in ``model_card.md.j2``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from lekhai_helpers.core.ledger import Ledger
from lekhai_helpers.core.ledger_judges import AUDIT_VERDICT, GEVAL
from lekhai_helpers.core.recipe import Settings, resolve
from lekhai_helpers.core.words import Words
from lekhai_helpers.prepare.contracts import get_contract, words_of

EMBEDDED_HUB_ID = "google/gemma-3-270m"  # what the embedded base is a quantised copy of
SFT_PHASE = "06_fine_tuning"

# What the hub knows as a licence; anything else has to be called "other" with a name.
_HUB_LICENCES = {"gemma", "apache-2.0", "mit", "llama3", "llama3.1", "llama3.2", "cc-by-4.0", "cc-by-nc-4.0"}


def model_card(
    settings: Settings,
    ledger: Ledger,
    figures: Mapping[str, Any] | None = None,
    gguf: str | None = None,
    stages: Collection[str] | None = None,
) -> str:
    """Return README.md for the exported model: a YAML header for the hub, and text for people.

    What was measured comes from `ledger` only; where nothing was measured the card says so. `figures` are further
    facts of the run by name, printed as they are, but for these: ``base_model`` (list of hub ids) and
    ``base_licence`` replace the recipe's where another base had to be used, ``merge_t`` (share of the structure
    donor in the base, None for an unmerged base), ``datasets`` (list of hub ids the data can be had from). With `gguf`,
    the name of the recommended file, the card is for a folder of GGUF files with their Modelfile. `stages` are those
    the model descends from, and only their figures are printed (None: all): a notebook that is run again must not
    credit its model with what a later one measured of another.
    """
    import jinja2

    words = words_of(settings)
    facts = dict(figures or {})
    licence = facts.pop("base_licence", settings.export.base_licence)
    merge_t = facts.pop("merge_t", None)
    bases = facts.pop("base_model", None) or _hub_bases(settings, merged=merge_t is not None)
    header = _header(settings, licence, bases, facts.pop("datasets", []), gguf)
    text = (resources.files("lekhai_helpers.ship") / "model_card.md.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    # As Python writes a text: jinja's own `tojson` is for HTML, and turns the marks of a tool call into \u003c.
    environment.filters["quoted"] = lambda text: json.dumps(text, ensure_ascii=False)
    return environment.from_string(text).render(
        header=yaml.safe_dump(header, allow_unicode=True, sort_keys=False),
        settings=settings,
        gguf=gguf,
        licence=licence,
        bases=bases,
        merge_t=merge_t,
        words=words,
        rule=get_contract(settings.data.contract).rule,
        data_name=Path(settings.data.file).name,
        own_data=own_data(settings),
        training=_training(ledger),
        valid=_valid_texts(ledger, stages, words),
        judges=_judges(ledger),
        results=_results(ledger, stages, words),
        facts={_cell(name): _cell(value) for name, value in facts.items()},
    )


def own_data(settings: Settings) -> bool:
    """Say whether a user's own data were learned from, and not the sample that the recipe names."""
    return settings.data.file != resolve(settings.recipe, settings.profile).data.file


def _header(
    settings: Settings, licence: str, bases: list[str], datasets: list[str], gguf: str | None
) -> dict[str, Any]:
    """Return the metadata the hub reads. See https://huggingface.co/docs/hub/model-cards."""
    header: dict[str, Any] = {"language": [settings.language]}
    known = licence in _HUB_LICENCES
    header |= {"license": licence} if known else {"license": "other", "license_name": licence}
    if bases:
        header["base_model"] = list(bases)
    if datasets:
        header["datasets"] = list(datasets)
    library = {} if gguf else {"library_name": "transformers"}
    tags = list(dict.fromkeys([*settings.card.tags, "lora", "unsloth", settings.recipe, *(["gguf"] if gguf else [])]))
    return header | library | {"pipeline_tag": "text-generation", "tags": tags}


def _hub_bases(settings: Settings, merged: bool) -> list[str]:
    """Return the hub ids of the models this one was made from; a folder of the user's has none."""
    names = [settings.model.name]
    if merged:
        names += [donor.name for donor in (settings.merge.language, settings.merge.structure)]
    ids = [EMBEDDED_HUB_ID if name == "embedded" else name for name in names if name != "made-here"]
    return list(dict.fromkeys(name for name in ids if re.fullmatch(r"[\w.-]+/[\w.-]+", name)))


def _training(ledger: Ledger) -> dict[str, str]:
    """Return what the ledger knows of fine-tuning; empty where it was not run."""
    table = ledger.metrics(SFT_PHASE)
    if table.empty:
        return {}
    found = {"steps": str(int(table["step"].max()))}
    for name, title in (("loss", "last training loss"), ("eval_loss", "last validation loss")):
        values = table.loc[table["name"] == name, "value"].dropna()
        if len(values):
            found[title] = _number(values.iloc[-1])
    return found


def _summary(ledger: Ledger, stages: Collection[str] | None):
    table = ledger.summary()
    return table if stages is None else table[table["stage"].isin(list(stages))]


def _valid_texts(ledger: Ledger, stages: Collection[str] | None, words: Words) -> list[str]:
    """Return one sentence a stage: the share of texts that keep the contract, its interval, what it was counted on."""
    table = _summary(ledger, stages)
    sentences = []
    for row in table[(table["metric"] == "valid_tables") & table["value"].notna()].to_dict("records"):
        around = "" if _missing(row["low"]) else f", 95% interval {row['low']:.0%} to {row['high']:.0%}"
        counted = "" if _missing(row["n"]) else f", n={int(row['n'])}"
        sentences.append(f"{_cell(row['stage'])}: {row['value']:.0%} of the texts are {words.one}{around}{counted}")
    return sentences


def _judges(ledger: Ledger) -> list[str]:
    """Return what is known of each judge: the sentence of its audit, or that there was none."""
    table = ledger.audits()
    verdicts = table[table["metric"] == AUDIT_VERDICT].set_index("judge")
    said = {str(judge): _cell(row["note"]) or _bare(row["value"]) for judge, row in verdicts.iterrows()}
    names = dict.fromkeys([*said, *ledger.verdicts()["judge"]])
    return [f"{_cell(name)}: {said.get(name, 'not audited, so its scores are not to be trusted')}" for name in names]


def _bare(passed: float) -> str:
    return "it passed its audit" if passed == 1 else "it failed its audit, so its scores are not to be trusted"


def _results(ledger: Ledger, stages: Collection[str] | None, words: Words) -> list[dict[str, str]]:
    """Return the ledger's summary as cells of text, one dictionary a row; without judges' marks, as the card says."""
    rows, table = [], _summary(ledger, stages)
    for row in table[~table["metric"].str.startswith(GEVAL)].to_dict("records"):
        has_interval = not (_missing(row["low"]) or _missing(row["high"]))
        name = words.many if row["metric"] == "valid_tables" else str(row["metric"]).replace("_", " ")
        rows.append(
            {
                "stage": _cell(row["stage"]),
                "metric": _cell(name),
                "value": _number(row["value"]),
                "interval": f"{_number(row['low'])} to {_number(row['high'])}" if has_interval else "–",
                "n": "–" if _missing(row["n"]) else str(int(row["n"])),
                "note": _cell(row["note"]),
            }
        )
    return rows


def _missing(value: Any) -> bool:
    import pandas as pd

    return value is None or bool(pd.isna(value))


def _number(value: Any) -> str:
    return "not measured" if _missing(value) else f"{float(value):.3g}"


def _cell(value: Any) -> str:
    """Return a value as it can stand in a Markdown table."""
    return " ".join(str(value).split()).replace("|", "\\|")
