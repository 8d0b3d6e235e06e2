"""Preference alignment without a model: contradictions, thumbs, and the alarms over a log."""

import json
import math
from types import SimpleNamespace

import pytest

from lekhai_helpers.core.ledger import Ledger
from lekhai_helpers.core.recipe import resolve
from lekhai_helpers.learn import preference
from lekhai_helpers.learn.alarms import Alarm, drift_alarms, log_alarms, trend, write_alarms
from lekhai_helpers.learn.pairs import PreferenceError, length_figures, save_rows
from lekhai_helpers.learn.preference import check_material, check_method, has_orpo
from lekhai_helpers.learn.thumbs import Thumb, interleaved, load_thumbs


def settings(**dpo):
    return resolve("lekhai", "smoke", {f"dpo.{name}": value for name, value in dpo.items()})


# --- the settings


@pytest.mark.parametrize(
    ("dpo", "said"),
    [
        ({"method": "kto"}, "set dpo.thumbs"),
        ({"thumbs": "t.jsonl"}, "read by kto only"),
        ({"method": "kto", "thumbs": "t.jsonl", "batch_size": 1}, "dpo.batch_size to 2"),
        ({"method": "orpo", "loss": "ipo"}, "ipo is a loss of dpo; orpo has its own"),
        ({"loss": "robust"}, "set dpo.label_smoothing"),
        ({"loss": "ipo", "label_smoothing": 0.1}, "used by dpo.loss=robust only"),
    ],
)
def test_settings_that_contradict_each_other_are_refused_before_anything_is_loaded(dpo, said):
    with pytest.raises(PreferenceError, match=said):
        check_method(settings(**dpo))


@pytest.mark.parametrize(
    "dpo",
    [
        {},
        {"loss": "ipo"},
        {"loss": "sigmoid_norm"},
        {"loss": "robust", "label_smoothing": 0.1},
        {"method": "kto", "thumbs": "t.jsonl"},
        {"method": "orpo"},
    ],
)
def test_settings_that_belong_together_pass(dpo):
    assert check_method(settings(**dpo)) is None


def test_a_trl_without_orpo_is_said_to_have_none(monkeypatch, tmp_path):
    assert has_orpo()
    monkeypatch.setattr(preference.importlib.util, "find_spec", lambda name: None)
    assert not has_orpo()
    with pytest.raises(PreferenceError, match="has no ORPO: set dpo.method=dpo"):
        check_method(settings(method="orpo"))


# --- thumbs


UP = {"prompt": "চা নিয়ে লিখুন", "completion": "| Visual | Audio |", "label": True}
DOWN = UP | {"completion": "দুঃখিত", "label": False}


def thumbs_file(tmp_path, *lines):
    path = tmp_path / "thumbs.jsonl"
    texts = [line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in lines]
    path.write_text("\n".join(texts), encoding="utf-8")
    return path


def test_a_brief_in_plain_text_gets_the_system_prompt_and_messages_stay_as_they_are(tmp_path):
    messages = [{"role": "user", "content": "রং"}]
    up, down = load_thumbs(thumbs_file(tmp_path, UP, "", DOWN | {"prompt": messages}), "শুধু টেবিল")
    assert up.prompt == [{"role": "system", "content": "শুধু টেবিল"}, {"role": "user", "content": UP["prompt"]}]
    assert down.prompt == messages
    assert [(t.label, t.source, t.example) for t in (up, down)] == [
        (True, "thumb up", "line 1"),
        (False, "thumb down", "line 3"),
    ]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{oops", "not JSON"),
        ("[1]", "not an object"),
        ({"prompt": "ক"}, "completion, label missing"),
        (UP | {"prompt": " "}, "prompt is neither"),
        (UP | {"prompt": [{"role": "user"}]}, "prompt is neither"),
        (UP | {"prompt": [{"role": "assistant", "content": "ক"}]}, "the last by the user"),
        (UP | {"completion": ""}, "completion is empty"),
        (UP | {"completion": 3}, "completion is empty or no text"),
        (UP | {"completion": "অন্য", "label": "up"}, "label is 'up'; write true"),
        (UP | {"completion": "অন্য", "label": 1}, "label is 1; write true"),
        (UP, "repeats line 1"),
        (UP | {"label": False}, "contradicts line 1"),
    ],
)
def test_a_bad_line_is_named_by_its_number(tmp_path, line, said):
    with pytest.raises(PreferenceError) as caught:
        load_thumbs(thumbs_file(tmp_path, UP, DOWN, line))
    assert "thumbs.jsonl cannot be learned from:\nline 3: " in str(caught.value) and said in str(caught.value)


def test_every_bad_line_is_told_at_once(tmp_path):
    with pytest.raises(PreferenceError, match="line 1: .*\nline 3: "):
        load_thumbs(thumbs_file(tmp_path, "x", UP, "y"))


def test_thumbs_of_one_kind_are_refused(tmp_path):
    with pytest.raises(PreferenceError, match="thumbs up and thumbs down"):
        load_thumbs(thumbs_file(tmp_path, UP, UP | {"completion": "আরেকটি"}))


def test_thumbs_are_checked_shown_and_kept_like_pairs(tmp_path):
    class Letters:
        def __call__(self, text, add_special_tokens):
            return SimpleNamespace(input_ids=list(text))

        def apply_chat_template(self, messages, tokenize):
            return "".join(message["content"] for message in messages)

    thumbs = load_thumbs(thumbs_file(tmp_path, UP, DOWN))
    rows = check_material(thumbs, Letters(), 100)
    assert rows[1] == {
        "example": "line 2",
        "source": "thumb down",
        "tokens": len(DOWN["completion"]),
        "whole": len(UP["prompt"] + DOWN["completion"]),
    }
    assert length_figures(rows) == {"rows": 2, "longest": len(UP["prompt"]) + len(UP["completion"])}
    assert thumbs[1].shown() == "THUMB DOWN, line 2\nদুঃখিত\n"
    kept = save_rows(thumbs, tmp_path / "kept.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["label"] for line in kept] == [True, False]
    with pytest.raises(PreferenceError, match="no pairs"):
        check_material([], Letters(), 100)


def test_ups_and_downs_are_spread_over_the_batches():
    thumbs = [Thumb([], str(n), n < 8, f"line {n}") for n in range(16)]
    order = interleaved(thumbs, 1)
    assert {thumb.completion for thumb in order} == {str(n) for n in range(16)}
    assert all(order[n].label != order[n + 1].label for n in range(0, 16, 2))
    assert order == interleaved(thumbs, 1) != interleaved(thumbs, 2)


# --- the alarms over a log


def log(margins, accuracies=None, chosen=None, loss=None):
    steps = len(margins)
    columns = (margins, accuracies or [0.6] * steps, chosen or [0.0] * steps, loss or [1.2] * steps)
    names = ("rewards/margins", "rewards/accuracies", "rewards/chosen", "loss")
    # The trainer writes some numbers as text, and things that are no numbers.
    return [dict(zip(names, map(str, row), strict=True)) | {"note": "x"} for row in zip(*columns, strict=True)]


MIXED = settings().dpo  # sigmoid with the imitation term, as every profile has it
RISING = [0.0, 0.01, 0.05, 0.1, 0.15, 0.2, 0.22, 0.25, 0.3, 0.31]
FALLING = [0.0, -0.02, -0.01, -0.05, -0.06, -0.1, -0.09, -0.15, -0.2, -0.22]


def rang(alarms):
    return [alarm.name for alarm in alarms if alarm.rang]


def test_a_sound_training_rings_no_alarm():
    alarms = log_alarms(log(RISING), MIXED)
    assert [alarm.rang for alarm in alarms] == [False] * 3
    assert all(str(alarm).startswith("quiet") and alarm.evidence for alarm in alarms)


@pytest.mark.parametrize(
    ("entries", "name"),
    [
        (log(RISING, accuracies=[0.0, *[1.0] * 9]), "too easy"),
        (log(RISING * 4, accuracies=[0.5, 0.5, *[1.0] * 38]), "too easy"),
        (log(RISING, chosen=FALLING), "better side sinking"),
        (log([0.0] * 10), "flat loss"),
    ],
)
def test_each_known_failure_rings_its_own_alarm(entries, name):
    alarms = log_alarms(entries, MIXED)
    assert rang(alarms) == [name]
    assert str(next(alarm for alarm in alarms if alarm.rang)).startswith(f"ALARM      {name}: ")


def test_a_sum_with_the_imitation_term_that_passes_ln_2_by_accident_rings_nothing():
    assert rang(log_alarms(log(RISING, loss=[math.log(2)] * 10), MIXED)) == []


def test_the_loss_of_plain_dpo_is_judged_itself():
    """Margins of a batch can cancel out while the loss moves, and the other way round."""
    plain = settings(sft_weight=0.0).dpo
    assert rang(log_alarms(log(RISING, loss=[math.log(2)] * 10), plain)) == ["flat loss"]
    assert rang(log_alarms(log([0.0] * 10, loss=[0.9] * 10), plain)) == []


@pytest.mark.parametrize("loss", ["ipo", "robust", "sigmoid_norm"])
def test_other_losses_are_flat_elsewhere_and_are_judged_by_the_margin(loss):
    dpo = settings(loss=loss, sft_weight=0.0).dpo
    assert rang(log_alarms(log(RISING, loss=[math.log(2)] * 10), dpo)) == []
    assert rang(log_alarms(log([0.0] * 10, loss=[25.0] * 10), dpo)) == ["flat loss"]


def test_orpo_is_judged_by_its_log_odds_ratio():
    orpo = settings(method="orpo").dpo
    flat, learned = ([e | {"log_odds_ratio": value} for e in log(RISING)] for value in (-math.log(2), -0.4))
    assert rang(log_alarms(flat, orpo)) == ["flat loss"] and rang(log_alarms(learned, orpo)) == []


def test_full_accuracy_in_one_batch_of_two_is_luck_and_rings_nothing():
    assert rang(log_alarms(log(RISING, accuracies=[0, 1.0, 0.5, 1.0, 1.0, 0.5, 1, 1, 1, 1]), MIXED)) == []


def test_full_accuracy_reached_late_is_what_training_is_for():
    assert rang(log_alarms(log(RISING, accuracies=[0.5] * 5 + [1.0] * 5), MIXED)) == []


def test_one_noisy_step_at_the_end_is_no_trend():
    noisy = [0.0, 0.05, 0.1, 0.08, 0.12, 0.1, 0.15, 0.12, 0.14, -3.0]
    assert rang(log_alarms(log(RISING, chosen=noisy), MIXED)) == []


def test_a_better_side_that_sinks_without_a_growing_margin_is_another_matter():
    assert rang(log_alarms(log(RISING[::-1], chosen=FALLING), MIXED)) == []


def test_a_better_side_that_falls_back_to_where_it_began_does_not_ring():
    assert rang(log_alarms(log(RISING, chosen=[1.0 + value for value in FALLING]), MIXED)) == []


def test_only_a_ringing_alarm_says_what_it_means():
    """A quiet line that reads "fewer texts are valid tables" says the opposite of what was found."""
    assert str(Alarm("n", True, "it broke", "3 of 4")) == "ALARM      n: it broke: 3 of 4"
    assert str(Alarm("n", False, "it broke", "0 of 4")) == "quiet      n: 0 of 4"
    assert str(Alarm("n", None, "it broke", "2 steps are too few")) == "not judged n: 2 steps are too few"


@pytest.mark.parametrize("steps", [1, 3])
def test_a_log_too_short_to_judge_is_not_called_quiet(steps):
    alarms = log_alarms(log([0.0] * steps, accuracies=[1.0] * steps), MIXED)
    assert [alarm.rang for alarm in alarms] == [None] * 3
    assert str(alarms[0]).startswith("not judged")


def test_a_log_without_ranked_pairs_is_judged_by_what_it_has():
    """KTO logs no accuracy, and a batch with thumbs of one kind no margin. Its flat loss is 0.5: the margin is read."""
    dpo = settings(method="kto", thumbs="t.jsonl").dpo
    kto = [{k: v for k, v in entry.items() if k != "rewards/accuracies"} for entry in log([0.0] * 10)]
    del kto[3]["rewards/margins"]
    assert [alarm.rang for alarm in log_alarms(kto, dpo)] == [None, False, True]
    without = [{k: v for k, v in entry.items() if k != "rewards/margins"} for entry in kto]
    assert [alarm.rang for alarm in log_alarms(without, dpo)] == [None, None, None]


@pytest.mark.parametrize(
    ("values", "found"),
    [(RISING, 1), (FALLING, -1), ([1, 2, 3], 0), ([0.0] * 10, 0), ([1, 9, 2, 8, 3, 7, 4, 6], 0), ([1, 2, 3, 4], 1)],
)
def test_a_trend_is_one_that_chance_seldom_makes(values, found):
    assert trend(values) == found


BEFORE = {"valid_tables": 0.8, "mean_tokens": 200.0}


@pytest.mark.parametrize(
    ("after", "names"),
    [
        ({}, []),
        ({"mean_tokens": 230.0, "valid_tables": 0.9}, []),
        ({"mean_tokens": 232.0}, ["length drift"]),
        ({"mean_tokens": 160.0}, ["length drift"]),
        ({"valid_tables": 0.79}, ["contract fell"]),
    ],
)
def test_what_is_written_afterwards_rings_when_it_is_longer_or_less_valid(after, names):
    assert rang(drift_alarms(BEFORE, BEFORE | after)) == names


def test_empty_texts_before_leave_the_drift_unjudged():
    """An SFT stage whose texts are all empty has a mean length of 0, by which nothing can be divided."""
    empty = {"valid_tables": 0.0, "mean_tokens": 0.0}
    for after in (BEFORE, empty):
        drift, contract = drift_alarms(empty, after)
        assert drift.rang is None and contract.rang is False and "0 tokens before" in str(drift)
    assert drift_alarms(BEFORE, empty)[0].rang is True


def test_the_optimiser_is_the_one_the_memory_is_reckoned_with(tmp_path):
    for profile, optim in (("colab-t4", "adamw_8bit"), ("cpu", "adamw_torch")):
        assert preference._common(resolve("lekhai", profile, {}), tmp_path, 512)["optim"] == optim


def test_every_alarm_is_a_row_in_the_ledger_quiet_ones_too(tmp_path):
    alarms = [Alarm("a", True, "s", "e"), Alarm("b", False, "s", "e"), Alarm("c", None, "s", "e")]
    with Ledger(tmp_path / "l.db", experiment="e", recipe="lekhai", profile="smoke", settings="{}") as ledger:
        write_alarms(ledger, alarms)
        table = ledger.summary()
    assert list(table["metric"]) == ["alarm: a", "alarm: b", "alarm: c"] and set(table["stage"]) == {"dpo"}
    assert list(table["value"])[:2] == [1.0, 0.0] and math.isnan(table["value"][2])
    assert list(table["note"]) == ["s: e", "e", "e"]
