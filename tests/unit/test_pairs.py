"""Preference pairs: each defect is the one it says, both sides are as long, and what cannot teach is refused."""

import json
import random
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lekhai_helpers.core.recipe import data_file, resolve
from lekhai_helpers.learn import pairs as module
from lekhai_helpers.learn.defects import plant_defect
from lekhai_helpers.learn.model import Generation
from lekhai_helpers.learn.pairs import (
    GIVEN,
    NO_DEFECT,
    NO_LENGTH,
    OWN,
    OWN_CUT,
    SAME,
    TWICE,
    Pair,
    PreferenceError,
    check_pairs,
    length_figures,
    length_gap,
    make_pairs,
    save_rows,
)
from lekhai_helpers.prepare.contracts.ad_script import AdScript, check, parse_ad_script
from lekhai_helpers.prepare.contracts.ad_script_faults import DEFECTS
from lekhai_helpers.prepare.dataset import load_table, to_examples

ROWS = [(f"দৃশ্য {letter}", f"ভিও: কথা {letter}") for letter in "কখগঘঙচ"]
SCRIPT = AdScript(ROWS)
TEXT = SCRIPT.to_markdown()


# --- planted defects


def test_a_lost_cell_breaks_one_row_and_no_other():
    versions = DEFECTS["a row lost a cell"](TEXT)
    assert len(set(versions)) == len(ROWS)
    for text in versions:
        script, problems = parse_ad_script(text)
        assert len(problems) == 1 and problems[0].endswith("1 cell(s) instead of 2")
        assert len(text.split("\n")) == len(TEXT.split("\n")) and set(script.rows) < set(ROWS)
        assert not check(text).ok


def test_a_missing_ending_takes_the_last_row_and_leaves_a_valid_table():
    (text,) = DEFECTS["the ending is missing"](TEXT)
    assert parse_ad_script(text) == (AdScript(ROWS[:-1]), []) and check(text).ok


def test_a_repeated_row_stands_right_after_itself():
    versions = DEFECTS["a row is repeated"](TEXT)
    assert len(set(versions)) == len(ROWS) - 1
    for text in versions:
        script, problems = parse_ad_script(text)
        changed = [place for place in range(6) if script.rows[place] != ROWS[place]]
        assert problems == [] and len(changed) == 1 and script.rows[changed[0]] == ROWS[changed[0] - 1]
        assert check(text).facts["repeated_rows"] == 1


def test_swapped_columns_keep_every_word_and_the_header():
    (text,) = DEFECTS["the columns are swapped"](TEXT)
    assert parse_ad_script(text) == (AdScript([(audio, visual) for visual, audio in ROWS]), [])
    assert text.startswith("| Visual | Audio |\n|---|---|\n")


def test_a_planted_defect_is_named_differs_and_can_be_had_again():
    seen = set()
    for seed in range(40):
        text, name = plant_defect(TEXT, random.Random(seed))
        assert text in DEFECTS[name](TEXT) and text != TEXT
        assert (text, name) == plant_defect(TEXT, random.Random(seed))
        seen.add(name)
    assert seen == set(DEFECTS)


@pytest.mark.parametrize("text", ["কোনো টেবিল নেই", AdScript(ROWS[:1]).to_markdown()])
def test_a_text_that_is_no_script_gets_no_defect(text):
    with pytest.raises(ValueError, match="not a valid table"):
        plant_defect(text, random.Random(1))


def test_of_a_film_of_three_shots_no_row_is_taken_because_that_is_a_third_of_it():
    text = AdScript([("ক" * 30, "খ" * 30), ("গ" * 30, "ঘ" * 30), ("ঙ" * 30, "চ" * 30)]).to_markdown()
    near = lambda other: length_gap(len(text), len(other)) <= 0.2  # noqa: E731
    names = {plant_defect(text, random.Random(seed), near)[1] for seed in range(30)}
    assert names == {"a row lost a cell", "a row is repeated", "the columns are swapped"}
    assert plant_defect(text, random.Random(1), lambda other: False) is None


def test_a_script_whose_rows_are_all_alike_is_not_called_repeated():
    text = AdScript([("ক", "খ")] * 4).to_markdown()
    found = {plant_defect(text, random.Random(seed))[1] for seed in range(30)}
    assert "a row is repeated" not in found and found


def test_the_scripts_of_the_data_lose_nothing_but_what_the_defect_takes():
    """Written back as a table, a script must be what it was: else the pair teaches the form of the table as well."""
    table, _ = load_table(data_file("Ad Script Dataset - Scripts.csv"))
    scripts = list(table[table["usable"]]["script"])
    assert len(scripts) > 50
    assert all(parse_ad_script(text)[0].to_markdown() == text for text in scripts)


# --- making pairs


class Letters:
    """A tokenizer with one token a character, and a template that writes the messages in a row."""

    def __call__(self, text, add_special_tokens):
        return SimpleNamespace(input_ids=list(text))

    def apply_chat_template(self, messages, tokenize):
        return "".join(message["content"] for message in messages)


def example(number, rows=ROWS):
    text = AdScript(rows).to_markdown().replace("দৃশ্য", f"দৃশ্য {number}")
    prompt = [{"role": "user", "content": f"বিষয় {number}"}]
    return {"id": f"r{number}", "prompt": prompt, "completion": [{"role": "assistant", "content": text}]}


EXAMPLES = [example(number) for number in range(12)]
BY_PROMPT = {e["prompt"][0]["content"]: e["completion"][0]["content"] for e in EXAMPLES}
SETTINGS = resolve("lekhai", "smoke", {"dpo.pairs": 8, "dpo.planted_share": 0.25})


@pytest.fixture
def pairs_from(monkeypatch):
    """Return a function: given what the model writes (for prompt and seed), the pairs that come of it."""

    def make(write, examples=EXAMPLES, max_length=1000, settings=SETTINGS, stopped=True):
        def answers(model, tokenizer, prompts, decoding, seed):
            calls.append((len(prompts), seed))
            return [Generation(write(prompt[0]["content"], seed), 1, stopped, 0.1) for prompt in prompts]

        calls = make.calls = []
        monkeypatch.setattr(module, "generate", answers)
        return make_pairs(None, Letters(), examples, settings, max_length)

    return make


def other(prompt, seed=0):
    """Write a script of the right length that is not the training row's."""
    return BY_PROMPT[prompt].replace("কথা", "গান")


def test_a_share_of_the_pairs_is_planted_and_the_rest_is_the_models_own(pairs_from):
    pairs, left_out = pairs_from(other)
    assert [pair.source.split(":")[0] for pair in pairs] == ["planted"] * 2 + [OWN] * 6
    assert all(pair.chosen == BY_PROMPT[pair.prompt[0]["content"]] for pair in pairs)
    assert all(pair.prompt[0]["content"] == f"বিষয় {pair.example[1:]}" for pair in pairs)
    assert len({pair.example for pair in pairs}) == 8 and left_out == {}


# --- rows that bring a rejected answer

PER_TOKEN = resolve("lekhai", "smoke", {"dpo.pairs": 8, "dpo.planted_share": 0.25, "dpo.loss": "sigmoid_norm"})


def with_rejected(text_of):
    return [one | {"rejected": text_of(one["completion"][0]["content"])} for one in EXAMPLES]


def test_a_rejected_answer_of_like_length_takes_the_place_of_the_models_own(pairs_from):
    pairs, left_out = pairs_from(other, with_rejected(lambda text: text.replace("কথা", "গান")))
    assert [pair.source.split(":")[0] for pair in pairs] == ["planted"] * 2 + [GIVEN] * 6 and left_out == {}
    assert pairs_from.calls == [] and all("গান" in pair.rejected for pair in pairs[2:])


def test_a_much_shorter_rejected_answer_is_left_to_the_model_where_length_is_rewarded(pairs_from):
    """All of them short, "longer is better" would be all there is to learn."""
    pairs, _ = pairs_from(other, with_rejected(lambda _: "না"))
    assert {pair.source.split(":")[0] for pair in pairs} == {"planted", OWN}


def test_a_loss_that_counts_per_token_takes_it_as_it_is(pairs_from):
    pairs, _ = pairs_from(other, with_rejected(lambda _: "না"), settings=PER_TOKEN)
    given_ones = [pair for pair in pairs if pair.source == GIVEN]
    assert len(given_ones) == 6 and all(pair.rejected == "না" for pair in given_ones)
    with pytest.raises(PreferenceError, match="more than 20% apart"):
        check_pairs(pairs, Letters(), 1000)
    assert len(check_pairs(pairs, Letters(), 1000, "sigmoid_norm")) == len(pairs)


def test_a_rejected_answer_that_is_the_good_one_or_does_not_fit_is_no_pair(pairs_from):
    """A pair of equal sides teaches nothing, and a cut side teaches never to stop."""
    same, _ = pairs_from(other, with_rejected(lambda text: f" {text} "), settings=PER_TOKEN)
    long, _ = pairs_from(other, with_rejected(lambda text: text * 9), settings=PER_TOKEN)
    assert GIVEN not in {pair.source for pair in same + long}


def test_the_alignment_rows_bring_theirs_and_its_recipe_can_learn_from_them():
    settings = resolve("alignment", "cpu")
    data = settings.data
    table, _ = load_table(data_file(data.file), data.prompts, data.source, data.contract)
    table["split"] = "train"
    examples = to_examples(table, data.prompts, settings.system_prompt)
    assert len(examples) == 200 and all(one["rejected"] for one in examples)
    assert settings.dpo.loss == "sigmoid_norm"


def test_every_pair_lies_within_a_fifth_whatever_the_model_writes(pairs_from):
    def write(prompt, seed):
        dice = random.Random(f"{prompt}{seed}")
        return "\n".join(["| দৃশ্য | কথা |"] * dice.randrange(1, 40))

    pairs, left_out = pairs_from(write)
    assert len(pairs) + sum(left_out.values()) == 8
    assert all(length_gap(len(pair.chosen), len(pair.rejected)) <= 0.2 for pair in pairs)
    assert check_pairs(pairs, Letters(), 1000)


def test_a_sample_that_is_too_long_is_cut_at_a_row_end(pairs_from):
    """Otherwise "shorter is better" is all there is to learn."""
    pairs, left_out = pairs_from(lambda prompt, seed: "\n".join(["| দৃশ্য | কথা |"] * 500))
    own = [pair for pair in pairs if not pair.source.startswith("planted")]
    assert len(own) == 6 and {pair.source for pair in own} == {OWN_CUT} and left_out == {}
    assert all(set(pair.rejected.split("\n")) == {"| দৃশ্য | কথা |"} for pair in own)


def test_cut_sides_lie_around_the_better_sides_length_and_not_above_it(pairs_from):
    """Cut to the most that is allowed, all worse sides are up to a fifth longer, and "shorter is better" is learned."""
    pairs, _ = pairs_from(lambda prompt, seed: "\n".join(["| দৃশ্য | কথা |"] * 500))
    own = [pair for pair in pairs if pair.source == OWN_CUT]
    gaps = [(len(pair.rejected) - len(pair.chosen)) / len(pair.chosen) for pair in own]
    half_a_row = len("| দৃশ্য | কথা |\n") / 2 / min(len(pair.chosen) for pair in own)
    assert len(own) == 6 and all(abs(gap) <= half_a_row for gap in gaps)


def test_a_sample_that_ended_by_itself_near_enough_is_left_whole(pairs_from):
    pairs, _ = pairs_from(lambda prompt, seed: other(prompt) + "\n| ছবি | কথা |")
    own = [pair for pair in pairs if not pair.source.startswith("planted")]
    assert {pair.source for pair in own} == {OWN} and all(pair.rejected.endswith("| ছবি | কথা |") for pair in own)


def test_a_sample_that_ran_into_the_limit_loses_its_torn_row(pairs_from):
    pairs, _ = pairs_from(lambda prompt, seed: other(prompt) + "\n| ছেঁড়া", stopped=False)
    own = [pair for pair in pairs if not pair.source.startswith("planted")]
    assert len(own) == 6
    assert all(pair.rejected == other(pair.prompt[0]["content"]) and pair.source == OWN_CUT for pair in own)


@pytest.mark.parametrize("bad", ["ছোট", "ক" * 5000, ""], ids=["too short", "one endless row", "nothing"])
def test_a_sample_of_no_use_is_drawn_once_more_with_another_seed(pairs_from, bad):
    pairs, left_out = pairs_from(lambda prompt, seed: bad if seed == SETTINGS.seed else other(prompt))
    assert pairs_from.calls == [(6, SETTINGS.seed), (6, SETTINGS.seed + 1)]
    assert len(pairs) == 8 and left_out == {}


def test_what_is_of_no_use_twice_is_left_out_and_counted(pairs_from):
    pairs, left_out = pairs_from(lambda prompt, seed: "ছোট")
    assert len(pairs) == 2 and left_out == {NO_LENGTH: 6} and len(pairs_from.calls) == 2


def test_a_sample_that_is_the_chosen_text_itself_is_left_out(pairs_from):
    """A pair whose sides are equal has gradient zero and margin zero: it only thins the batch."""
    pairs, left_out = pairs_from(lambda prompt, seed: BY_PROMPT[prompt] + "\n")
    assert len(pairs) == 2 and left_out == {SAME: 6}


def test_the_same_pair_twice_is_kept_once(pairs_from):
    settings = resolve("lekhai", "smoke", {"dpo.pairs": 4, "dpo.planted_share": 0.0})
    pairs, left_out = pairs_from(other, examples=[EXAMPLES[0]] * 4, settings=settings)
    assert len(pairs) == 1 and left_out == {TWICE: 3}


def test_a_row_that_does_not_fit_whole_is_not_drawn(pairs_from):
    long = example(99, ROWS * 5)
    pairs, _ = pairs_from(other, examples=[*EXAMPLES[:3], long], max_length=300)
    assert {pair.example for pair in pairs} == {"r0", "r1", "r2"}


def test_a_sample_that_would_be_cut_by_the_trainer_is_cut_at_a_row_instead(pairs_from):
    limit = max(len(prompt) + len(text) for prompt, text in BY_PROMPT.items())
    pairs, _ = pairs_from(lambda prompt, seed: other(prompt) + "\n| অতিরিক্ত | সারি |", max_length=limit)
    assert len(pairs) == 8
    assert max(row["whole"] for row in check_pairs(pairs, Letters(), limit)) <= limit


def test_a_script_no_defect_can_be_planted_in_is_left_out(pairs_from, monkeypatch):
    monkeypatch.setattr(module, "plant_defect", lambda *_: None)
    pairs, left_out = pairs_from(other)
    assert len(pairs) == 6 and left_out == {NO_DEFECT: 2}


def test_the_same_seed_gives_the_same_pairs(pairs_from):
    assert pairs_from(other) == pairs_from(other)


# --- checking and keeping


GOOD = Pair([{"role": "user", "content": "বিষয় ১"}], "ক" * 100, "খ" * 90, OWN, "r1")


def changed(**changes):
    return Pair(**{**GOOD.__dict__, **changes})


def test_sound_pairs_come_back_with_their_lengths():
    rows = check_pairs([GOOD, changed(rejected="গ" * 120)], Letters(), 127)
    assert rows[0] == {"example": "r1", "source": OWN, "chosen": 100, "rejected": 90, "whole": 107}
    figures = {"rows": 2, "mean_chosen_tokens": 100, "mean_rejected_tokens": 105, "mean_gap": 0.05, "widest_gap": 0.2}
    assert length_figures(rows) == figures | {"longest": 127}


def leaning(tokens, number):
    return [changed(example=f"r{n}", chosen=f"{n}" + "ক" * 99, rejected="খ" * tokens) for n in range(number)]


@pytest.mark.parametrize(("tokens", "said"), [(112, "12% longer.*shorter is better"), (85, "15% shorter.*longer is b")])
def test_worse_sides_that_all_lean_one_way_are_refused_though_each_is_near_enough(tokens, said):
    with pytest.raises(PreferenceError, match=f"{said}.*raise dpo.planted_share"):
        check_pairs(leaning(tokens, 8), Letters(), 150)


def test_the_pairs_that_lean_most_are_left_out_until_the_lengths_balance():
    """A refusal would stop the run over a few samples that happen to be long."""
    from lekhai_helpers.learn.pairs import _without_leaning

    others = [changed(example=f"s{n}", chosen="গ" * (100 + n), rejected="ঘ" * (92 + n)) for n in range(8)]
    kept = _without_leaning(leaning(118, 8) + others, Letters())
    assert abs(length_figures(check_pairs(kept, Letters(), 150))["mean_gap"]) <= 0.05
    assert others == [pair for pair in kept if pair in others] and len(kept) > len(others)
    assert _without_leaning(others, Letters()) != [] and _without_leaning(leaning(103, 8), Letters()) == leaning(103, 8)


def test_a_lean_within_a_tenth_or_of_few_pairs_is_only_told():
    assert length_figures(check_pairs(leaning(110, 8), Letters(), 150))["mean_gap"] == 0.1
    assert length_figures(check_pairs(leaning(85, 7), Letters(), 150))["mean_gap"] == -0.15
    mixed = leaning(118, 4) + [changed(example=f"s{n}", chosen="গ" * (100 + n), rejected="ঘ" * 84) for n in range(4)]
    assert check_pairs(mixed, Letters(), 150)


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        ([], "no pairs to learn from: raise dpo.pairs"),
        ([changed(rejected="ক" * 100 + "\n")], "both sides are the same"),
        ([changed(rejected="খ" * 79)], "79 tokens against 100: more than 20% apart"),
        ([changed(rejected="খ" * 121)], "121 tokens against 100: more than 20% apart"),
        ([changed(chosen="ক" * 200, rejected="খ" * 190)], "207 tokens would be cut at 150: raise model.max_seq_length"),
        ([GOOD, GOOD], r"pair 2 \(row r1, the model's own sample\): it stands there twice"),
    ],
)
def test_what_cannot_teach_is_refused_with_the_reason(pairs, said):
    with pytest.raises(PreferenceError, match=said):
        check_pairs(pairs, Letters(), 150)


def test_many_faults_are_counted_and_five_are_shown():
    with pytest.raises(PreferenceError) as caught:
        check_pairs([changed(rejected="খ", example=f"r{n}", chosen="ক" * (60 + n)) for n in range(9)], Letters(), 150)
    assert str(caught.value).count("\n") == 6 and "and 4 more" in str(caught.value)


@given(st.integers(1, 5000), st.integers(0, 6000))
def test_the_gap_is_a_share_of_the_better_side(chosen, rejected):
    assert (length_gap(chosen, rejected) <= 0.2) == (5 * abs(chosen - rejected) <= chosen)


def test_pairs_are_kept_one_a_line_with_source_and_row(tmp_path):
    lines = save_rows([GOOD, changed(example="r2")], tmp_path / "pairs.jsonl").read_text("utf-8").splitlines()
    kept = [json.loads(line) for line in lines]
    assert [entry["example"] for entry in kept] == ["r1", "r2"]
    assert kept[0] == GOOD.__dict__


def test_a_pair_is_shown_with_both_sides_and_its_source():
    shown = GOOD.shown(10)
    assert OWN in shown and "BETTER\n" + "ক" * 10 + "\n\nWORSE\n" + "খ" * 10 + "\n" in shown
