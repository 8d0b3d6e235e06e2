"""Packed rows: the measurement says yes where attention keeps them apart, and no where it does not."""

import pytest

from lekhai_helpers.learn.model import load_model
from lekhai_helpers.learn.packing import rows_kept_apart


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
