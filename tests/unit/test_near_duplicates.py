"""What says the same is found, by letters or by meaning, and the way it was found is named."""

import numpy as np
import pytest

from lekhai_helpers.core.recipe import data_folder
from lekhai_helpers.prepare import near_duplicates as module
from lekhai_helpers.prepare.near_duplicates import EmbedderError, embed, near_duplicates
from lekhai_helpers.prepare.vault import extract

# Notes of our vault, told again in other words by somebody who had read them.
RETOLD = {
    "Decisions/Mornings without the phone.md": (
        "Since spring I reach for the phone before my glasses, and by six I've fought with four strangers in "
        "my mind. I put it in the kitchen. It worked one day; on the fifth I missed my sister's message, sent "
        "before six because she couldn't sleep. A rule doesn't ask who's calling. The smart one sleeps in the "
        "kitchen and the old one with buttons, known to three people only, beside my bed."
    ),
    "Reflections/Anger at four o'clock.md": (
        "For most of May I noted the hour whenever I snapped at somebody. Five of seven times it was between "
        "ten to four and half past, so what makes me angry isn't carelessness, it is four in the afternoon: "
        "lunch was early, the tablet, sun on the desk. What bothers me is how excellent my arguments were "
        "each time. If hunger can produce reasons that good, I should distrust the ones I have after dinner. "
        "From now on puffed rice and a banana at 3:30, a curtain, and no remarks to Labonno till five."
    ),
    "Daily/2023-02-21.md": (
        "একুশের ভোরে খালি পায়ে হেঁটে মেলায় গেলাম। দুপুরে এক মা তাঁর মেয়েকে নিয়ে এলেন, মেয়েটা ইংরেজি "
        "মাধ্যমে পড়ে আর বাংলা থেমে থেমে পড়ে, মা তাতে লজ্জা পাচ্ছেন। দোষটা যে মায়ের, সেটা প্রায় বলে "
        "ফেলেছিলাম। তখনই মেয়েটা বই থেকে ডাহুক শব্দটা পড়ে জিজ্ঞেস করল পাখির ডাক থেকেই নামটা এসেছে কি না। "
        "আমার জানা ছিল না, আর সেটা মানতে কষ্ট হলো।"
    ),
}


@pytest.fixture
def no_model(monkeypatch):
    monkeypatch.setattr(module, "_on_disk", lambda name: None)


def test_retold_notes_are_found_by_letters_and_no_others(no_model):
    found = list(extract(data_folder() / "companion" / "vault"))
    paths = [one.source["path"] for one in found]
    texts = [one.messages[1]["content"] for one in found] + list(RETOLD.values())
    duplicates = near_duplicates(texts)
    pairs = {(pair.first, pair.second) for pair in duplicates.pairs}
    assert pairs == {(paths.index(path), len(paths) + place) for place, path in enumerate(RETOLD)}
    assert "letters, not by meaning" in duplicates.method


def test_the_nearest_is_told_from_both_sides(no_model):
    text = next(iter(RETOLD.values()))
    duplicates = near_duplicates([text, "Nothing like it at all, and in few words.", text + " Or so.", text])
    assert duplicates.nearest(0) == (3, pytest.approx(1.0)) and duplicates.nearest(3)[0] == 0
    assert duplicates.nearest(2)[0] in (0, 3) and duplicates.nearest(1) is None
    assert [pair.similarity for pair in duplicates.pairs] == sorted(p.similarity for p in duplicates.pairs)[::-1]


def test_no_text_and_empty_texts_have_no_pairs(no_model):
    assert near_duplicates([]).pairs == []
    assert near_duplicates(["", ""]).pairs == []


def test_blocks_do_not_change_what_is_found(no_model, monkeypatch):
    texts = [f"the {word} fox jumps over {word} dogs" for word in ("red", "red", "old", "blue", "blue", "blue")]
    whole = near_duplicates(texts, alike=0.8).pairs
    monkeypatch.setattr(module, "_BLOCK", 2)
    parts = near_duplicates(texts, alike=0.8).pairs
    assert [(p.first, p.second) for p in parts] == [(p.first, p.second) for p in whole]
    assert {(p.first, p.second) for p in whole} == {(0, 1), (3, 4), (3, 5), (4, 5)}


def test_a_model_that_cannot_be_had_is_an_error_with_a_remedy(tmp_path):
    with pytest.raises(EmbedderError, match="leave --embedder out"):
        near_duplicates(["a", "b"], embedder=str(tmp_path))


@pytest.fixture
def tiny(tmp_path):
    """A random two-layer encoder with a dictionary of words, written as a folder."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    names = ["[PAD]", "[UNK]", "query", ":", *["the", "red", "old", "blue", "fox", "dog", "sleeps", "runs"]]
    core = Tokenizer(models.WordLevel({name: place for place, name in enumerate(names)}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=core, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(tmp_path)
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=len(names), **shape)).save_pretrained(tmp_path)
    return str(tmp_path)


def test_a_vector_is_the_same_in_any_company(tiny):
    """Padding counted in would make a short text's vector hang on the longest one beside it."""
    alone, together = embed(["the red fox"], tiny), embed(["the red fox", "the old dog sleeps the blue fox runs"], tiny)
    assert together.shape == (2, 16) and np.allclose(alone[0], together[0], atol=1e-5)
    assert np.allclose(np.linalg.norm(together, axis=1), 1)


def test_a_model_in_a_folder_compares_by_meaning(tiny):
    texts = ["the red fox runs", "the old dog sleeps", "the red fox runs", "blue blue blue"]
    duplicates = near_duplicates(texts, embedder=tiny, alike=0.99)
    assert [(pair.first, pair.second) for pair in duplicates.pairs] == [(0, 2)]
    assert duplicates.method.startswith("compared by meaning")


def test_a_half_fetched_model_that_nobody_named_is_passed_over_and_said(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    monkeypatch.setattr(module, "EMBEDDER", str(tmp_path))
    monkeypatch.setattr(module, "_on_disk", lambda name: name)
    duplicates = near_duplicates(["the red fox runs", "the red fox runs"])
    assert [(pair.first, pair.second) for pair in duplicates.pairs] == [(0, 1)]
    assert "letters, not by meaning" in duplicates.method and "only in part" in duplicates.method


def test_few_texts_that_are_the_same_by_meaning_are_a_pair(tiny):
    """Their mean is they themselves: taken away, nothing would remain to compare."""
    duplicates = near_duplicates(["the red fox runs"] * 2, embedder=tiny)
    assert [(pair.first, pair.second) for pair in duplicates.pairs] == [(0, 1)]


def test_a_thousand_pages_of_one_template_make_no_half_million_pairs(no_model):
    pages = [
        f"Weather, mood, sleep, three good things: page number {number} of my daily template" for number in range(300)
    ]
    duplicates = near_duplicates(pages)
    assert len(duplicates.pairs) * 2 >= 300 and len(duplicates.pairs) <= 3 * 300
    assert all(duplicates.nearest(place) for place in range(300))
