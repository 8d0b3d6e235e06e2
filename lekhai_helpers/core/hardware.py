"""What this machine has, and which profile fits it. Shown by ``lekhai doctor`` and in notebook 01.

Cards are found by asking ``nvidia-smi``; torch is asked only where that says nothing and torch could know.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

_GIB = 1024**3
# What the rtx5070 profile needs: room for a 9B model in 4 bits, and hardware bf16 (compute capability 8.0).
_ROOMY_GB, _BF16_CAPABILITY = 11.0, (8, 0)


def machine() -> dict[str, Any]:
    """Return the machine's facts; sizes in GiB. The card's four are None where there is none.

    With several cards they describe the first, and ``gpus`` says how many there are.
    """
    import psutil

    memory = psutil.virtual_memory()
    limit = _container_memory() or memory.total
    cards = _cards()
    first = cards[0] if cards else {}
    return {
        "cpu": _cpu_name(),
        "cores": _cores(),
        "ram_gb": round(min(memory.total, limit) / _GIB, 1),
        "ram_free_gb": round(min(memory.available, limit) / _GIB, 1),
        "disk_free_gb": round(shutil.disk_usage(_runs_folder()).free / _GIB, 1),
        "gpu": first.get("name"),
        "gpus": len(cards),
        "gpu_memory_gb": first.get("memory_gb"),
        "compute_capability": first.get("capability"),
        "driver": first.get("driver"),
        "python": platform.python_version(),
        "platform": platform.platform(terse=True),
        "on_colab": on_colab(),
    }


def pick_profile() -> tuple[str, str]:
    """Return the profile that fits this machine, and why, in plain words."""
    cards = _cards()
    if not cards:
        return "cpu", "no NVIDIA card was found"
    card = cards[0]
    told = f"one {card['name']} with {card['memory_gb']} GB, compute capability {card['capability']}"
    if card["memory_gb"] >= _ROOMY_GB and has_bf16(card["capability"]):
        return "rtx5070", f"{told}: room for a 9B model in 4 bits, and bf16"
    missing = "no hardware bf16" if card["memory_gb"] >= _ROOMY_GB else f"less than {_ROOMY_GB:.0f} GB"
    return "colab-t4", f"{told}: {missing}, so the 1B model is the one that fits"


def has_bf16(capability: str | None) -> bool:
    """Whether a card computes in bf16 itself. torch's own test also counts emulation, and says yes on a T4."""
    return capability is not None and _pair(capability) >= _BF16_CAPABILITY


def on_colab() -> bool:
    """Whether this is a Google Colab machine."""
    if os.environ.get("COLAB_RELEASE_TAG"):
        return True
    with contextlib.suppress(ModuleNotFoundError):  # the parent package "google" may be absent altogether
        return importlib.util.find_spec("google.colab") is not None
    return False


def card_holds(megabytes: float) -> bool:
    """Say whether there is a card with room for weights of so many MB (10^6 bytes), a fifth more, and 2 GB to work."""
    import torch

    if not torch.cuda.is_available():
        return False
    free, _ = torch.cuda.mem_get_info()
    return free / 1e6 >= megabytes * 1.2 + 2000


def memory_mb() -> float:
    """Return how much memory this process holds now (resident), in MiB."""
    import psutil

    return psutil.Process().memory_info().rss / 1024**2


def peak_memory_mb() -> float:
    """Return the most memory this process has held so far (resident), in MiB.

    Linux is asked for this process's own high-water mark: getrusage would count what the parent held before
    it started us.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next((row for row in status.read_text().splitlines() if row.startswith("VmHWM")), None)
        if line is not None:
            return int(line.split()[1]) / 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1024**2 if sys.platform == "darwin" else peak / 1024


def _cards() -> list[dict[str, Any]]:
    """Return the cards this process may use, in order: name, memory_gb, capability ("12.0"), driver."""
    return _visible(_cards_by_smi()) or _cards_by_torch()


def _cards_by_smi() -> list[dict[str, Any]]:
    fields = "name,memory.total,compute_cap,driver_version,uuid"
    command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):  # absent, or there without a working driver
        return []
    cards = []
    for line in answer.splitlines():
        name, memory, capability, driver, uuid = (part.strip() for part in line.split(","))
        if not memory.isdigit():  # "[N/A]" where card and machine share their memory: torch knows better
            return []
        gigabytes = round(int(memory) / 1024, 1)
        card = {"name": name, "memory_gb": gigabytes, "capability": capability, "driver": driver, "uuid": uuid}
        cards.append(card)
    return cards


def _cards_by_torch() -> list[dict[str, Any]]:
    """Ask torch, which may see a card where nvidia-smi is not on the PATH; a CPU build is not even loaded."""
    from lekhai_helpers.core.pins import installed

    if (installed("torch") or "+cpu").endswith("+cpu"):
        return []
    import torch

    cards = []
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        facts = torch.cuda.get_device_properties(index)
        memory = round(facts.total_memory / _GIB, 1)
        capability = f"{facts.major}.{facts.minor}"
        cards.append({"name": facts.name, "memory_gb": memory, "capability": capability, "driver": None})
    return cards


def _visible(cards: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Keep the cards that CUDA_VISIBLE_DEVICES allows, in its order; without it, all."""
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is None:
        return cards
    chosen = []
    for word in (part.strip() for part in allowed.split(",")):
        match = [card for i, card in enumerate(cards) if word == str(i) or (word and card["uuid"].startswith(word))]
        if not match:
            break  # as CUDA does: the list ends at the first unknown entry
        chosen += match[:1]
    return chosen


def _pair(capability: str) -> tuple[int, int]:
    """Turn "12.0" into (12, 0)."""
    major, _, minor = capability.partition(".")
    return int(major), int(minor or 0)


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _cores() -> int:
    """Return the cores this process may run on, which can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _container_memory() -> int | None:
    """Return the memory limit of the container in bytes, or None where there is none."""
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.exists() else "max"
    return None if text == "max" else int(text)


def _runs_folder() -> Path:
    """Return the nearest folder that exists on the way to where runs are kept."""
    folder = Path(os.environ.get("LEKHAI_RUNS", ".")).expanduser().resolve()
    return next(place for place in (folder, *folder.parents) if place.exists())
