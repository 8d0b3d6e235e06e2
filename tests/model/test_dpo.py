"""Preference alignment with real Unsloth and TRL: the reference is the fine-tuned policy, and it is not shipped."""

import math

import pytest

from lekhai_helpers.core.ledger import Ledger
from lekhai_helpers.learn.model import attach_lora, load_model
from lekhai_helpers.learn.preference import Pair, alarms, check_pairs, make_pairs, train_dpo
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
        Pair(example["prompt"], texts[n], texts[n - 1], "another brief's script")
        for n, example in enumerate(examples[:4])
    ]


def with_dpo(settings, **changes):
    return settings.model_copy(update={"dpo": settings.dpo.model_copy(update=changes)})


def test_the_first_loss_is_ln_2_because_the_reference_is_the_policy_itself(policy, pairs, settings, tmp_path):
    """With the bare base as the reference the first margin is not zero, and the start is a jump."""
    log = train_dpo(*policy, pairs, with_dpo(settings, sft_weight=0.0, max_steps=1), tmp_path / "dpo")
    assert float(log[0]["loss"]) == pytest.approx(math.log(2), abs=5e-3)
    for side in ("chosen", "rejected"):
        assert float(log[0][f"rewards/{side}"]) == pytest.approx(0.0, abs=0.02)


def test_two_steps_move_the_policy_and_are_in_the_ledger(policy, pairs, settings, tmp_path):
    with Ledger(tmp_path / "l.db", experiment="e", recipe="lekhai", profile="smoke", settings="{}") as ledger:
        fast = with_dpo(settings, learning_rate=1e-2, max_steps=3)
        log = train_dpo(*policy, pairs, fast, tmp_path / "dpo", ledger)
        names = set(ledger.metrics("10_preference_alignment")["name"])
    assert [entry["step"] for entry in log] == [1, 2, 3]
    assert float(log[-1]["rewards/margins"]) > float(log[0]["rewards/margins"])
    assert names >= {"rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies", "loss"}
    assert not [alarm for alarm in alarms(log) if "did not move" in alarm]


def test_the_sft_term_is_added_to_the_loss(policy, pairs, settings, tmp_path):
    weighted = with_dpo(settings, sft_weight=1.0, max_steps=1)
    log = train_dpo(*policy, pairs, weighted, tmp_path / "dpo")
    assert float(log[0]["loss"]) > math.log(2) + 0.5


def test_what_is_exported_holds_no_reference(policy, pairs, settings, tmp_path, sft_adapter):
    """TRL keeps the frozen copy as a second adapter; shipped with the first, the folder is twice what it should be."""
    from safetensors.torch import load_file

    model, tokenizer = policy
    train_dpo(model, tokenizer, pairs, with_dpo(settings, learning_rate=1e-2), tmp_path / "dpo")
    adapter = save_adapter(model, tokenizer, tmp_path / "adapter")
    assert [path.name for path in adapter.iterdir() if path.is_dir()] == []
    before, after = (load_file(folder / "adapter_model.safetensors") for folder in (sft_adapter, adapter))
    assert before.keys() == after.keys()
    assert any((before[name] != after[name]).any() for name in before)
    merged = save_merged_16bit(model, tokenizer, tmp_path / "merged")
    assert not [name for name in load_file(merged / "model.safetensors") if "lora" in name or "ref" in name]


def test_pairs_are_made_with_the_policys_own_samples(policy, examples, settings):
    pairs = make_pairs(*policy, examples, settings)
    assert 2 <= len(pairs) <= settings.dpo.pairs
    assert sum(pair.source.startswith("planted") for pair in pairs) == 2
    figures = check_pairs(pairs, policy[1], settings.model.max_seq_length)
    assert figures["pairs"] == len(pairs) and 0 < figures["longest"] <= 256
