"""The log-likelihoods are the model's own, whatever other texts are read."""

import math

import pytest

from lekhai_helpers.learn.likelihood import reader, token_likelihoods
from lekhai_helpers.learn.model import load_plain, perplexity

TEXTS = ["ছবি ক", "ভিও: কথা ক। ছবি খ, কথা গ। ছবি ঘ, কথা ঙ।", "", "ছবি খ | ভিও: কথা খ"]


@pytest.fixture(scope="module")
def plain(tiny):
    model, tokenizer = load_plain(tiny)
    return model.float(), tokenizer


def test_they_agree_with_the_perplexity_of_each_text(plain):
    for text, reading in zip(TEXTS, token_likelihoods(*plain, TEXTS), strict=True):
        if text:
            mean = sum(reading.logprobs) / len(reading.logprobs)
            assert math.exp(-mean) == pytest.approx(perplexity(*plain, [text]), rel=1e-3)


def test_company_and_order_change_nothing(tiny):
    """In 16 bits the other texts of a batch once moved a text's figures; and padding once counted as text."""
    model, tokenizer = load_plain(tiny)
    plain = model.bfloat16(), tokenizer
    together = token_likelihoods(*plain, TEXTS)
    alone = [token_likelihoods(*plain, [text])[0] for text in TEXTS]
    assert together == alone == token_likelihoods(*plain, TEXTS[::-1])[::-1]


def test_an_empty_text_has_no_token_and_no_figure(plain):
    assert token_likelihoods(*plain, [""])[0].ids == ()
    assert token_likelihoods(*plain, []) == []


def test_a_text_longer_than_the_context_is_refused(plain):
    with pytest.raises(ValueError, match="shorten it"):
        token_likelihoods(*plain, ["ছবি কথা " * 2000])


def test_a_reader_loads_its_model_when_it_is_first_asked(tiny, tmp_path):
    reader(tmp_path / "no model here")
    assert len(reader(tiny)(TEXTS)) == len(TEXTS)
