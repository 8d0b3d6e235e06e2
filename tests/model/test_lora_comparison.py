"""The LoRA comparison and the size of a model, with real Unsloth and TRL on a tiny model."""

import pytest

from lekhai_helpers.learn.lora_comparison import VARIANTS, compare_lora
from lekhai_helpers.learn.model import count_parameters, load_model
from lekhai_helpers.ship.export import comparison_plan, model_numbers


@pytest.fixture
def two_looks(settings):
    """A learning rate a tiny model learns from in four steps."""
    return settings.model_copy(update={"sft": settings.sft.model_copy(update={"learning_rate": 1e-2})})


def test_variants_train_from_the_same_start_and_do_not_touch_each_other(tiny, examples, two_looks, tmp_path):
    chosen = [VARIANTS[0], VARIANTS[3], VARIANTS[0]]
    first, attention, again = compare_lora(
        tiny, examples[:8], examples[8:10], two_looks, 4, tmp_path, lambda model, _: float(len(model.peft_config)),
        variants=chosen,
    )  # fmt: skip
    timed = {"tokens_per_second", "minutes", "peak_memory_mb"}
    assert {k: v for k, v in again.items() if k not in timed} == {k: v for k, v in first.items() if k not in timed}
    assert first["trained"] == 2 * 8 * (4 * 64 + 2 * (64 + 32) + 3 * (64 + 128))
    assert attention["trained"] == 2 * 16 * (4 * 64 + 2 * (64 + 32))
    assert attention["validation_lowest"] != first["validation_lowest"]
    assert first["tokens_per_second"] > 0 and first["valid_share"] == 1 and first["adapter_mb"] > 0
    assert first["validation_last"] < 5.9, "a random model of 340 pieces starts at ln 340 = 5.83"
    assert list(tmp_path.iterdir()) == []


def test_a_model_is_counted_from_its_config_alone(tiny, settings, tmp_path):
    (tmp_path / "config.json").write_bytes((tiny / "config.json").read_bytes())
    model, _ = load_model(tiny, settings)
    assert model_numbers(tmp_path, settings) == count_parameters(model)["all"]
    assert comparison_plan(tmp_path, settings).bits == 32
