"""Pairs of a better and a worse script: each defect is the one it says, and the verdict is a rule."""

import random
from types import SimpleNamespace

import pytest

from lekhai_helpers.core.recipe import resolve
from lekhai_helpers.learn import preference
from lekhai_helpers.learn.model import Generation
from lekhai_helpers.learn.preference import DEFECTS, Pair, alarms, check_pairs, make_pairs, plant_defect, verdict
from lekhai_helpers.learn.training import TrainingError
from lekhai_helpers.prepare.contracts.ad_script import AdScript, check, parse_ad_script

ROWS = [(f"দৃশ্য {letter}", f"ভিও: কথা {letter}") for letter in "কখগঘঙচ"]
SCRIPT = AdScript(ROWS)
TEXT = SCRIPT.to_markdown()


def planted(name, seed=1):
    text = DEFECTS[name](SCRIPT, random.Random(seed))
    return text, parse_ad_script(text)


@pytest.mark.parametrize("seed", range(20))
def test_a_lost_cell_breaks_one_row_and_no_other(seed):
    text, (script, problems) = planted("a row lost a cell", seed)
    assert len(problems) == 1 and problems[0].endswith("1 cell(s) instead of 2")
    assert len(text.split("\n")) == len(TEXT.split("\n"))
    assert len(script.rows) == 5 and set(script.rows) < set(ROWS)
    assert not check(text).ok


def test_a_missing_ending_takes_the_last_row_and_leaves_a_valid_table():
    text, (script, problems) = planted("the ending is missing")
    assert problems == [] and script.rows == ROWS[:-1] and check(text).ok


@pytest.mark.parametrize("seed", range(20))
def test_a_repeated_row_stands_right_after_itself(seed):
    text, (script, problems) = planted("a row is repeated", seed)
    changed = [place for place in range(6) if script.rows[place] != ROWS[place]]
    assert problems == [] and len(changed) == 1 and script.rows[changed[0]] == ROWS[changed[0] - 1]
    assert check(text).facts["repeated_rows"] == 1


def test_swapped_columns_keep_every_word_and_the_header():
    text, (script, problems) = planted("the columns are swapped")
    assert problems == [] and script.rows == [(audio, visual) for visual, audio in ROWS]
    assert text.startswith("| Visual | Audio |\n|---|---|\n")


def test_a_planted_defect_is_named_differs_and_can_be_had_again():
    seen = set()
    for seed in range(40):
        text, name = plant_defect(TEXT, random.Random(seed))
        assert text != TEXT and (text, name) == plant_defect(TEXT, random.Random(seed))
        seen.add(name)
    assert seen == set(DEFECTS)


@pytest.mark.parametrize("text", ["কোনো টেবিল নেই", AdScript(ROWS[:1]).to_markdown()])
def test_a_text_that_is_no_script_gets_no_defect(text):
    with pytest.raises(ValueError, match="no script"):
        plant_defect(text, random.Random(1))


# --- pairs


class Letters:
    """A tokenizer with one token a character, and a template that writes the messages in a row."""

    def __call__(self, text, add_special_tokens):
        return SimpleNamespace(input_ids=list(text))

    def apply_chat_template(self, messages, tokenize):
        return "".join(message["content"] for message in messages)


EXAMPLES = [
    {
        "prompt": [{"role": "user", "content": f"বিষয় {number}"}],
        "completion": [{"role": "assistant", "content": TEXT.replace("দৃশ্য", f"দৃশ্য {number}")}],
    }
    for number in range(12)
]


@pytest.fixture
def settings():
    return resolve("lekhai", "smoke", {"dpo.pairs": 8, "dpo.planted_share": 0.25})


@pytest.fixture
def pairs_from(monkeypatch, settings):
    """Return a function: given what the model writes for each prompt, the pairs that come of it."""

    def make(write):
        answers = lambda model, tokenizer, prompts, decoding, seed: [  # noqa: E731
            Generation(write(n, prompt), 1, True, 0.1) for n, prompt in enumerate(prompts)
        ]
        monkeypatch.setattr(preference, "generate", answers)
        return make_pairs(None, Letters(), EXAMPLES, settings)

    return make


def test_a_share_of_the_pairs_is_planted_and_the_rest_is_the_models_own(pairs_from):
    pairs = pairs_from(lambda n, prompt: "| Visual | Audio |")
    assert [pair.source.split(":")[0] for pair in pairs] == ["planted"] * 2 + ["the model's own sample"] * 6
    by_prompt = {example["prompt"][0]["content"]: example["completion"][0]["content"] for example in EXAMPLES}
    assert all(pair.chosen == by_prompt[pair.prompt[0]["content"]] for pair in pairs)
    assert len({pair.prompt[0]["content"] for pair in pairs}) == 8


def test_a_sample_that_is_the_chosen_text_itself_is_left_out_and_counted(pairs_from, capsys):
    """A pair whose sides are equal has gradient zero and margin zero: it only thins the batch."""
    by_prompt = {example["prompt"][0]["content"]: example["completion"][0]["content"] for example in EXAMPLES}
    pairs = pairs_from(lambda n, prompt: by_prompt[prompt[0]["content"]] + "\n" if n < 2 else "অন্য")
    assert len(pairs) == 6 and all(pair.chosen.strip() != pair.rejected.strip() for pair in pairs)
    assert "6 pairs; 2 left out because both sides are the same" in capsys.readouterr().out


def test_a_sample_that_never_stopped_is_cut_to_the_chosen_length_at_a_row(pairs_from):
    """Otherwise "shorter is better" is all there is to learn."""
    endless = pairs_from(lambda n, prompt: "\n".join(["| দৃশ্য | কথা |"] * 500))[-1]
    assert len(endless.rejected) <= 1.2 * len(endless.chosen)
    assert set(endless.rejected.split("\n")) == {"| দৃশ্য | কথা |"}
    one_line = pairs_from(lambda n, prompt: "ক" * 5000)[-1]
    assert one_line.rejected == "ক" * 5000


def test_the_same_seed_gives_the_same_pairs(pairs_from):
    def write(n, prompt):
        return f"অন্য {n}"

    assert pairs_from(write) == pairs_from(write)


def test_a_side_that_would_be_cut_is_refused():
    pairs = [Pair(EXAMPLES[0]["prompt"], "ক" * 10, "খ" * 30, "test")]
    assert check_pairs(pairs, Letters(), 100) == {
        "pairs": 1,
        "mean_chosen_tokens": 17,
        "mean_rejected_tokens": 37,
        "longest": 37,
    }
    with pytest.raises(TrainingError, match="37 tokens would be cut at 36: raise model.max_seq_length"):
        check_pairs(pairs, Letters(), 36)


def test_no_pairs_at_all_are_said_to_be_none():
    with pytest.raises(TrainingError, match="no pairs"):
        check_pairs([], Letters(), 100)


# --- the log and the verdict


def log(margins, accuracies=None, chosen=None):
    steps = len(margins)
    columns = (margins, accuracies or [0.6] * steps, chosen or [-100.0] * steps)
    return [
        {"rewards/margins": str(m), "rewards/accuracies": a, "logps/chosen": c, "epoch": "x"}
        for m, a, c in zip(*columns, strict=True)
    ]


RISING = [0.0, 0.01, 0.05, 0.1, 0.15, 0.2, 0.22, 0.25, 0.3, 0.31]


def test_a_sound_training_rings_no_alarm():
    assert alarms(log(RISING)) == []


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        (log(RISING, accuracies=[1.0] * 10), "too easy to tell"),
        (log(RISING, chosen=[-100.0] * 9 + [-120.0]), "chosen scripts became less likely"),
        (log([0.0] * 10), "margin did not move"),
    ],
)
def test_each_known_failure_rings_its_own_alarm(entries, said):
    found = alarms(entries)
    assert len(found) == 1 and said in found[0]


def test_a_log_too_short_to_judge_rings_nothing():
    assert alarms(log([0.0], accuracies=[1.0])) == []


SFT = {"valid_tables": 0.8, "stopped": 0.95, "mean_tokens": 200.0}


def test_an_adapter_that_is_nowhere_worse_is_kept():
    keep, reasons = verdict(SFT, SFT | {"valid_tables": 0.9, "mean_tokens": 220.0})
    assert keep and reasons == ["valid tables 80% before and 90% after, length drift +10%"]
    assert verdict(SFT, dict(SFT))[0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"valid_tables": 0.75}, "valid tables fell from 80% to 75%"),
        ({"stopped": 0.85}, "fewer texts end by themselves: 95% to 85%"),
        ({"mean_tokens": 240.0}, "the length drifted by +20%"),
        ({"mean_tokens": 150.0}, "the length drifted by -25%"),
    ],
)
def test_an_adapter_that_is_worse_in_one_thing_is_dropped_for_it(change, said):
    assert verdict(SFT, SFT | change) == (False, [said])
