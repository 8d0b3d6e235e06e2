"""What notebooks say in any recipe: the language's name and first line, a text shown line by line, pairs to know."""

import pandas as pd
import pytest

from lekhai_helpers.core.known_pairs import KNOWN_PAIRS
from lekhai_helpers.core.languages import language_of
from lekhai_helpers.core.notebook import readable
from lekhai_helpers.core.recipe import SettingsError, available, resolve
from lekhai_helpers.prepare.model_facts import recorded_facts


def test_a_language_has_its_name_and_a_line_in_its_own_letters():
    assert language_of("bn").name == "Bengali" and "চা" in language_of("bn").opening
    assert language_of("en").name == "English" and language_of("en").opening.isascii()


def test_a_language_nobody_listed_goes_by_its_code():
    assert language_of("pt").name == "pt" and language_of("pt").opening == language_of("en").opening


def test_a_text_is_shown_line_by_line_and_a_table_as_a_table():
    """An answer of several lines once stood in a notebook as one string in quotes, with backslashes."""
    assert repr(readable("one\ntwo")) == "one\ntwo" and readable("one\ntwo") == "one\ntwo"
    table = pd.DataFrame({"tool": ["get_weather"]})
    assert readable(table) is table


@pytest.mark.parametrize("recipe", available("recipes"))
def test_every_recipe_knows_pairs_with_recorded_facts(recipe):
    """Notebook 02 compares them without a network, also where the recipe merges nothing."""
    pairs = resolve(recipe, "smoke").merge.pairs
    assert pairs == KNOWN_PAIRS
    assert all(recorded_facts(name).config for pair in pairs.values() for name in pair)


def test_no_pairs_at_all_are_refused_by_name():
    from lekhai_helpers.core.recipe import Merge

    with pytest.raises(ValueError, match="pairs"):
        Merge(method="none", t=[0.5], learning_rate=1e-4, batch_size=1, pairs={})
    with pytest.raises(SettingsError, match="merge.pairs"):
        resolve("tutor", "smoke", {"merge": {"pairs": []}})
