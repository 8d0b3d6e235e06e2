"""Copying is measured: planted copies are found, to the word, and what people repeat by chance stands beside it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lekhai_helpers.core.recipe import resolve
from lekhai_helpers.measure import memorising
from lekhai_helpers.measure.memorising import Passage, compare, copied_passages, in_words, table, verbatim_share

SCRIPT = """| Visual | Audio |
|---|---|
| ভোরের মাঠে কুয়াশা, দূরে একটি সাইকেল | ভিও: সকাল শুরু হোক নিজের গতিতে, নিজের পথে |
| শিশুর হাসি, মায়ের চোখে জল | ভিও: প্রতিটি যাত্রায় পাশে আছি আমরা |"""
OTHER = """| Visual | Audio |
|---|---|
| রান্নাঘরে ধোঁয়া ওঠা ভাত | ভিও: ঘ্রাণেই ফিরে আসে শৈশব |"""
TRAINING = {"cycle": SCRIPT, "rice": OTHER}
LETTERS = st.lists(st.sampled_from("কখগ"), max_size=25).map(" ".join)


def brute_force(text: str, training: list[str], n: int) -> tuple[int, int, int]:
    """Return ngrams, copied ngrams and the longest common run, looked for in the slowest and plainest way."""
    units, rows = text.split(), [row.split() for row in training]

    def stands(run):
        return any(row[i : i + len(run)] == run for row in rows for i in range(len(row)))

    grams = [units[i : i + n] for i in range(len(units) - n + 1)]
    runs = [units[i:j] for i in range(len(units)) for j in range(i + 1, len(units) + 1)]
    longest = max((len(run) for run in runs if len(run) >= min(n, 3) and stands(run)), default=0)
    return len(grams), sum(stands(gram) for gram in grams), longest


@settings(max_examples=150, deadline=None)
@given(LETTERS, st.lists(LETTERS, min_size=1, max_size=3), st.integers(1, 6))
def test_every_count_agrees_with_a_search_by_brute_force(text, training, n):
    found = verbatim_share([text], training, n)
    assert (found["ngrams"], found["copied"], found["longest"]) == brute_force(text, training, n)


@settings(max_examples=100, deadline=None)
@given(LETTERS, st.lists(LETTERS, min_size=1, max_size=3), st.integers(1, 6))
def test_passages_stand_in_the_training_text_they_name_and_hold_every_copy(text, training, n):
    passages = copied_passages(text, training, n)
    for passage in passages:
        assert passage.words >= min(n, 1) and f" {passage.text} " in f" {training[int(passage.where)]} "
        assert f" {passage.text} " in f" {text} " and passage.words == len(passage.text.split()) >= n
    assert bool(passages) == bool(verbatim_share([text], training, n)["copied"])


def test_a_planted_copy_is_found_whole_with_the_example_it_comes_from():
    planted = "নতুন ব্র্যান্ড সকাল শুরু হোক নিজের গতিতে নিজের পথে শিশুর হাসি মায়ের চোখে জল নতুন শেষ"
    found = verbatim_share({"mine": planted, "own": "একেবারে নতুন কথা যা আগে কেউ কখনো এভাবে লেখেনি"}, TRAINING)
    assert (found["longest"], found["longest_in"], found["longest_from"]) == (12, "mine", "cycle")
    assert found["copied"] == 12 - 8 + 1 and found["texts_with_copy"] == 1
    assert found["ngrams"] == (16 - 7) + (9 - 7)
    [passage] = copied_passages(planted, TRAINING)
    assert passage == Passage(12, "সকাল শুরু হোক নিজের গতিতে নিজের পথে শিশুর হাসি মায়ের চোখে জল", "cycle")


def test_table_marks_punctuation_and_other_forms_of_a_letter_hide_no_copy():
    """A copy laid out anew, or typed with another form of ড়, is still a copy."""
    said = "সকাল, শুরু! হোক | নিজের | গতিতে — নিজের পথে | শিশুর হাসি"
    assert verbatim_share([said], TRAINING)["share"] == 1
    apart = "গাড\u09bc\u09bfতে চড\u09bcে দূর পথে যাই আমরা সবাই মিলে"
    composed = apart.replace("ড\u09bc", "\u09dc")
    assert composed != apart and verbatim_share([composed], [apart])["share"] == 1


def test_the_header_all_scripts_share_is_no_copied_word():
    first, second = ("| Visual | Audio |\n|---|---|\n| এক দুই তিন চার পাঁচ ছয় | " + end for end in ("ক |", "খ |"))
    assert verbatim_share([first], [second])["copied"] == 0
    assert verbatim_share([first], [second])["longest"] == 6


def test_a_run_ends_where_the_training_text_ends():
    """Two rows side by side in the index must not make one long row."""
    text = "এক দুই তিন চার পাঁচ ছয় সাত আট"
    split = ["এক দুই তিন চার", "পাঁচ ছয় সাত আট"]
    found = verbatim_share([text], split)
    assert (found["copied"], found["longest"]) == (0, 4) and verbatim_share([text], [text])["copied"] == 1


def test_words_of_the_brief_are_no_memorising():
    offer = "ঈদে সব পোশাকে চল্লিশ ভাগ ছাড় শুধু তিন দিন"
    found = verbatim_share([offer + " আর নয়"], [offer], briefs=["লিখুন: " + offer])
    assert found["share"] == pytest.approx(0.5, abs=0.2) and found["copied"] == 2
    assert found["share_beyond_brief"] == 0
    other = verbatim_share([offer + " আর নয়"], [offer], briefs=["কিছু একটা লিখুন"])
    assert other["share_beyond_brief"] == other["share"]
    assert verbatim_share([offer], [offer])["share_beyond_brief"] is None


def test_the_interval_holds_the_share_and_is_the_same_each_time():
    texts = [SCRIPT, OTHER, *(f"কথা{i} নতুন কথা একেবারে অন্য ধরনের লেখা এখানে আছে {i}" for i in range(6))]
    found = verbatim_share(texts, TRAINING)
    assert 0 <= found["low"] < found["share"] < found["high"] <= 1
    assert verbatim_share(texts, TRAINING) == found


def test_texts_too_short_for_an_ngram_have_no_share_rather_than_none_copied():
    found = verbatim_share(["ভিও: চলো", ""], TRAINING)
    assert found["ngrams"] == 0 and found["share"] is found["low"] is found["high"] is None
    assert "too short" in in_words(found, found)


def test_tokens_are_those_of_the_tokenizer_given():
    def tokenizer(text, add_special_tokens):
        assert not add_special_tokens
        return {"input_ids": [ord(letter) for letter in text]}

    found = verbatim_share(["abcdefghij"], ["zzabcdefghzz"], 8, "token", tokenizer=tokenizer)
    assert (found["ngrams"], found["copied"], found["longest"]) == (3, 1, 8)
    with pytest.raises(ValueError, match="tokenizer"):
        verbatim_share(["a"], ["b"], unit="token")


@pytest.mark.parametrize(
    ("texts", "training", "n", "says"),
    [
        ([], ["a"], 8, "no texts"),
        (["a"], [], 8, "no training texts"),
        (["a"], ["a"], 0, "n is 0"),
        ("a", ["a"], 8, "list"),
    ],
)
def test_what_cannot_be_compared_is_refused(texts, training, n, says):
    with pytest.raises(ValueError, match=says):
        verbatim_share(texts, training, n)


def example(name: str, script: str, prompt: str) -> dict:
    messages = [{"role": "system", "content": "টেবিল লিখুন"}, {"role": "user", "content": prompt}]
    return {"id": name, "prompt": messages, "completion": [{"role": "assistant", "content": script}]}


def test_generated_and_held_out_scripts_stand_side_by_side():
    train = [example("cycle", SCRIPT, f"সাইকেলের বিজ্ঞাপন {i}") for i in range(3)]
    held_out = [example("rice", OTHER, "চালের বিজ্ঞাপন"), example("rice", OTHER, "ভাত")]
    rows = [{"brief_id": "b1", "seed": seed, "text": SCRIPT, "prompt": "সাইকেল"} for seed in (1, 2)]
    generated, people = compare(rows, train, held_out, resolve("lekhai", "smoke"))
    assert (generated["texts"], people["texts"]) == (2, 1)
    assert generated["share"] == 1 and generated["longest_in"] == "b1/1" and people["share"] == 0
    shown = table([generated, people])
    assert list(shown.index) == ["written by the model", "held-out scripts"] and shown["share"].tolist() == [1, 0]
    assert in_words(generated, people).startswith("It copies more")
    assert in_words(people, generated).startswith("It copies less")
    assert in_words(people, people).startswith("No more copying shown")
    assert memorising.prompts_by_id(held_out) == {"rice": "টেবিল লিখুন\nচালের বিজ্ঞাপন\nভাত"}


def test_what_was_said_before_in_a_conversation_is_no_memorising_either():
    """The held-out side was given every message, and the generated side only the last."""
    earlier = [{"role": "system", "content": "Help."}, {"role": "user", "content": "What is the weather in Sylhet?"}]
    reply = "It is cloudy in Sylhet,\nwith twenty six degrees\nand a light wind."
    asked = [*earlier, {"role": "assistant", "content": reply}, {"role": "user", "content": "Again, please."}]
    train = [{"id": "t", "prompt": earlier, "completion": [{"role": "assistant", "content": reply}]}]
    row = {"id": "h", "prompt": asked, "completion": [{"role": "assistant", "content": reply}]}
    written = [{"brief_id": "h", "seed": 1, "text": reply, "prompt": asked}]
    generated, people = compare(written, train, [row], resolve("twainbot", "smoke"))
    assert generated["copied"] == people["copied"] > 0
    assert generated["share_beyond_brief"] == people["share_beyond_brief"]


def test_a_plain_prompt_and_its_messages_count_the_same():
    offer, how = "ঈদে সব পোশাকে চল্লিশ ভাগ ছাড় শুধু তিন দিন", resolve("lekhai", "smoke")
    train = [example("eid", offer, "ঈদ")]
    messages = [{"role": "system", "content": how.system_prompt}, {"role": "user", "content": offer}]
    rows = [{"brief_id": "b", "seed": 1, "text": f"{offer} আর নয়", "prompt": prompt} for prompt in (offer, messages)]
    plain, whole = (compare([row], train, train, how)[0] for row in rows)
    assert plain == whole and plain["share"] > plain["share_beyond_brief"] == 0


def test_the_data_of_the_project_hardly_repeats_itself():
    """The baseline a model is held to: the held-out scripts against the rest."""
    from lekhai_helpers.core.recipe import data_file
    from lekhai_helpers.prepare.dataset import load_table

    scripts = load_table(data_file("Ad Script Dataset - Scripts.csv"))[0].set_index("id")["script"].to_dict()
    names = list(scripts)
    people = verbatim_share({n: scripts[n] for n in names[::5]}, {n: scripts[n] for n in names if n not in names[::5]})
    assert people["ngrams"] > 1000 and people["share"] < 0.01
