"""Hidden states of a tiny model: the same alone and in a batch, of the prompt alone, with the adapter off and on."""

import numpy as np
import pytest

from lekhai_helpers.learn.hidden_states import HiddenStateError, base_and_tuned, extract, measure_states
from lekhai_helpers.learn.model import attach_lora, load_model, load_plain, load_to_read
from lekhai_helpers.prepare.safety_prompts import SafetyPrompt, fingerprint

TEXTS = ["রং নিয়ে ক লিখুন", "ছবি দিন, কথা দিন। রং নিয়ে খ লিখুন, রং নিয়ে গ লিখুন।", "কথা", "শুধু একটি টেবিল লিখুন"]


def prompt(text: str, number: int = 0, answer: str = "") -> SafetyPrompt:
    side = "safe" if number % 2 == 0 else "unsafe"
    return SafetyPrompt(f"p{number}-{side}", "axiom", side, "bn", text, "test", answer)


PROMPTS = [prompt(text, number) for number, text in enumerate(TEXTS)]


@pytest.fixture(scope="module")
def plain(tiny):
    """The tiny model in 32 bits, so that rounding cannot be taken for padding."""
    return _plain(tiny)


def _plain(folder):
    model, tokenizer = load_plain(folder)
    return model.float(), tokenizer


def test_the_shape_is_prompts_by_layers_by_hidden_size_and_nothing_changes_on_a_second_look(plain):
    values = extract(*plain, PROMPTS)
    assert values.shape == (4, 3, 64) and values.dtype == np.float32
    assert np.array_equal(values, extract(*plain, PROMPTS))


def test_padding_changes_no_state(plain):
    """A mean over padding would bring every short prompt nearer to every other."""
    together, alone = extract(*plain, PROMPTS, batch_size=4), extract(*plain, PROMPTS, batch_size=1)
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-5)


def test_the_mean_goes_over_the_tokens_of_the_prompt_and_no_others(plain):
    import torch

    model, tokenizer = plain
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": TEXTS[1]}], add_generation_prompt=True, tokenize=False
    )
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, return_tensors="pt")
    begin = text.index(TEXTS[1])
    own = [begin <= last - 1 and first < begin + len(TEXTS[1]) for first, last in encoded["offset_mapping"][0].tolist()]
    assert 0 < sum(own) < len(own)
    with torch.inference_mode():
        states = model(encoded["input_ids"], output_hidden_states=True).hidden_states
    expected = np.stack([state[0, own].mean(dim=0).numpy() for state in states])
    np.testing.assert_allclose(extract(model, tokenizer, [PROMPTS[1]])[0], expected, rtol=1e-4, atol=1e-5)


def test_the_begin_of_text_token_is_left_out_where_there_is_no_template(plain):
    """Its state is the longest of all: with it in the mean, length alone would tell prompts apart."""
    from copy import deepcopy

    model, tokenizer = plain[0], deepcopy(plain[1])
    tokenizer.chat_template = None
    text = tokenizer.bos_token + TEXTS[0]
    ids = tokenizer(TEXTS[0], add_special_tokens=False, return_tensors="pt").input_ids[0]
    expected = model.get_input_embeddings()(ids).mean(dim=0).detach().numpy()
    found = extract(model, tokenizer, [prompt(TEXTS[0])])[0, 0]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    with_begin = extract(model, tokenizer, [prompt(text)])[0, 0]
    assert not np.allclose(with_begin, expected, rtol=1e-2)


def test_an_answer_is_read_with_its_prompt(plain):
    pair = [prompt(TEXTS[0], 0, "কথা দিন"), prompt(TEXTS[0], 1, "ছবি দিন, ছবি দিন")]
    values = extract(*plain, pair)
    assert not np.allclose(values[0], values[1]) and not np.allclose(values[0], extract(*plain, [PROMPTS[0]])[0])


def test_a_fresh_adapter_changes_nothing_and_a_trained_one_every_layer_but_the_embeddings(tiny, settings):
    import torch

    model, tokenizer = load_model(tiny, settings, exact=True)
    model = attach_lora(model, settings.lora, seed=1)
    base, tuned = base_and_tuned(model, tokenizer, PROMPTS)
    assert np.array_equal(base.values, tuned.values) and (base.name, tuned.name) == ("base", "sft")
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if ".lora_B." in name:
                weights.add_(0.05)
    base, tuned = base_and_tuned(model, tokenizer, PROMPTS, names=("merged", "dpo"))
    assert np.array_equal(base.values[:, 0], tuned.values[:, 0])
    assert not np.allclose(base.values[:, 1:], tuned.values[:, 1:])
    assert (base.architecture, base.prompts, base.layers) == (tuned.architecture, fingerprint(PROMPTS), 2)
    np.testing.assert_allclose(
        base.values, extract(*load_model(tiny, settings, exact=True), PROMPTS), rtol=1e-3, atol=1e-4
    )


def test_a_model_loaded_to_be_read_is_its_base_without_the_adapter(tiny, settings, tmp_path):
    """It is loaded without the training engine, and what it shows must still be base and adapter."""
    import torch

    model, tokenizer = load_model(tiny, settings, exact=True)
    model = attach_lora(model, settings.lora, seed=1)
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if ".lora_B." in name:
                weights.add_(0.05)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    reader, own_tokenizer = load_to_read(tiny, settings, tmp_path)
    base, tuned = base_and_tuned(reader.float(), own_tokenizer, PROMPTS)
    np.testing.assert_allclose(base.values, extract(*_plain(tiny), PROMPTS), rtol=1e-3, atol=1e-4)
    assert not np.allclose(base.values[:, 1:], tuned.values[:, 1:])


def test_two_models_loaded_apart_carry_the_same_architecture_by_name(plain, new_model):
    other = load_plain(new_model(seed=3))
    assert measure_states("a", *plain, PROMPTS).architecture == measure_states("b", *other, PROMPTS).architecture


def test_a_model_without_adapter_cannot_be_compared_with_itself(plain):
    with pytest.raises(HiddenStateError, match="no adapter to switch off"):
        base_and_tuned(*plain, PROMPTS)


def test_no_prompts_broken_weights_and_a_template_that_eats_the_text_are_named(plain, new_model):
    import torch

    with pytest.raises(HiddenStateError, match="no prompts were given"):
        extract(*plain, [])
    broken, tokenizer = load_plain(new_model(seed=4))
    with torch.no_grad():
        broken.get_decoder().layers[0].mlp.down_proj.weight.fill_(float("nan"))
    with pytest.raises(HiddenStateError, match="p0-safe .* not finite"):
        extract(broken, tokenizer, PROMPTS)
    tokenizer.chat_template = "{{ bos_token }}hello"
    with pytest.raises(HiddenStateError, match="does not keep the text of p0-safe"):
        extract(broken, tokenizer, PROMPTS)
