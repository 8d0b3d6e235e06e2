"""``lekhai doctor``: is this machine ready, and if not, what is to be done? Shown in notebook 01.

Nothing is believed: the matrix product is computed and compared, the 4-bit layer runs forward and backward,
each pin of requirements.txt is held against what is installed.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any, Literal

from lekhai_helpers.core.hardware import has_bf16, machine, pick_profile
from lekhai_helpers.core.pins import COLAB_KEEPS, REMEDY, Pin, installed, keeps_torch, read_pins
from lekhai_helpers.core.recipe import UNMEASURED, SettingsError, resolve

if TYPE_CHECKING:
    import pandas as pd

Status = Literal["ok", "warn", "fail"]
# float32 rounds at 6e-8; a card that multiplies in tf32 or worse shows errors of 1e-3 and more.
_MATMUL_ERROR = 1e-4
# NF4 keeps 16 levels: about a tenth of a normal weight is lost. Twice that means the kernel is wrong.
_FOUR_BIT_LOSS = 0.2


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: what was found, and what to do where it is not ok."""

    name: str
    status: Status
    found: str
    remedy: str = ""


def check(deep: bool = True) -> list[Finding]:
    """Look at machine, packages, font and embedded base; with `deep`, compute for real (about 10 seconds)."""
    facts = machine()
    findings = [*_machine(facts), *_pins(facts), *_cuda_leftovers(facts)]
    if deep:
        findings += [*_torch(facts), _four_bit(facts)]
    return [*findings, _bengali_font(), _embedded_base(), *_profile(facts)]


def report(findings: list[Finding]) -> pd.DataFrame:
    """Return the findings as a table for a notebook: one row each, columns status, found and remedy."""
    import pandas as pd

    return pd.DataFrame([asdict(finding) for finding in findings]).set_index("name")


def pin_table() -> pd.DataFrame:
    """Return every pin that applies to this machine: wanted version, installed version, how it is installed."""
    import pandas as pd

    on_gpu = machine()["gpu"] is not None
    rows = [(pin.name, pin.version, installed(pin.name) or "-", pin.kind) for pin in _wanted(on_gpu)]
    return pd.DataFrame(rows, columns=["package", "pinned", "installed", "kind"]).set_index("package")


def _machine(facts: dict[str, Any]) -> Iterator[Finding]:
    python = sys.version_info[:2]
    fits = (3, 11) <= python < (3, 15)
    yield Finding(
        "python",
        "ok" if fits else "fail",
        facts["python"],
        "" if fits else f"install Python 3.11, 3.12 or 3.13, then {REMEDY}",
    )
    yield Finding("processor", "ok", f"{facts['cpu']}, {facts['cores']} cores")
    yield Finding("memory", "ok", f"{facts['ram_gb']} GB, {facts['ram_free_gb']} GB free")
    yield Finding("disk", "ok", f"{facts['disk_free_gb']} GB free where runs are kept")
    yield _card(facts)


def _card(facts: dict[str, Any]) -> Finding:
    if facts["gpu"] is None and shutil.which("nvidia-smi") and os.environ.get("CUDA_VISIBLE_DEVICES") is None:
        return Finding("card", "warn", "nvidia-smi is there but names no card", "install or restart NVIDIA's driver")
    if facts["gpu"] is None:
        return Finding("card", "ok", "no NVIDIA card: everything runs on the processor")
    bf16 = "bf16" if has_bf16(facts["compute_capability"]) else "no hardware bf16, so fp16 is used"
    count = f"{facts['gpus']} cards, the first: " if facts["gpus"] > 1 else ""
    return Finding(
        "card",
        "ok",
        f"{count}{facts['gpu']}, {facts['gpu_memory_gb']} GB, compute capability {facts['compute_capability']} "
        f"({bf16}), driver {facts['driver'] or 'unknown'}",
    )


def _wanted(on_gpu: bool) -> list[Pin]:
    """Return the pins that a machine of this kind must have; base and fallback are looked at by themselves."""
    kinds = ("plain", "no-deps", "gpu") if on_gpu else ("plain", "no-deps")
    return [pin for pin in read_pins() if pin.kind in kinds and pin.applies()]


def _pins(facts: dict[str, Any]) -> Iterator[Finding]:
    """One line for all pins that hold, one for each that does not."""
    wanted = _wanted(facts["gpu"] is not None)
    wrong = [finding for pin in wanted if (finding := _pin(pin, facts)) is not None]
    failed = sum(finding.status == "fail" for finding in wrong)
    status: Status = "fail" if failed else "ok"
    yield Finding("pins", status, f"{len(wanted) - failed} of {len(wanted)} packages fit", REMEDY if failed else "")
    yield from wrong


def _pin(pin: Pin, facts: dict[str, Any]) -> Finding | None:
    """Return what is to be said of one pin: nothing where the installed version is the pinned one."""
    name, have = f"package {pin.name}", installed(pin.name)
    if have is not None and have.split("+")[0] == pin.version:
        return None
    if have is None and pin.kind == "gpu":
        return Finding(name, "warn", "missing: training works without it, more slowly", REMEDY)
    if have is None:
        title = "Unsloth" if pin.name == "unsloth" else pin.name
        return Finding(name, "fail", f"{title} is missing", REMEDY)
    told = f"{have} is installed, {pin.version} is pinned"
    if pin.name == "torch" and keeps_torch(have, facts["gpu"] is not None):
        return Finding(name, "ok", f"{told}; Unsloth takes it, so it is kept")
    if pin.name in COLAB_KEEPS and facts["on_colab"]:
        return Finding(name, "ok", f"{told}; Colab's own is kept")
    if pin.name == "triton":
        return Finding(name, "ok", f"{told}; torch brings its own")
    return Finding(name, "fail", told, REMEDY)


def _cuda_leftovers(facts: dict[str, Any]) -> Iterator[Finding]:
    """Gigabytes of CUDA on a machine without a card do no harm, but nobody needs them."""
    if facts["gpu"] is not None or facts["on_colab"]:
        return
    names = sorted({dist.name for dist in metadata.distributions() if (dist.name or "").startswith("nvidia-")})
    if names:
        remedy = "delete the folder .venv, then run `bash colab_setup.sh`"
        yield Finding("cuda packages", "warn", f"{len(names)} nvidia packages, and no card to use them", remedy)


def _torch(facts: dict[str, Any]) -> Iterator[Finding]:
    """The builds a card needs, then a product of two matrices against the same one in float64."""
    try:
        import torch
    except (ImportError, OSError) as error:
        yield Finding("torch", "fail", f"cannot be imported: {error}", REMEDY)
        return
    device = "cuda" if facts["gpu"] else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        found = f"torch {torch.__version__} does not see the card"
        yield Finding("torch", "fail", found, f"check that nvidia-smi runs, then {REMEDY}")
        return
    if device == "cuda":
        yield _built_for(torch.cuda.get_device_capability(), torch.cuda.get_arch_list(), torch.__version__)
    try:
        off = _matmul_error(device)
    except RuntimeError as error:
        yield Finding("matrix product", "fail", f"on {device}: {_first_line(error)}", REMEDY)
        return
    good = off < _MATMUL_ERROR
    found = f"torch {torch.__version__} on {device}, relative error {off:.0e} against float64"
    remedy = "" if good else "the processor or the card computes wrongly: check driver, memory and overclocking"
    yield Finding("matrix product", "ok" if good else "fail", found, remedy)


def _built_for(capability: tuple[int, int], built: list[str], version: str) -> Finding:
    """Whether torch holds machine code for the card: same major number, or code it may still translate."""
    major, minor = capability
    if any(_runs_on(arch, major, minor) for arch in built):
        return Finding("torch's build", "ok", f"torch {version} holds code for sm_{major}{minor}")
    found = f"torch {version} holds code for {', '.join(built) or 'no card'}, and this card is sm_{major}{minor}"
    needs = "CUDA 12.8 or newer (RTX 50 cards need it)" if major >= 10 else "CUDA this card still speaks"
    remedy = f"a torch built for {needs}: delete the folder .venv, then {REMEDY}; it takes the build for this card"
    return Finding("torch's build", "fail", found, remedy)


def _runs_on(arch: str, major: int, minor: int) -> bool:
    """Whether code named like sm_86, sm_90a or compute_80 runs on a card of this capability."""
    kind, _, number = arch.partition("_")
    if not number.isdigit():
        return number[:-1] == f"{major}{minor}"  # sm_90a: for exactly that card
    have = (int(number) // 10, int(number) % 10)
    return have <= (major, minor) if kind == "compute" else have[0] == major and have[1] <= minor


def _matmul_error(device: str, size: int = 256) -> float:
    """Return the largest error of a float32 product on `device`, relative to the largest entry in float64."""
    import torch

    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(size, size, generator=generator) for _ in range(2))
    exact = left.double() @ right.double()
    product = (left.to(device) @ right.to(device)).cpu().double()
    return ((product - exact).abs().max() / exact.abs().max()).item()


def _four_bit(facts: dict[str, Any]) -> Finding:
    """Run a small 4-bit layer forward and backward on the device the training will use."""
    device = "cuda" if facts["gpu"] else "cpu"
    try:
        loss, gradient = _four_bit_step(device)
    except (ImportError, OSError, RuntimeError) as error:
        return Finding("4-bit step", "fail", f"on {device}: {_first_line(error)}", REMEDY)
    good = loss < _FOUR_BIT_LOSS and 0 < gradient < float("inf")
    found = f"forward and backward on {device}; {loss:.0%} of the output lost by rounding to 4 bits"
    remedy = "" if good else "bitsandbytes computes wrongly here: choose a profile without load_in_4bit"
    return Finding("4-bit step", "ok" if good else "fail", found, remedy)


def _four_bit_step(device: str, size: int = 128) -> tuple[float, float]:
    """Return the share of the output that NF4 loses, and the norm of the gradient that reaches the input."""
    import torch

    # On a processor it looks for a faster kernel that is not pinned here, and warns that there is none.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    from bitsandbytes.nn import Linear4bit

    torch.manual_seed(0)
    layer = Linear4bit(size, size, bias=False, compute_dtype=torch.float32, quant_type="nf4")
    exact = layer.weight.detach().clone()
    layer = layer.to(device)  # the move is what rounds the weights to 4 bits
    given = torch.randn(4, size, device=device, requires_grad=True)
    out = layer(given)
    out.square().mean().backward()
    if given.grad is None:
        raise RuntimeError("no gradient came back through the 4-bit layer")
    wanted = given.detach().cpu() @ exact.T
    lost = (out.detach().cpu() - wanted).norm() / wanted.norm()
    return lost.item(), given.grad.norm().item()


def _bengali_font() -> Finding:
    from lekhai_helpers.core.plots import PlotError, use_bengali_font

    try:
        return Finding("Bengali font", "ok", use_bengali_font())
    except (ImportError, OSError, PlotError) as error:
        return Finding("Bengali font", "fail", _first_line(error), f"get the whole project again, then {REMEDY}")


def _embedded_base() -> Finding:
    """Whether the small Bengali-speaking base lies here; another source is a warning, not an error."""
    parts = [pin for pin in read_pins() if pin.kind == "base"]
    missing = [pin.name for pin in parts if installed(pin.name) != pin.version]
    if not missing:
        return Finding("embedded base", "ok", f"Gemma 3 270M, all {len(parts)} packages")
    found = f"{len(missing)} of {len(parts)} packages are missing ({missing[0]} first)"
    remedy = "the same base will be fetched from a hub, pinned by its SHA-256, else SmolLM2, which knows English only"
    return Finding("embedded base", "warn", found, f"{REMEDY}; without them {remedy}")


def _profile(facts: dict[str, Any]) -> Iterator[Finding]:
    """Which profile `lekhai run` would pick and why, and what that profile promises to need."""
    profile, reason = pick_profile()
    yield Finding("profile", "ok", f"{profile}, because {reason}")
    try:
        promise = resolve("lekhai", profile).promise
    except (SettingsError, OSError) as error:
        yield Finding("promise", "fail", str(error), "get the whole project again: a recipe or profile is damaged")
        return
    amounts = (("minutes", promise.minutes), ("GB of memory", promise.memory_gb), ("GB of disk", promise.disk_gb))
    needs = ", ".join(f"{unit}: {amount}" if amount == UNMEASURED else f"{amount:g} {unit}" for unit, amount in amounts)
    yield Finding("promise", "ok", f"it needs {needs}")
    # Free memory comes and goes with other programs, a full disk does not: hence a warning and a failure.
    room: tuple[tuple[str, float | str, float, Status, str], ...] = (
        ("memory", promise.memory_gb, facts["ram_free_gb"], "warn", "close other programs"),
        ("disk", promise.disk_gb, facts["disk_free_gb"], "fail", "free disk, or name another place in LEKHAI_RUNS"),
    )
    for what, need, free, status, remedy in room:
        if not isinstance(need, str) and free < need:
            yield Finding(f"room in {what}", status, f"{free} GB free, {need:g} GB needed", remedy)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
