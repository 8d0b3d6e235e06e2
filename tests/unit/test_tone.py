"""The tone test: distances that are distances, and a p-value that chance cannot fool."""

import random
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lekhai_helpers.core.recipe import resolve
from lekhai_helpers.learn.model import Generation
from lekhai_helpers.measure.tone import distances, tone_test, tone_words, with_tone, word_distance, write_tones
from lekhai_helpers.prepare.dataset import Brief
from lekhai_helpers.ship.api_models import PromptRequest
from lekhai_helpers.ship.forms import message_prompt

TONES = ("উষ্ণ", "মজার")
BRIEFS = [Brief(f"b{n}", "রং", "উষ্ণ", 30, "ঝিলমাটি", "রং", f"লিখুন {n}") for n in range(6)]
WORDS = ["হাসি", "মজা", "চোখ", "জল", "ঘর", "রং", "মা", "চা", "নদী", "আলো"]


def rows_of(*briefs):
    """Return rows of briefs, each three texts: the first tone twice, then the second."""
    return [
        {"brief_id": f"b{number}", "tone": tone, "seed": seed, "text": text}
        for number, texts in enumerate(briefs)
        for tone, seed, text in zip((TONES[0], TONES[0], TONES[1]), (1, 2, 3), texts, strict=True)
    ]


HEARD = ("চোখ জল মা", "জল চোখ মা", "হাসি মজা চা")
ALIKE = ("চোখ জল", "চোখ জল", "চোখ জল")


def test_word_distance_is_0_for_the_same_words_and_1_for_none_shared():
    assert word_distance(["রং হাসে ঘর"], ["ঘর হাসে রং"]) == 0.0
    assert word_distance(["রং হাসে"], ["চা গরম"]) == 1.0
    assert word_distance(["রং"], []) == word_distance([], []) == 1.0


def test_word_distance_counts_shares_and_not_lengths():
    """Rounding must not make the root of a negative number, which is no number at all."""
    for words in ("ক", "ক খ গ", "ক ক খ গ ঘ ঙ চ"):
        for times in (2, 3, 7):
            assert word_distance([words], [words] * times) == pytest.approx(0.0, abs=1e-7)


def test_word_distance_is_symmetric_and_the_published_value():
    """Half the words shared: the divergence of (1, 0) and (1/2, 1/2) is 0.3113 bits, and its root is 0.5579."""
    a, b = ["ক"], ["ক খ"]
    assert word_distance(a, b) == word_distance(b, a) == pytest.approx(0.5579, abs=1e-4)


def test_every_brief_is_asked_in_one_tone_twice_and_in_the_other_once():
    asked = []

    def writer(prompts, seed):
        asked.extend((prompt[1]["content"], seed) for prompt in prompts)
        return [Generation(f"{seed}", 1, True, 0.1)] * len(prompts)

    rows = write_tones(writer, BRIEFS[:2], TONES, resolve("lekhai", "smoke"))
    assert asked[0] == (with_tone(BRIEFS[0].prompt, "উষ্ণ"), 1) == ("লিখুন 0 টোন: উষ্ণ।", 1)
    assert [(row["brief_id"], row["tone"], row["seed"]) for row in rows] == [
        *(("b0", "উষ্ণ", 1), ("b1", "উষ্ণ", 1), ("b0", "উষ্ণ", 2)),
        *(("b1", "উষ্ণ", 2), ("b0", "মজার", 3), ("b1", "মজার", 3)),
    ]
    with pytest.raises(ValueError, match="two different tones"):
        write_tones(writer, BRIEFS, ("উষ্ণ", "উষ্ণ"), resolve("lekhai", "smoke"))


@pytest.mark.parametrize(
    ("request_", "prompt", "tone", "asked"),
    [
        ('{"tone": "{tone}"} {prompt}', "Say {tone}.", "dry", '{"tone": "dry"} Say {tone}.'),
        ("{prompt} Tone: {tone}. {", "Hi", "like {prompt}", "Hi Tone: like {prompt}. {"),
    ],
)
def test_only_prompt_and_tone_are_filled_in_and_the_service_words_a_tone_the_same(request_, prompt, tone, asked):
    """Any other brace was a KeyError while a request was answered."""
    settings = resolve("tutor", "smoke", {"evaluation.tone_request": request_})
    assert with_tone(prompt, tone, request_) == asked
    assert message_prompt(PromptRequest(message=prompt, tone=tone), settings) == asked


def test_distances_are_taken_within_each_brief():
    """Pooled over briefs, one brief's subject would be taken for another's tone."""
    (heard, alike) = distances(rows_of(HEARD, ALIKE))
    assert (heard["between"], heard["within"]) == (1.0, 0.0) and heard["odd"] == [-0.5, -0.5, 1.0]
    assert (alike["between"], alike["within"]) == (0.0, 0.0)


def test_a_model_that_listens_is_heard_and_its_p_is_exact():
    found = tone_test(rows_of(*[HEARD] * 4), seed=1)
    assert (found["between"], found["within"], found["difference"]) == (1.0, 0.0, 1.0)
    assert found["exact"] and found["p"] == found["least_p"] == round(3**-4, 5)
    assert found["words"] == "the tone changes the words" and (found["briefs"], found["texts"]) == (4, 12)


def test_a_deaf_model_is_not_heard():
    found = tone_test(rows_of(*[ALIKE] * 6), seed=1)
    assert found["difference"] == 0.0 and found["p"] == 1.0
    assert found["words"] == "no effect of the tone shown"


def test_two_briefs_are_too_few_whatever_they_say():
    found = tone_test(rows_of(HEARD, HEARD), seed=1)
    assert found["p"] == found["least_p"] == pytest.approx(1 / 9, abs=1e-5)
    assert found["words"] == "no effect of the tone shown: 2 brief(s) are too few to show one"


def test_many_briefs_are_drawn_and_p_is_never_0():
    found = tone_test(rows_of(*[HEARD] * 12), seed=1)
    assert not found["exact"] and 0 < found["p"] == found["least_p"] < 0.001
    assert found == tone_test(rows_of(*[HEARD] * 12), seed=1)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(*[st.lists(st.sampled_from(WORDS), max_size=5).map(" ".join)] * 3), min_size=1, max_size=4))
def test_p_is_the_share_of_all_ways_to_name_the_odd_text(briefs):
    """Counted by hand: which of a brief's three texts is the one of the other tone is shuffled, brief by brief."""
    found = tone_test(rows_of(*briefs), seed=1)

    def difference(choice):
        total = 0.0
        for texts, odd in zip(briefs, choice, strict=True):
            one, two = (text for n, text in enumerate(texts) if n != odd)
            total += sum(word_distance([text], [texts[odd]]) for text in (one, two)) / 2 - word_distance([one], [two])
        return total

    true = difference([2] * len(briefs))
    shuffled = [difference(choice) for choice in product(range(3), repeat=len(briefs))]
    share = sum(value >= true - 1e-9 for value in shuffled) / len(shuffled)
    assert found["p"] == pytest.approx(share, abs=1e-5)


def test_without_an_effect_small_p_values_are_as_rare_as_they_say():
    """A test that cries wolf in a fifth of all deaf models would be worse than none."""
    rng = random.Random(1)

    def noise():
        return " ".join(rng.choices(WORDS, k=8))

    small = sum(
        tone_test(rows_of(*[(noise(), noise(), noise()) for _ in range(4)]), seed=1)["p"] <= 0.05 for _ in range(200)
    )
    assert small <= 200 * 0.05 + 3 * (200 * 0.05 * 0.95) ** 0.5


def test_a_brief_that_lacks_a_text_is_named():
    with pytest.raises(ValueError, match="b1: a tone test needs two texts"):
        tone_test(rows_of(HEARD, HEARD)[:-1], seed=1)
    with pytest.raises(ValueError, match="no texts"):
        tone_test([], seed=1)


def test_the_words_of_a_tone_are_found_with_how_often_they_came():
    rows = rows_of(*[("জল ঘর মা", "জল ঘর রং", "হাসি ঘর মা")] * 5, ("নদী ঘর", "ঘর", "ঘর"))
    table = tone_words(rows, n=1)
    assert table["word"].tolist() == ["জল", "হাসি"] and table["tone"].tolist() == list(TONES)
    assert table[["times", "times in the other"]].values.tolist() == [[10, 0], [5, 0]]
    assert (table["z"] > 1).all()
    assert table["briefs"].tolist() == [5, 5]


def test_a_word_that_came_once_is_not_at_the_top():
    rows = rows_of(*[("জল জল ঘর", "জল ঘর", "ঘর ঘর হাসি")] * 5, ("নদী ঘর", "ঘর", "ঘর"))
    table = tone_words(rows, n=20).set_index("word")
    assert table.loc["জল", "z"] > table.loc["নদী", "z"] > 0
    assert "ঘর" in table.index and table.loc["ঘর", "tone"] == "মজার"


def test_words_of_equal_share_speak_for_no_tone():
    assert tone_words(rows_of(("ক", "ক", "ক"))).empty
    with pytest.raises(ValueError, match="not of 1"):
        tone_words([row | {"tone": "এক"} for row in rows_of(HEARD)])
