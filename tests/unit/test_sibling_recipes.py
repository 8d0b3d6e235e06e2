"""The sibling recipes: they resolve on every profile, and on a card they hold the plan's figures."""

import pytest

from lekhai_helpers.core.recipe import available, data_file, resolve
from lekhai_helpers.learn.memory import estimate
from lekhai_helpers.learn.training import effective_batch
from lekhai_helpers.prepare.contracts import get_contract
from lekhai_helpers.prepare.dataset import briefs_of
from lekhai_helpers.prepare.sources import get_source
from lekhai_helpers.prepare.tools import system_text
from lekhai_helpers.prepare.weather import TOOLS

RECIPES = ("twainbot", "tutor", "alignment")
PROFILES = available("profiles")
CARDS = ("colab-t4", "rtx5070", "multi-gpu")
PLAN = {
    "twainbot": {"dropout": 0.05, "held_out": 0.05},
    "tutor": {"dropout": 0.1, "held_out": 0.2},
    "companion": {"dropout": 0.0, "held_out": 0.2, "epochs": 3},
    "alignment": {"dropout": 0.05, "held_out": 0.1, "epochs": 3, "seed": 42},
}


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("profile", PROFILES)
def test_a_recipe_resolves_on_every_profile_with_the_plans_lora(recipe, profile):
    settings = resolve(recipe, profile)
    dropout = {"twainbot": 0.05, "tutor": 0.1, "alignment": 0.05}[recipe]
    if profile != "smoke":
        assert (settings.lora.r, settings.lora.alpha, settings.lora.dropout) == (16, 32, dropout)
    assert settings.data.prompts == ["prompt_1"] and settings.data.max_seconds is None
    assert settings.merge.method == "none"
    assert callable(get_source(settings.data.source)) and get_contract(settings.data.contract).one
    assert data_file(settings.data.file).exists() and briefs_of(settings)


@pytest.mark.parametrize(
    ("recipe", "profile", "base"),
    [
        ("twainbot", "colab-t4", "unsloth/Phi-3-mini-4k-instruct"),
        ("twainbot", "rtx5070", "mistralai/Mistral-7B-Instruct-v0.2"),
        ("twainbot", "multi-gpu", "meta-llama/Meta-Llama-3-8B-Instruct"),
        ("tutor", "rtx5070", "google/gemma-2-2b-it"),
        ("alignment", "rtx5070", "meta-llama/Meta-Llama-3-8B-Instruct"),
        *[(recipe, "cpu", "embedded") for recipe in RECIPES],
    ],
)
def test_the_base_is_the_plans(recipe, profile, base):
    assert resolve(recipe, profile).model.name == base


@pytest.mark.parametrize("recipe", PLAN)
@pytest.mark.parametrize("profile", CARDS)
def test_the_plans_figures_hold_on_every_card(recipe, profile):
    """One card once trained other modules than the plan's, and patience could end the plan's epochs early."""
    settings, plan = resolve(recipe, profile), PLAN[recipe]
    lora = settings.lora
    assert (lora.r, lora.alpha, lora.dropout) == (16, 32, plan["dropout"])
    assert sorted(lora.target_modules) == ["k_proj", "o_proj", "q_proj", "v_proj"]
    assert settings.model.load_in_4bit and settings.model.max_seq_length == 2048
    assert settings.sft.learning_rate == 2e-4 and settings.seed == plan.get("seed", 3407)
    held_out = settings.data.validation_share + settings.data.test_share
    assert held_out == pytest.approx(plan["held_out"])
    if epochs := plan.get("epochs"):
        taught = len(data_file(settings.data.file).read_text(encoding="utf-8").splitlines()) * (1 - held_out)
        assert epochs <= settings.sft.max_steps * effective_batch(settings.sft) / taught < epochs + 0.5
        assert settings.sft.max_steps <= 250 and settings.sft.patience is None and settings.sft.keep == "best"


@pytest.mark.parametrize("recipe", PLAN)
@pytest.mark.parametrize("profile", CARDS)
def test_the_memory_of_every_card_can_be_estimated(recipe, profile):
    """A module that no base of ours has was refused in notebook 04, after the data had been prepared."""
    sizes = {"hidden_size": 3072, "intermediate_size": 8192, "vocab_size": 32064}
    config = sizes | {"num_attention_heads": 32, "num_hidden_layers": 32}
    assert estimate(config, resolve(recipe, profile), 600).lora > 0


def test_alignment_is_measured_on_enough_prompts():
    assert resolve("alignment", "rtx5070").aqi.per_side >= 64


@pytest.mark.parametrize("recipe", (*RECIPES, "companion"))
@pytest.mark.parametrize("profile", PROFILES)
def test_no_profile_brings_another_recipes_figures(recipe, profile):
    """Film lengths, three wordings and a rank measured on ad scripts once stood in the profile of every recipe."""
    settings = resolve(recipe, profile)
    ours = {key for key, origin in settings.origin.items() if origin == "profile"}
    assert not [key for key in ours if key.startswith(("data.", "lora."))]
    measured = {settings.promise.minutes} - {"unmeasured"}
    assert not measured or profile == "smoke" or settings.origin["promise.minutes"].startswith("recipe")


def test_twainbots_system_prompt_tells_of_the_tools_as_the_code_does():
    """A tool described otherwise than it is checked would be called in a way that never passes."""
    prompt = resolve("twainbot", "cpu").system_prompt
    assert prompt == system_text(prompt.split("\n\n")[0], TOOLS)
