"""The companion's recipe holds the figures of its plan, on every profile."""

import importlib.util
from pathlib import Path

import pytest

from lekhai_helpers.core.recipe import available, data_file, resolve

BASE = "unsloth/Meta-Llama-3.1-8B-Instruct-bnb-4bit"


@pytest.mark.parametrize("profile", available("profiles"))
def test_the_plans_figures_hold_on_every_profile(profile):
    settings = resolve("companion", profile)
    assert (settings.lora.r, settings.lora.alpha) == (16, 32)
    assert settings.lora.target_modules == ["q_proj", "k_proj", "v_proj", "o_proj"]
    assert settings.merge.method == "none" and not settings.evaluation.tones
    assert data_file(settings.data.file).exists() and data_file(settings.evaluation.briefs).exists()


@pytest.mark.parametrize("profile", ["colab-t4", "rtx5070", "multi-gpu"])
def test_a_card_trains_the_plans_base_for_three_epochs_of_sixteen_rows(profile):
    settings = resolve("companion", profile)
    rows = len(data_file(settings.data.file).read_text(encoding="utf-8").splitlines())
    taught = rows * (1 - settings.data.validation_share - settings.data.test_share)
    batch = settings.sft.batch_size * settings.sft.gradient_accumulation * settings.sft.processes
    assert settings.model.name == BASE and settings.sft.learning_rate == 2e-4
    assert batch == 16 and 3 <= settings.sft.max_steps * batch / taught < 3.5


def test_unsloth_knows_the_16_bit_weights_of_the_plans_base():
    """The base is rounded to 4 bits, and the adapter is merged into 16-bit weights: else the run ends at its export."""
    engine = importlib.util.find_spec("unsloth")  # found, not imported: only its list of names is read
    spec = importlib.util.spec_from_file_location("names", Path(engine.origin).parent / "models" / "mapper.py")
    names = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(names)
    sixteen = names.INT_TO_FLOAT_MAPPER | names.MAP_TO_UNSLOTH_16bit
    assert sixteen[BASE.lower()] == "unsloth/Meta-Llama-3.1-8B-Instruct"
