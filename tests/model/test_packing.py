"""Packed rows: the measurement says yes where attention keeps them apart, and no where it does not."""

import pytest

from lekhai_helpers.learn.model import attach_lora, load_model
from lekhai_helpers.learn.packing import rows_kept_apart, turned_off
from lekhai_helpers.learn.training import train_sft


@pytest.fixture
def exact(engine, tiny, settings):
    """The tiny model in 32 bits, and its forward put back afterwards."""
    model, tokenizer = load_model(tiny, settings, exact=True)
    forward = model.forward
    yield model, tokenizer
    model.forward = forward


def with_options(model, **options):
    forward = model.forward
    model.forward = lambda **given: forward(**(given | {name: make(given) for name, make in options.items()}))


def test_rows_whose_positions_begin_again_are_kept_apart(exact):
    apart, sentence = rows_kept_apart(*exact)
    assert apart and "kept apart" in sentence


def test_a_mask_of_ones_lets_the_second_row_read_the_first(exact):
    """A padding collator's mask hides the restart of the positions: the library then takes all rows for one."""
    import torch

    with_options(exact[0], attention_mask=lambda given: torch.ones_like(given["input_ids"]))
    apart, sentence = rows_kept_apart(*exact)
    assert not apart and "Leave sft.packing off" in sentence


def test_a_cache_lets_the_second_row_read_the_first(exact):
    """With a cache the library does not look for packed rows at all."""
    with_options(exact[0], use_cache=lambda given: True)
    assert rows_kept_apart(*exact)[0] is False


def test_positions_that_run_on_are_found(exact):
    """Without the restart there is nothing that could part the rows."""
    import torch

    with_options(exact[0], position_ids=lambda given: torch.arange(given["input_ids"].shape[1])[None])
    assert rows_kept_apart(*exact)[0] is False


def test_a_leak_is_found_in_16_bits_too(engine, tiny, settings):
    model, tokenizer = load_model(tiny, settings)
    assert rows_kept_apart(model, tokenizer)[0] is True
    with_options(model, use_cache=lambda given: True)
    assert rows_kept_apart(model, tokenizer)[0] is False


def test_the_measurement_leaves_the_mode_as_it_was(exact):
    model, tokenizer = exact
    for training in (True, False):
        model.train(training)
        rows_kept_apart(model, tokenizer)
        assert model.training is training


# --- in a real training


@pytest.fixture
def unsloth_packs(monkeypatch):
    """Take out the switch by which Unsloth turns packing off on a processor."""
    from unsloth_zoo.cpu import trainer

    given = trainer.normalize_cpu_training_arguments

    def keep(args):
        asked = getattr(args, "packing", False)
        given(args)
        args.packing = asked
        return args

    monkeypatch.setattr(trainer, "normalize_cpu_training_arguments", keep)


def first_step(tiny, examples, settings, folder, packing, leak=False):
    """Train one step on the same four rows, as one packed sequence or as four; return its loss and its batches."""
    import torch

    batch = 1 if packing else 4
    sft = {"packing": packing, "batch_size": batch, "max_steps": 1, "eval_every": 1, "gradient_accumulation": 1}
    asked = settings.model_copy(update={"sft": settings.sft.model_copy(update=sft)})
    model, tokenizer = load_model(tiny, asked, exact=True)
    model = attach_lora(model, asked.lora, asked.seed)
    forward, seen = model.forward, []

    def watched(*args, **given):
        if model.training:
            seen.append(tuple(given["input_ids"].shape))
        if leak:
            given["position_ids"] = torch.arange(given["input_ids"].shape[1])[None]
        return forward(*args, **given)

    # Measured first, and only then watched: the trainer's batches are what is of interest.
    if packing:
        assert rows_kept_apart(model, tokenizer)[0]
    model.forward = watched
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lekhai_helpers.learn.training.rows_kept_apart", lambda *_: (True, ""))
        result = train_sft(model, tokenizer, examples[:4], examples[8:9], asked, folder, max_length=1024)
    return result.train_loss[0][1], seen


def test_a_packed_step_has_the_loss_of_the_same_rows_unpacked(
    engine, tiny, examples, settings, tmp_path, unsloth_packs
):
    """Through the real trainer: its rows, its collator, its loss, where packing really happens."""
    assert turned_off() == ""
    apart, padded = first_step(tiny, examples, settings, tmp_path / "apart", packing=False)
    packed, flat = first_step(tiny, examples, settings, tmp_path / "packed", packing=True)
    mixed, _ = first_step(tiny, examples, settings, tmp_path / "mixed", packing=True, leak=True)
    assert padded[0][0] == 4 and flat[0][0] == 1 and flat[0][1] > 2 * padded[0][1], "nothing was packed"
    assert packed == pytest.approx(apart, abs=2e-5)
    assert abs(mixed - apart) > 1e-4, "rows that read each other have the same loss, so equal losses say nothing"


def test_unsloth_turns_packing_off_on_a_processor_and_that_is_said(engine):
    assert "leave sft.packing off" in turned_off()
