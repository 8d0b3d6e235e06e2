"""The LoRA comparison is fair: only the strips differ; and a recorded table says where it comes from."""

import json
from types import SimpleNamespace

import pytest

from lekhai_helpers.core.recipe import resolve
from lekhai_helpers.learn import lora_comparison as comparison
from lekhai_helpers.learn.lora_comparison import VARIANTS, LoraComparisonError, compare_lora, variant_settings
from lekhai_helpers.learn.training import TrainingResult
from lekhai_helpers.prepare.contracts import words_of

SETTINGS = resolve("lekhai", "cpu", {"sft.compare_lora": True, "sft.patience": 1, "sft.keep": "best"})
ROWS = [
    {"variant": "rank 8, all linear layers", "trained": 100, "validation_lowest": 2.5, "peak_memory_mb": None},
    {"variant": "rank 16, attention only", "trained": 80, "validation_lowest": 2.6, "peak_memory_mb": 900},
]


def test_the_variants_are_three_ranks_and_attention_only():
    assert [(variant.r, len(variant.modules)) for variant in VARIANTS] == [(8, 7), (16, 7), (32, 7), (16, 4)]
    assert set(VARIANTS[-1].modules) == {"q_proj", "k_proj", "v_proj", "o_proj"}
    assert len({variant.name for variant in VARIANTS}) == 4


def test_only_the_strips_differ_between_variants():
    """One alpha for all ranks would make a higher rank also a quieter one; early stopping would end one sooner."""
    made = [variant_settings(SETTINGS, variant, 40) for variant in VARIANTS]
    assert {one.lora.alpha / one.lora.r for one in made} == {SETTINGS.lora.alpha / SETTINGS.lora.r}
    assert len({one.sft.model_dump_json() for one in made}) == 1
    sft = made[0].sft
    assert (sft.max_steps, sft.eval_every, sft.keep, sft.patience) == (40, 10, "last", None)
    assert (sft.learning_rate, sft.batch_size) == (SETTINGS.sft.learning_rate, SETTINGS.sft.batch_size)
    rest = [one.model_dump(exclude={"lora", "sft"}) for one in made]
    assert rest == [SETTINGS.model_dump(exclude={"lora", "sft"})] * 4
    assert SETTINGS.sft.patience == 1 and SETTINGS.lora.r == 32


class FakeModel:
    """Stands in for a model with strips: as many numbers as its rank, four bytes each."""

    def __init__(self, settings) -> None:
        self.settings = settings

    def parameters(self):
        def numbers(count, trained):
            return SimpleNamespace(numel=lambda: count, element_size=lambda: 4, requires_grad=trained)

        return [numbers(10**6, False), numbers(self.settings.lora.r * 1000, True)]


@pytest.fixture
def training(monkeypatch):
    """Put fakes in place of everything that needs torch; return what was asked of the trainer."""
    asked = []

    def train_sft(model, tokenizer, train, validation, settings, folder, **options):
        (folder / "checkpoint-2").mkdir(parents=True)
        asked.append((settings, folder, options))
        return TrainingResult(
            train_loss=[(2, 3.0), (4, 1.23456)],
            validation_loss=[(2, 2.0), (4, 2.5)],
            kept_step=4,
            steps=4,
            seconds=90.0,
            tokens_per_second=300.0,
            valid_answers=[],
            planned=4,
            validation_before=3.5,
        )

    monkeypatch.setattr(comparison, "train_sft", train_sft)
    monkeypatch.setattr(comparison, "load_model", lambda path, settings: (FakeModel(settings), object()))
    monkeypatch.setattr(comparison, "attach_lora", lambda model, lora, seed: model)
    monkeypatch.setattr(comparison, "release_memory", lambda: 0.0)
    monkeypatch.setattr(comparison, "device_memory_mb", lambda peak: 1234.5)
    monkeypatch.setattr(comparison, "_forget_peak_memory", lambda: True)
    return asked


def test_each_variant_is_trained_afresh_and_leaves_no_checkpoint(training, tmp_path):
    rows = compare_lora("base", [{}], [{}], SETTINGS, 4, tmp_path, lambda m, t: 0.5, max_length=320)
    assert [row["variant"] for row in rows] == [variant.name for variant in VARIANTS]
    assert rows[2] == {
        "variant": "rank 32, all linear layers",
        "trained": 32_000,
        "adapter_mb": 0.13,
        "train_loss": 1.2346,
        "validation_lowest": 2.0,
        "validation_last": 2.5,
        "tokens_per_second": 300.0,
        "minutes": 1.5,
        "peak_memory_mb": 1234,
        "valid_share": 0.5,
    }
    assert all(options == {"max_length": 320, "resume": False} for _, _, options in training)
    assert len({folder for _, folder, _ in training}) == 4 and list(tmp_path.iterdir()) == []


def test_a_peak_that_cannot_be_told_apart_is_not_given(training, tmp_path, monkeypatch):
    """The peak of a process never falls: without the switch every variant would show that of the largest so far."""
    monkeypatch.setattr(comparison, "_forget_peak_memory", lambda: False)
    [row] = compare_lora("base", [{}], [{}], SETTINGS, 4, tmp_path, variants=VARIANTS[:1])
    assert row["peak_memory_mb"] is None and "valid_share" not in row


def test_one_step_is_refused(tmp_path):
    with pytest.raises(LoraComparisonError, match="at least 2"):
        compare_lora("base", [{}], [{}], SETTINGS, 1, tmp_path)


def test_a_record_comes_back_with_where_it_was_measured(tmp_path):
    path = tmp_path / "record.json"
    note = comparison.make_note(SETTINGS, 40, [{}] * 70, [{}] * 9)
    comparison.save_record(ROWS, note, path)
    rows, kept = comparison.recorded(path)
    assert rows == ROWS and kept == note
    said = comparison.note_in_words(kept)
    assert all(
        word in said for word in ("recipe lekhai", "profile cpu", "40 steps of 2 examples", "70 training", kept["date"])
    )
    shown = comparison.table(rows)
    assert list(shown.index) == [row["variant"] for row in ROWS] and shown["trained"].tolist() == [100, 80]


def test_no_record_names_the_switch_that_makes_one(tmp_path):
    with pytest.raises(LoraComparisonError, match="sft.compare_lora=true"):
        comparison.recorded(tmp_path / "absent.json")
    with pytest.raises(LoraComparisonError, match="no row"):
        comparison.save_record([], {}, tmp_path / "absent.json")


def test_the_record_that_ships_holds_every_variant_and_no_path():
    rows, note = comparison.recorded()
    assert [row["variant"] for row in rows] == [variant.name for variant in VARIANTS]
    assert comparison.note_in_words(note) and "/" not in json.dumps(note)


def test_the_share_of_a_record_is_of_the_texts_of_its_own_recipe():
    """Shown in another recipe's notebook, it was called the share of that recipe's answers."""
    _, note = comparison.recorded()
    assert comparison.note_words(note) == words_of(SETTINGS) != words_of(resolve("tutor", "cpu"))
