"""The recipes twainbot, tutor and alignment: they resolve on every profile, with the plan's figures."""

import pytest

from lekhai_helpers.core.recipe import available, data_file, resolve
from lekhai_helpers.prepare.contracts import get_contract
from lekhai_helpers.prepare.dataset import briefs_of
from lekhai_helpers.prepare.sources import get_source
from lekhai_helpers.prepare.tools import system_text
from lekhai_helpers.prepare.weather import TOOLS

RECIPES = ("twainbot", "tutor", "alignment")
PROFILES = available("profiles")


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
        ("twainbot", "colab-t4", "microsoft/Phi-3-mini-4k-instruct"),
        ("twainbot", "rtx5070", "mistralai/Mistral-7B-Instruct-v0.2"),
        ("twainbot", "multi-gpu", "meta-llama/Meta-Llama-3-8B-Instruct"),
        ("tutor", "rtx5070", "google/gemma-2-2b-it"),
        ("alignment", "rtx5070", "meta-llama/Meta-Llama-3-8B-Instruct"),
        *[(recipe, "cpu", "embedded") for recipe in RECIPES],
    ],
)
def test_the_base_is_the_plans(recipe, profile, base):
    assert resolve(recipe, profile).model.name == base


def test_the_plans_figures_stand_in_the_recipes():
    alignment = resolve("alignment", "rtx5070")
    assert alignment.seed == 42 and alignment.sft.max_steps <= 250 and alignment.model.load_in_4bit
    assert alignment.data.validation_share + alignment.data.test_share == pytest.approx(0.1)
    assert alignment.aqi.per_side >= 64
    twainbot = resolve("twainbot", "cpu")
    assert twainbot.data.validation_share + twainbot.data.test_share == pytest.approx(0.05)
    assert resolve("tutor", "rtx5070").model.max_seq_length == 2048


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
