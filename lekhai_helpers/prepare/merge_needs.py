"""What a merge will take of this machine: memory, disk and time, said before it begins. Notebook 02."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lekhai_helpers.prepare.model_facts import ModelFacts, count_parameters
from lekhai_helpers.prepare.preflight import Verdict

_GIB_IN_GB = 1.0737  # the machine's sizes are GiB


@dataclass(frozen=True)
class Need:
    """What the merge will need of the machine, what the machine has, and what follows."""

    what: str
    needs: str
    has: str
    verdict: Verdict
    consequence: str


def resources(first: ModelFacts, second: ModelFacts, machine: Mapping[str, Any], merges: int = 1) -> list[Need]:
    """Return what `merges` merges of this pair take in memory, disk and time, against `hardware.machine()`.

    Only the best merge so far is kept beside the newest, so the disk holds two at most, however many are made.
    Measured with mergekit 0.1.5 on two cores: one merge of two 7.6B models took 4 to 16 minutes and 5.2 to 8.4 GB of
    memory. Time grows with the number of parameters. Memory: two inputs and the output whole for a small model, a
    shard of them for a large one, and 1 GB for Python. Sizes in GB of 16-bit weights.
    """
    parameters = max(count_parameters(first.config), count_parameters(second.config))
    weights = parameters * 2 / 1e9
    size = parameters / 7.6e9
    memory = 1 + min(3 * weights, 8.4 * max(1.0, size))
    downloads = sum(facts.name in facts.ancestors for facts in (first, second))  # a folder is here already
    # The best merge so far, and one copy more: the newest merge, or later the GGUF of the conversion test.
    disk = weights * (downloads + min(merges, 1) + 1)
    free, total = machine["ram_free_gb"] * _GIB_IN_GB, machine["ram_gb"] * _GIB_IN_GB
    return [
        _need_memory(memory, free, total),
        _need_disk(disk, machine["disk_free_gb"] * _GIB_IN_GB),
        _need_time(4 * size * merges, 16 * size * merges, machine["cores"]),
    ]


def shortages(needs: Sequence[Need]) -> list[str]:
    """Return in words what this machine lacks; an empty list means the merges can be made here."""
    return [f"{n.what}: {n.needs} needed, {n.has}, so {n.consequence}" for n in needs if n.verdict == "block"]


def resources_table(needs: Sequence[Need]):
    """Return the needs as a pandas table."""
    import pandas as pd

    rows = [(n.what, n.needs, n.has, n.verdict, n.consequence if n.verdict != "pass" else "") for n in needs]
    return pd.DataFrame(rows, columns=["what", "needs", "has", "verdict", "consequence"]).set_index("what")


def _need_memory(needs: float, free: float, total: float) -> Need:
    verdict: Verdict = "pass" if needs <= free else "warn" if needs <= total else "block"
    why = {"warn": "close other programs first", "block": "this machine is too small: merge on a larger one"}
    return Need("memory", f"{needs:.1f} GB", f"{free:.1f} of {total:.1f} GB free", verdict, why.get(verdict, ""))


def _need_disk(needs: float, free: float) -> Need:
    verdict: Verdict = "pass" if needs <= 0.8 * free else "warn" if needs <= free else "block"
    why = {
        "warn": "the disk will be nearly full: delete old runs",
        "block": "donors, two merges at a time and the rest do not fit: make room, or merge on a larger disk",
    }
    return Need("disk", f"{needs:.1f} GB", f"{free:.1f} GB free", verdict, why.get(verdict, ""))


def _need_time(low: float, high: float, cores: int) -> Need:
    verdict: Verdict = "warn" if high > 60 else "pass"
    why = "more than an hour in the worst case: take fewer t"
    return Need("time", f"{low:.1f} to {high:.1f} minutes on two cores", f"{cores} cores", verdict, why)
