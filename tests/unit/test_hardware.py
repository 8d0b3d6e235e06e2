"""What the machine has, and the profile that fits it."""

import subprocess
import sys

import pytest

from lekhai_helpers.core import hardware

T4 = "Tesla T4, 15360, 7.5, 550.54.15, GPU-aaaa"
RTX5070 = "NVIDIA GeForce RTX 5070, 12227, 12.0, 570.86, GPU-bbbb"
RTX3050 = "NVIDIA GeForce RTX 3050, 8192, 8.6, 570.86, GPU-cccc"


@pytest.fixture
def smi(monkeypatch):
    """Let nvidia-smi answer with these lines; torch is not asked."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(hardware, "_cards_by_torch", list)

    def answer(*lines: str) -> None:
        done = subprocess.CompletedProcess([], 0, stdout="".join(f"{line}\n" for line in lines))
        monkeypatch.setattr(hardware.subprocess, "run", lambda *a, **k: done)

    return answer


@pytest.mark.parametrize(
    ("lines", "profile"),
    [([], "cpu"), ([T4], "colab-t4"), ([RTX5070], "rtx5070"), ([RTX3050], "colab-t4"), ([T4, T4], "colab-t4")],
)
def test_the_profile_follows_from_the_cards(smi, lines, profile):
    smi(*lines)
    picked, reason = hardware.pick_profile()
    assert picked == profile
    assert reason


def test_a_t4_has_no_bf16_whatever_torch_says():
    """torch.cuda.is_bf16_supported() counts emulation: a T4 said yes and trained slowly or not at all."""
    assert not hardware.has_bf16("7.5")
    assert hardware.has_bf16("8.0") and hardware.has_bf16("12.0")
    assert not hardware.has_bf16(None)


def test_the_first_card_is_described(smi):
    smi(RTX5070)
    facts = hardware.machine()
    assert facts["gpu"] == "NVIDIA GeForce RTX 5070"
    assert (facts["gpu_memory_gb"], facts["compute_capability"], facts["driver"]) == (11.9, "12.0", "570.86")


@pytest.mark.parametrize(
    ("allowed", "count"), [("", 0), ("-1", 0), ("1", 1), ("0,1", 2), ("GPU-bbbb", 1), ("0,7,1", 1)]
)
def test_only_the_cards_cuda_may_see_count(smi, monkeypatch, allowed, count):
    smi(T4, RTX5070)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", allowed)
    assert hardware.machine()["gpus"] == count


def test_a_card_that_shares_the_machines_memory_is_left_to_torch(smi):
    """nvidia-smi answers [N/A] for its memory, which is no number."""
    smi("NVIDIA GB10, [N/A], 12.1, 580.95, GPU-dddd")
    assert hardware.pick_profile()[0] == "cpu"


@pytest.mark.parametrize("error", [FileNotFoundError(), subprocess.CalledProcessError(9, "nvidia-smi")])
def test_a_missing_or_failing_nvidia_smi_means_no_card(smi, monkeypatch, error):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(hardware.subprocess, "run", fail)
    assert hardware.machine()["gpu"] is None


def test_the_machine_is_described_with_sane_figures():
    facts = hardware.machine()
    assert facts["cores"] >= 1
    assert 0 < facts["ram_free_gb"] <= facts["ram_gb"]
    assert facts["disk_free_gb"] > 0
    assert facts["python"].count(".") == 2


def test_disk_is_measured_where_runs_will_be_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("LEKHAI_RUNS", str(tmp_path / "not" / "there" / "yet"))
    assert hardware._runs_folder() == tmp_path
    assert hardware.machine()["disk_free_gb"] > 0


def test_colab_is_told_by_its_environment(monkeypatch):
    monkeypatch.delenv("COLAB_RELEASE_TAG", raising=False)
    assert not hardware.on_colab()
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release-colab-external-images_20260801")
    assert hardware.on_colab()


def test_the_peak_stays_when_memory_is_given_back():
    block = bytearray(b"x" * 80 * 1024**2)
    held = hardware.memory_mb()
    del block
    assert hardware.peak_memory_mb() >= held - 1
    assert hardware.memory_mb() < held - 40


def test_asking_the_machine_loads_no_torch():
    """`lekhai run` asks for the profile before anything else; two seconds of import would be felt."""
    code = "import sys; from lekhai_helpers.core import hardware; hardware.on_colab(); print('torch' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "False"


@pytest.mark.parametrize(("megabytes", "fits"), [(540, True), (8_000, True), (18_500, False)])
def test_weights_go_to_the_card_only_where_it_has_room(monkeypatch, megabytes, fits):
    """Nine billion numbers have 18.5 GB in 16 bits: more than a card of 12 GB holds, and yet there is a card."""
    import torch

    assert not hardware.card_holds(540) or torch.cuda.is_available()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (12 * 10**9, 12 * 10**9))
    assert hardware.card_holds(megabytes) is fits
