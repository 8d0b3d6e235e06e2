"""One measured step: near the estimate, larger for a longer row, and the model is as before afterwards."""

import pytest

from lekhai_helpers.learn.memory import DoesNotFit, check_probe, compare, estimate, probe, read_config, with_overrides
from lekhai_helpers.learn.model import attach_lora, load_model, load_plain, load_tokenizer, release_memory

LONGEST = [300] * 600


@pytest.fixture(scope="module")
def wide(new_model):
    """A model large enough for its step to stand out from the rest of the process."""
    shapes = {"hidden_size": 640, "intermediate_size": 2048, "num_hidden_layers": 4, "head_dim": 256}
    return new_model(**shapes)


@pytest.fixture(scope="module")
def roomy(settings):
    return with_overrides(settings, {"model.max_seq_length": 1024, "lora.r": 16, "sft.batch_size": 2})


@pytest.fixture(scope="module")
def loaded(engine, wide, roomy):
    model, tokenizer = load_model(wide, roomy)
    yield attach_lora(model, roomy.lora, seed=1), tokenizer
    release_memory()


def test_the_measured_step_is_near_the_estimate(loaded, wide, roomy):
    estimated = estimate(read_config(wide), roomy, len(LONGEST))
    figures = compare(estimated, probe(*loaded, LONGEST, roomy))
    assert 0.7 < figures["measured_share"] < 1.3, figures
    with pytest.raises(DoesNotFit, match="600 tokens, 2 at once.*sft.batch_size from 2 to 1 saves"):
        check_probe(estimated, figures["measured_mb"], figures["measured_mb"])


def test_a_longer_row_and_a_larger_batch_take_more(loaded, roomy):
    short, long = probe(*loaded, LONGEST[:200], roomy), probe(*loaded, LONGEST, roomy)
    assert long > short + 50
    one = with_overrides(roomy, {"sft.batch_size": 1})
    assert probe(*loaded, LONGEST, one) < 0.8 * long


def test_the_step_leaves_weights_gradients_randomness_and_mode_as_they_were(loaded, roomy):
    """A probe that moved the adapter would make every training begin somewhere else."""
    import torch

    model, tokenizer = loaded
    model.eval()
    before = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
    random = torch.get_rng_state()
    probe(model, tokenizer, LONGEST[:50], roomy)
    after = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(not value.any() for name, value in after.items() if "lora_B" in name)
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), random) and model.training is False


@pytest.mark.parametrize(
    ("batch", "said"), [(2, "sft.batch_size from 2 to 1 saves .* MB"), (1, "lora.r from 16 to .* saves .* MB")]
)
def test_a_card_that_is_too_small_names_one_change_and_harms_nothing(loaded, roomy, monkeypatch, batch, said):
    """With one row at once there is no batch to halve."""
    import torch

    model, tokenizer = loaded
    asked = with_overrides(roomy, {"sft.batch_size": batch, "model.load_in_4bit": True})

    def full(*args, **kwargs):
        next(p for p in model.parameters() if p.requires_grad).data.add_(1)
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("lekhai_helpers.learn.memory_probe._one_step", full)
    before = [p.detach().clone() for p in model.parameters() if p.requires_grad]
    with pytest.raises(DoesNotFit, match=f"50 tokens, {batch} at once.*card's memory. {said}"):
        probe(model, tokenizer, LONGEST[:50], asked)
    assert all(
        torch.equal(a, b) for a, b in zip(before, (p for p in model.parameters() if p.requires_grad), strict=True)
    )


@pytest.mark.parametrize("way", ["tokenizer", "model", "plain"])
def test_every_way_to_load_takes_a_system_message_and_pads_on_the_left(
    engine, write_model, make_tokenizer, tmp_path, settings, way
):
    """Gemma 2's template stops at the system message; loaded by one way only, the others would still stop."""
    tokenizer = make_tokenizer()
    tokenizer.chat_template = (
        "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
        "{% endif %}{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{{ eos_token }}{% endfor %}"
    )
    folder = write_model(tmp_path / "gemma", tokenizer=tokenizer)
    load = {
        "tokenizer": load_tokenizer,
        "model": lambda f: load_model(f, settings)[1],
        "plain": lambda f: load_plain(f)[1],
    }
    loaded = load[way](folder)
    messages = [{"role": "system", "content": "শুধু টেবিল"}, {"role": "user", "content": "চা"}]
    text = loaded.apply_chat_template(messages, tokenize=False)
    assert text.count("শুধু টেবিল") == 1 and loaded.padding_side == "left"
