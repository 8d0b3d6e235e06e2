"""The tone classifier knows what it was taught, says when it knows nothing, and forgets a text where it must."""

import random

import pytest

from lekhai_helpers.measure.tone_classifier import ToneClassifier

CALM = "নীরব ভোর, শান্ত নদী, ধীরে ধীরে বাতাস বয়, মৃদু আলো"
LOUD = "ধুম ধাড়াক্কা নাচ, ঢোল বাজে, চলো চলো লাফাই, হুররে"
OTHER = "বাজার দোকান রাস্তা গাড়ি মানুষ ঘর দরজা জানালা টেবিল কলম"


def texts_of(words, count, seed):
    dice = random.Random(seed)
    return [" ".join(dice.sample(words.replace(",", "").split() + OTHER.split(), 9)) for _ in range(count)]


def taught(count=12):
    texts = texts_of(CALM, count, 1) + texts_of(LOUD, count, 2)
    return ToneClassifier([f"r{n}" for n in range(2 * count)], texts, ["calm"] * count + ["loud"] * count)


def test_a_text_speaks_for_its_own_tone():
    tones = taught()
    assert tones.margin(CALM, "calm") > 0 > tones.margin(CALM, "loud")
    assert tones.margin(LOUD, "loud") > 0 > tones.margin(LOUD, "calm")


def test_with_two_tones_the_margins_are_opposite():
    tones = taught()
    assert tones.margin(CALM, "calm") == pytest.approx(-tones.margin(CALM, "loud"))


def test_its_skill_is_measured_on_texts_whose_tone_it_was_not_told():
    """Their letters are in the weights of the letter groups, so it may not say that it has not read them."""
    skill = taught().skill()
    assert "in scripts whose tone it was not told" in skill.sentence and "not read" not in skill.sentence
    assert skill.shown and skill.rank > 0.8 and skill.n == 24


def test_on_tones_given_by_lot_it_admits_to_guessing():
    """Trained on nothing, it still knew every text it had read by heart."""
    ids = [f"r{n}" for n in range(40)]
    texts = texts_of(OTHER, 40, 3)
    tones = ToneClassifier(ids, texts, ["calm", "loud", "bold", "warm"] * 10)
    skill = tones.skill()
    assert 0.3 < skill.rank < 0.7
    assert not skill.shown and "no better than guessing shown" in skill.sentence
    assert tones.margin(texts[0], "calm") > tones.held_out["r0"]


def test_a_left_out_text_is_forgotten():
    tones = taught(4)
    assert tones.margin(tones.texts[0], "calm", frozenset({"r0"})) < tones.margin(tones.texts[0], "calm")
    assert tones.held_out["r0"] == tones.margin(tones.texts[0], "calm", frozenset({"r0"}))


def test_a_tone_with_one_example_is_not_held_out_and_not_known():
    tones = ToneClassifier(["a", "b", "c"], ["শান্ত নদী", "শান্ত ভোর", "ঢোল বাজে"], ["calm", "calm", "loud"])
    assert tones.known == ["calm"] and set(tones.held_out) == {"a", "b"}


def test_an_unknown_tone_is_named_with_those_that_are_known():
    with pytest.raises(KeyError, match="known: calm, loud"):
        taught(3).margin(CALM, "bold")


@pytest.mark.parametrize(("texts", "tones"), [(["ক"], ["calm"]), (["ক", "খ"], ["calm", "calm"]), (["ক"], [])])
def test_too_few_tones_teach_nothing(texts, tones):
    with pytest.raises(ValueError, match="two tones are needed"):
        ToneClassifier([str(n) for n in range(len(texts))], texts, tones)


def test_it_says_the_same_every_time():
    assert taught().held_out == taught().held_out and taught().skill() == taught().skill()


def test_a_common_tone_is_no_likelier_for_any_text():
    """With 30 texts against 6 the classifier called everything loud, and was right more often than by guessing."""
    texts = texts_of(OTHER, 37, 5)
    tones = ToneClassifier([str(n) for n in range(36)], texts[:36], ["loud"] * 30 + ["calm"] * 6)
    margins = [tones.margin(text, "loud") for text in texts_of(OTHER, 30, 6)]
    assert abs(sum(margins)) / 30 < 0.5 and min(margins) < 0 < max(margins)
    assert not tones.skill().shown
