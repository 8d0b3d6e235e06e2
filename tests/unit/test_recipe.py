"""Settings: what a recipe, a profile and an override may say, who wins, and what a mistake is told."""

import pytest

from lekhai_helpers.core import recipe
from lekhai_helpers.core.recipe import SettingsError, available, parse_override, resolve


@pytest.mark.parametrize("profile", available("profiles"))
@pytest.mark.parametrize("name", available("recipes"))
def test_every_recipe_resolves_on_every_profile(name, profile):
    settings = resolve(name, profile)
    assert (settings.recipe, settings.profile) == (name, profile)


def test_the_chain_has_its_five_profiles():
    assert set(available("profiles")) >= {"smoke", "cpu", "colab-t4", "rtx5070", "multi-gpu"}
    assert "lekhai" in available("recipes")


def test_an_override_wins_over_the_profile_and_the_profile_over_the_recipe():
    settings = resolve("lekhai", "smoke", {"sft.max_steps": 9})
    assert settings.sft.max_steps == 9
    assert settings.data.prompts == ["prompt_1"]  # the recipe says all three
    assert resolve("lekhai", "cpu").data.prompts == ["prompt_1", "prompt_3"]
    assert resolve("lekhai", "colab-t4").data.prompts == ["prompt_1", "prompt_2", "prompt_3"]


def test_what_the_recipe_says_about_a_profile_wins_over_the_profile():
    settings = resolve("lekhai", "colab-t4")
    assert settings.model.name == "md-nishat-008/TigerLLM-1B-it"
    assert settings.origin["model.name"] == "recipe for colab-t4"


def test_every_value_knows_where_it_came_from():
    settings = resolve("lekhai", "smoke", {"sft.max_steps": 9})
    origin = settings.origin
    assert origin["sft.max_steps"] == "override"
    assert origin["sft.batch_size"] == "profile"
    assert origin["lora.r"] == "recipe"
    table = settings.table()
    assert set(table["from"]) == {"asked", "recipe", "recipe for smoke", "profile", "override", "default"}
    assert table.loc["sft.weight_decay", "from"] == "default"
    assert list(table.index) == list(settings.flat())


def test_settings_cannot_be_changed_afterwards():
    settings = resolve("lekhai", "smoke")
    with pytest.raises(ValueError, match="frozen"):
        settings.sft.max_steps = 3
    settings.origin["seed"] = "somebody"
    assert settings.origin["seed"] == "recipe"


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"sft.max_step": 3}, "did you mean 'sft.max_steps'"),
        ({"stf.max_steps": 3}, r"stf \(from the override\): there is no such setting; did you mean 'sft'"),
        ({"sft.max_steps": "90"}, r"sft.max_steps = '90' \(from the override\)"),
        ({"sft.max_steps": 1.5}, "sft.max_steps = 1.5"),
        ({"sft.max_steps": 0}, "greater than 0"),
        ({"sft.learning_rate": "2e-4"}, "sft.learning_rate = '2e-4'"),
        ({"model.load_in_4bit": "yes"}, "model.load_in_4bit"),
        ({"export.quantizations": ["q3_k"]}, r"export.quantizations.0 = 'q3_k' \(from the override\)"),
        ({"judge.prices": {"gpt-4o": [2.5]}}, "gpt-4o: give two prices"),
        ({"judge.budget_usd": 0.0}, "judge.budget_usd = 0.0"),
        ({"aqi.weight": 1.5}, "aqi.weight = 1.5"),
        ({"sft": 3}, "sft = 3"),
        ({"seed.x": 3}, "seed = "),
    ],
)
def test_a_setting_that_cannot_be_used_is_named_with_its_value_and_origin(overrides, said):
    """Unsloth and papermill only warn about names they do not know; a training then runs with a default."""
    with pytest.raises(SettingsError, match=said):
        resolve("lekhai", "smoke", overrides)


def test_all_mistakes_are_told_at_once():
    with pytest.raises(SettingsError) as caught:
        resolve("lekhai", "smoke", {"sft.max_steps": "3", "dpo.betta": 1})
    assert len(str(caught.value).splitlines()) == 3


def test_a_setting_nobody_gives_is_called_missing(monkeypatch):
    without = {name: recipe._load("profiles", "smoke") for name in ("smoke",)}
    del without["smoke"]["sft"]
    load = recipe._load
    monkeypatch.setattr(recipe, "_load", lambda kind, name: without[name] if kind == "profiles" else load(kind, name))
    with pytest.raises(SettingsError, match="sft: missing; recipe and profile together must give it"):
        resolve("lekhai", "smoke")


def test_an_unknown_recipe_or_profile_gets_the_nearest_name():
    with pytest.raises(SettingsError, match="no recipe named 'lekhia'; did you mean 'lekhai'"):
        resolve("lekhia", "smoke")
    with pytest.raises(SettingsError, match="no profile named 'smok'; did you mean 'smoke'"):
        resolve("lekhai", "smok")
    with pytest.raises(SettingsError, match="known: .*rtx5070"):
        resolve("lekhai", "zzz")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sft.max_steps=90", ("sft.max_steps", 90)),
        ("sft.learning_rate=2e-4", ("sft.learning_rate", 2e-4)),
        ("data.file=my rows.csv", ("data.file", "my rows.csv")),
        ("model.load_in_4bit=true", ("model.load_in_4bit", True)),
        ("evaluation.seeds=[1, 2]", ("evaluation.seeds", [1, 2])),
        ("export.hub_id=null", ("export.hub_id", None)),
        ("system_prompt=a=b", ("system_prompt", "a=b")),
    ],
)
def test_an_override_from_the_command_line_gets_its_type(text, expected):
    """YAML 1.1 reads 2e-4 as text, and the learning rate then fails far from where it was given."""
    assert parse_override(text) == expected


@pytest.mark.parametrize("text", ["sft.max_steps", "=3", " =3"])
def test_an_override_without_key_or_value_is_refused(text):
    with pytest.raises(SettingsError, match="key=value"):
        parse_override(text)


def test_the_hash_sees_the_sections_it_is_asked_for_and_no_others():
    before, after = resolve("lekhai", "smoke"), resolve("lekhai", "smoke", {"dpo.beta": 0.2})
    assert before.hash() == resolve("lekhai", "smoke").hash()
    assert before.hash() != after.hash()
    assert before.hash("dpo") != after.hash("dpo")
    assert before.hash("sft", "seed") == after.hash("sft", "seed")


def test_every_criterion_of_the_judge_has_words_for_four_marks():
    criteria = resolve("lekhai", "smoke").judge.criteria
    assert list(criteria) == ["fluency", "structure", "tone", "adherence", "idea"]
    assert all(f"{mark} " in words for words in criteria.values() for mark in (": 1", "; 4", "; 7", "; 10"))


def test_overrides_are_not_kept_from_one_call_to_the_next():
    resolve("lekhai", "smoke", {"sft.max_steps": 77})
    assert resolve("lekhai", "smoke").sft.max_steps != 77


def test_a_data_file_is_found_by_path_or_by_name_and_else_named(tmp_path):
    own = tmp_path / "mine.csv"
    own.write_text("x")
    assert recipe.data_file(str(own)) == own
    assert recipe.data_file("evaluation_briefs.csv").parent == recipe.data_folder()
    with pytest.raises(FileNotFoundError, match="nowhere.csv was not found"):
        recipe.data_file("nowhere.csv")
