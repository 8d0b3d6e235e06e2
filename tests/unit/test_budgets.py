"""What an export takes is reckoned before its first byte, for every form, and said in words."""

from types import SimpleNamespace

import pytest

from lekhai_helpers.prepare.model_facts import recorded_facts
from lekhai_helpers.ship import budgets, fit
from lekhai_helpers.ship.errors import ExportError

NINE = recorded_facts("google/gemma-2-9b-it").config
SET = ["f16", "q8_0", "q5_k_m", "q4_k_m"]


@pytest.fixture
def little(monkeypatch):
    """Set the free disk (MB) and memory (GiB) of this machine."""

    def set_free(disk_mb=1e9, memory_gb=1e6):
        monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=disk_mb * 1e6))
        monkeypatch.setattr(budgets, "machine", lambda: {"ram_free_gb": memory_gb})

    return set_free


def test_a_set_of_files_counts_every_file_and_the_16_bit_one_they_come_from():
    small = budgets.gguf_budget(NINE, ["q4_k_m"])
    assert small.disk_mb == pytest.approx(1.1 * (fit.file_mb(NINE, "f16") + fit.file_mb(NINE, "q4_k_m")))
    assert budgets.gguf_budget(NINE, SET).disk_mb == pytest.approx(1.1 * sum(fit.file_mb(NINE, kind) for kind in SET))
    assert 40_000 < budgets.gguf_budget(NINE, SET).disk_mb < 46_000 and "q8_0" in budgets.gguf_budget(NINE, SET).what


def test_what_only_stands_for_a_while_is_counted_as_well(tmp_path, little, monkeypatch):
    """Trials of the lesson, predictions kept for comparing, and the copy the converter works on, unless it is links."""
    plain = budgets.gguf_budget(NINE, SET).disk_mb
    more = budgets.gguf_budget(NINE, SET, ["q4_k_m", "q8_0"], kept_mb=300)
    trials = fit.file_mb(NINE, "q4_k_m") + fit.file_mb(NINE, "q8_0")
    assert more.disk_mb == pytest.approx(plain + 1.1 * trials + 300)
    little()
    source = tmp_path / "model"
    source.mkdir()
    (source / "model.safetensors").write_bytes(b"0" * 5_000_000)
    assert budgets.begin_gguf_set(tmp_path / "gguf", NINE, SET, source=source).disk_mb == plain
    monkeypatch.setattr("os.link", lambda *_: (_ for _ in ()).throw(OSError("no links here")))
    assert budgets.begin_gguf_set(tmp_path / "gguf", NINE, SET, source=source).disk_mb == pytest.approx(plain + 5)
    assert list((tmp_path / "gguf").iterdir()) == []


def test_a_full_disk_is_told_before_anything_is_written(tmp_path, little):
    little(disk_mb=30_000)
    with pytest.raises(ExportError, match=r"the GGUF set \(f16, .*\) needs 4\d,\d{3} MB on disk and 30,000 MB are"):
        budgets.begin_gguf_set(tmp_path / "gguf", NINE, SET)
    assert list((tmp_path / "gguf").iterdir()) == []


def test_too_little_memory_is_told_before_anything_is_written(tmp_path, little):
    little(memory_gb=2)
    with pytest.raises(ExportError, match=r"needs 7,\d{3} MB of memory and 2,147 MB are free"):
        budgets.begin_gguf_set(tmp_path / "gguf", NINE, SET)
    with pytest.raises(ExportError, match="the 4-bit model needs .* MB of memory"):
        budgets.four_bit_budget(NINE).check(tmp_path)


def test_what_a_killed_export_left_is_cleared_before_the_disk_is_measured(tmp_path):
    (tmp_path / "lekhai-f16.writing").write_bytes(b"half")
    (tmp_path / "lekhai-q8_0.gguf").write_bytes(b"whole")
    budgets.begin_gguf_set(tmp_path, fit.EMBEDDED_CONFIG, SET)
    assert [path.name for path in tmp_path.iterdir()] == ["lekhai-q8_0.gguf"]


def test_four_bits_take_a_third_of_the_disk_and_the_memory_of_sixteen():
    budget = budgets.four_bit_budget(NINE)
    assert 5_500 < budget.disk_mb < 7_500 and budget.memory_mb > 18_000
