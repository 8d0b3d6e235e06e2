"""Preference alignment with real Unsloth and TRL: the reference is the fine-tuned policy, and it is not shipped."""

import json
import math

import pytest

from lekhai_helpers.core.ledger import Ledger
from lekhai_helpers.learn.alarms import drift_alarms, log_alarms, write_alarms
from lekhai_helpers.learn.model import attach_lora, load_model
from lekhai_helpers.learn.pairs import Pair, PreferenceError, check_pairs, make_pairs
from lekhai_helpers.learn.preference import align
from lekhai_helpers.learn.thumbs import check_thumbs, load_thumbs
from lekhai_helpers.learn.training import train_sft
from lekhai_helpers.ship.export import save_adapter, save_merged_16bit


@pytest.fixture(scope="module")
def sft_adapter(tiny, settings, examples, tmp_path_factory):
    """An adapter that has learned something: a policy far from the base."""
    model, tokenizer = load_model(tiny, settings)
    model = attach_lora(model, settings.lora, settings.seed)
    folder = tmp_path_factory.mktemp("sft")
    train_sft(model, tokenizer, examples[:8], examples[8:10], settings, folder / "checkpoints")
    return save_adapter(model, tokenizer, folder / "adapter")


@pytest.fixture
def policy(tiny, settings, sft_adapter):
    return load_model(tiny, settings, adapter=sft_adapter)


@pytest.fixture
def pairs(examples):
    texts = [example["completion"][0]["content"] for example in examples]
    return [
        Pair(example["prompt"], texts[n], texts[n - 1], "another brief's script", example["id"])
        for n, example in enumerate(examples[:4])
    ]


@pytest.fixture
def thumbs(examples, tmp_path):
    """A curator's file: every second script liked, each under another brief."""
    lines = [
        {
            "prompt": example["prompt"][-1]["content"],
            "completion": example["completion"][0]["content"],
            "label": n % 2 == 0,
        }
        for n, example in enumerate(examples[:8])
    ]
    path = tmp_path / "thumbs.jsonl"
    path.write_text("\n".join(json.dumps(line, ensure_ascii=False) for line in lines), encoding="utf-8")
    return load_thumbs(path, "শুধু টেবিল")


def with_dpo(settings, **changes):
    return settings.model_copy(update={"dpo": settings.dpo.model_copy(update=changes)})


def weights(model, adapter="default"):
    return {name: p.detach().clone() for name, p in model.named_parameters() if f".{adapter}." in name}


# --- dpo


def test_the_first_loss_is_ln_2_because_the_reference_is_the_policy_itself(policy, pairs, settings, tmp_path):
    """With the bare base as the reference the first margin is not zero, and the start is a jump."""
    log = align(*policy, pairs, with_dpo(settings, sft_weight=0.0, max_steps=1), tmp_path / "dpo")
    assert float(log[0]["loss"]) == pytest.approx(math.log(2), abs=5e-3)
    for side in ("chosen", "rejected"):
        assert float(log[0][f"rewards/{side}"]) == pytest.approx(0.0, abs=0.02)


def test_the_reference_stays_what_the_policy_was(policy, pairs, settings, tmp_path):
    model, tokenizer = policy
    before = weights(model)
    align(model, tokenizer, pairs, with_dpo(settings, learning_rate=1e-2, max_steps=3), tmp_path / "dpo")
    after, reference = weights(model), weights(model, "ref")
    assert before and len(before) == len(reference)
    assert all((reference[name.replace(".default.", ".ref.")] == kept).all() for name, kept in before.items())
    assert any((after[name] != kept).any() for name, kept in before.items())


def test_steps_move_the_policy_and_are_in_the_ledger(policy, pairs, settings, tmp_path):
    with Ledger(tmp_path / "l.db", experiment="e", recipe="lekhai", profile="smoke", settings="{}") as ledger:
        fast = with_dpo(settings, learning_rate=1e-2, max_steps=4)
        log = align(*policy, pairs, fast, tmp_path / "dpo", ledger)
        names = set(ledger.metrics("10_preference_alignment")["name"])
        same = {"valid_tables": 0.5, "mean_tokens": 9.0}
        write_alarms(ledger, [*log_alarms(log, fast.dpo), *drift_alarms(same, same)])
        rows = list(ledger.summary()["metric"])
    assert [entry["step"] for entry in log] == [1, 2, 3, 4]
    assert float(log[-1]["rewards/margins"]) > float(log[0]["rewards/margins"])
    assert names >= {"rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies", "loss"}
    assert next(alarm for alarm in log_alarms(log, fast.dpo) if alarm.name == "flat loss").rang is False
    assert len(rows) == 5 and all(name.startswith("alarm: ") for name in rows)


def test_the_sft_term_is_added_to_the_loss(policy, pairs, settings, tmp_path):
    weighted = with_dpo(settings, sft_weight=1.0, max_steps=1)
    log = align(*policy, pairs, weighted, tmp_path / "dpo")
    assert float(log[0]["loss"]) > math.log(2) + 0.5


@pytest.mark.parametrize(
    ("loss", "smoothing", "first"),
    [("ipo", 0.0, (1 / (2 * 0.1)) ** 2), ("robust", 0.1, math.log(2)), ("sigmoid_norm", 0.0, math.log(2))],
)
def test_each_other_loss_trains_and_begins_where_its_formula_says(
    policy, pairs, settings, tmp_path, loss, smoothing, first
):
    asked = with_dpo(
        settings, loss=loss, label_smoothing=smoothing, sft_weight=0.0, beta=0.1, learning_rate=1e-2, max_steps=3
    )
    log = align(*policy, pairs, asked, tmp_path / "dpo")
    assert float(log[0]["loss"]) == pytest.approx(first, rel=0.01)
    assert float(log[-1]["rewards/margins"]) > 0


def test_what_is_exported_holds_no_reference(policy, pairs, settings, tmp_path, sft_adapter):
    """TRL keeps the frozen copy as a second adapter; shipped with the first, the folder is twice what it should be."""
    from safetensors.torch import load_file

    model, tokenizer = policy
    align(model, tokenizer, pairs, with_dpo(settings, learning_rate=1e-2), tmp_path / "dpo")
    adapter = save_adapter(model, tokenizer, tmp_path / "adapter")
    assert [path.name for path in adapter.iterdir() if path.is_dir()] == []
    before, after = (load_file(folder / "adapter_model.safetensors") for folder in (sft_adapter, adapter))
    assert before.keys() == after.keys()
    assert any((before[name] != after[name]).any() for name in before)
    merged = save_merged_16bit(model, tokenizer, tmp_path / "merged")
    assert not [name for name in load_file(merged / "model.safetensors") if "lora" in name or "ref" in name]


def test_a_side_the_trainer_would_cut_stops_before_the_first_step(policy, pairs, settings, tmp_path):
    with pytest.raises(PreferenceError, match="tokens would be cut at 60: raise model.max_seq_length"):
        align(*policy, pairs, settings, tmp_path / "dpo", max_length=60)
    assert not (tmp_path / "dpo").exists()


# --- the alarms, live


def test_rows_stripped_of_their_pipes_are_told_apart_at_once_and_the_alarm_rings(policy, examples, settings, tmp_path):
    """The commonest trap: the worse side is recognised by its form, and nothing about scripts is learned."""
    texts = [example["completion"][0]["content"] for example in examples]
    pairs = [
        Pair(example["prompt"], text, text.replace("|", ""), "pipes stripped", example["id"])
        for example, text in zip(examples, texts, strict=True)
    ]
    log = align(*policy, pairs, with_dpo(settings, learning_rate=1e-2, max_steps=12), tmp_path / "dpo")
    assert next(alarm for alarm in log_alarms(log, settings.dpo) if alarm.name == "too easy").rang is True


def test_equal_sides_leave_the_loss_flat_and_the_alarm_rings(policy, pairs, settings, tmp_path):
    same = [Pair(pair.prompt, pair.chosen, pair.chosen, "the same", pair.example) for pair in pairs]
    log = align(*policy, same, with_dpo(settings, learning_rate=1e-2, max_steps=6), tmp_path / "dpo")
    assert [alarm.name for alarm in log_alarms(log, settings.dpo) if alarm.rang] == ["flat loss"]


# --- kto and orpo


def test_kto_learns_from_thumbs_against_the_frozen_policy(policy, thumbs, settings, tmp_path):
    assert {row["source"] for row in check_thumbs(thumbs, policy[1], 256)} == {"thumb up", "thumb down"}
    asked = with_dpo(settings, method="kto", thumbs="thumbs.jsonl", learning_rate=1e-2, max_steps=6)
    log = align(*policy, thumbs, asked, tmp_path / "kto")
    assert len(log) == 6 and float(log[0]["loss"]) == pytest.approx(0.5, abs=0.01)
    assert all("rewards/margins" in entry for entry in log)  # each batch of two holds both thumbs
    assert max(abs(float(entry["rewards/chosen"])) for entry in log) > 0.01
    assert log_alarms(log, asked.dpo)[0].rang is None  # no pairs, no accuracy


def test_a_script_with_a_thumb_that_would_be_cut_is_named(policy, thumbs):
    with pytest.raises(PreferenceError, match=r"would be cut at 40 tokens: line 1 \("):
        check_thumbs(thumbs, policy[1], 40)


def test_kto_refuses_thumbs_of_one_kind(policy, thumbs, settings, tmp_path):
    asked = with_dpo(settings, method="kto", thumbs="thumbs.jsonl")
    with pytest.raises(PreferenceError, match="4 up, 0 down"):
        align(*policy, [thumb for thumb in thumbs if thumb.label], asked, tmp_path / "kto")


def test_orpo_trains_without_a_reference(policy, pairs, settings, tmp_path):
    model, tokenizer = policy
    before = weights(model)
    asked = with_dpo(settings, method="orpo", learning_rate=1e-2, max_steps=4)
    log = align(model, tokenizer, pairs, asked, tmp_path / "orpo")
    assert len(log) == 4 and {"rewards/margins", "log_odds_ratio", "nll_loss"} <= set(log[0])
    assert float(log[-1]["nll_loss"]) < float(log[0]["nll_loss"])
    assert list(model.peft_config) == ["default"]
    assert any((value != before[name]).any() for name, value in weights(model).items())


# --- pairs


def test_pairs_are_made_with_the_policys_own_samples_and_hold_what_is_promised(policy, examples, settings):
    decoding = settings.decoding.model_copy(update={"max_new_tokens": 60})
    asked = with_dpo(settings, pairs=8, planted_share=0.25).model_copy(update={"decoding": decoding})
    pairs, left_out = make_pairs(*policy, examples, asked, 256)
    assert len(pairs) + sum(left_out.values()) == 8
    assert sum(pair.source.startswith("planted") for pair in pairs) == 2
    rows = check_pairs(pairs, policy[1], 256)
    assert all(abs(row["rejected"] - row["chosen"]) <= 0.2 * row["chosen"] for row in rows)
