"""Loading, LoRA, generation, perplexity and memory, with real Unsloth on a tiny model."""

import json
import math
import shutil

import pytest

from lekhai_helpers.core.hardware import memory_mb
from lekhai_helpers.learn.model import (
    attach_lora,
    count_parameters,
    end_ids,
    generate,
    load_model,
    perplexity,
    release_memory,
    weights_mb,
)


@pytest.fixture(scope="module")
def loaded(tiny, settings):
    return load_model(tiny, settings)


@pytest.fixture
def greedy(settings):
    return settings.decoding.model_copy(update={"temperature": 0.0})


def texts(generations):
    return [generation.text for generation in generations]


def test_a_model_loads_with_its_weights_and_template(loaded, tiny):
    model, tokenizer = loaded
    assert model.dtype.itemsize == 2
    assert weights_mb(model) == pytest.approx(count_parameters(model)["all"] * 2 / 1e6, rel=0.01)
    assert tokenizer.padding_side == "left"
    assert tokenizer.chat_template == (tiny / "chat_template.jinja").read_text()
    assert end_ids(model, tokenizer) == {tokenizer.eos_token_id}


def test_lora_trains_its_own_strips_and_nothing_else(tiny, settings):
    model = attach_lora(load_model(tiny, settings)[0], settings.lora, seed=1)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained and all(".lora_A." in name or ".lora_B." in name for name in trained)
    per_layer = len(settings.lora.target_modules) * 2
    assert len(trained) == per_layer * 2
    counts = count_parameters(model)
    assert 0 < counts["trained"] < counts["all"] * 0.2


def test_fresh_lora_changes_no_word(tiny, settings, loaded, prompts, greedy):
    model = attach_lora(load_model(tiny, settings)[0], settings.lora, seed=1)
    assert texts(generate(model, loaded[1], prompts, greedy, 1)) == texts(generate(*loaded, prompts, greedy, 1))


def test_greedy_text_is_the_same_whatever_the_seed(loaded, prompts, greedy):
    first = texts(generate(*loaded, prompts, greedy, 1))
    assert first == texts(generate(*loaded, prompts, greedy, 2))
    assert len(set(first)) == 2


def test_sampled_text_is_the_same_for_the_same_seed_and_another_for_another(loaded, prompts, settings):
    hot = settings.decoding.model_copy(update={"temperature": 1.0, "top_p": 1.0})
    first = texts(generate(*loaded, prompts, hot, 1))
    assert first == texts(generate(*loaded, prompts, hot, 1))
    assert first != texts(generate(*loaded, prompts, hot, 2))


def test_a_short_prompt_in_a_batch_with_a_long_one_gets_the_text_it_gets_alone(loaded, prompts, greedy):
    """Padding on the wrong side, or positions that count it, change the text of all but the longest prompt."""
    together = texts(generate(*loaded, prompts, greedy, 1))
    alone = [texts(generate(*loaded, [prompt], greedy, 1))[0] for prompt in prompts]
    in_two_batches = texts(generate(*loaded, prompts, greedy.model_copy(update={"batch_size": 1}), 1))
    assert together == alone == in_two_batches


def always_says(model, token):
    """Turn a model into one that says the same token for ever: its logits are 30 there and about 0 elsewhere."""
    import torch

    def force(module, args, output):
        output.logits = torch.zeros_like(output.logits)
        output.logits[..., token] = 30
        return output

    return model.register_forward_hook(force)


def test_a_text_ends_at_the_end_token_and_is_said_to_have_stopped(loaded, prompts, greedy):
    model, tokenizer = loaded
    hook = always_says(model, tokenizer.eos_token_id)
    try:
        answers = generate(*loaded, prompts, greedy, 1)
    finally:
        hook.remove()
    assert [(answer.text, answer.tokens, answer.stopped) for answer in answers] == [("", 0, True)] * 2


def test_a_text_cut_at_the_limit_is_not_said_to_have_stopped(loaded, prompts, greedy):
    model, tokenizer = loaded
    piece = tokenizer.convert_tokens_to_ids("ক")
    hook = always_says(model, piece)
    try:
        answers = generate(*loaded, prompts, greedy, 1)
    finally:
        hook.remove()
    assert [(answer.text, answer.tokens, answer.stopped) for answer in answers] == [("ক" * 8, 8, False)] * 2


def test_a_model_that_knows_nothing_is_as_perplexed_as_its_dictionary_is_large(loaded):
    model, tokenizer = loaded
    hook = model.register_forward_hook(lambda m, a, out: setattr(out, "logits", out.logits * 0))
    try:
        assert perplexity(*loaded, ["ছবি ও কথা", ("প্রশ্ন", "উত্তর")]) == pytest.approx(len(tokenizer), rel=1e-4)
    finally:
        hook.remove()


def test_a_model_that_is_certain_and_right_has_perplexity_1(loaded):
    model, tokenizer = loaded
    hook = always_says(model, tokenizer.convert_tokens_to_ids("ক"))
    try:
        assert perplexity(*loaded, ["ককক"]) == pytest.approx(1.0, abs=1e-4)
        assert perplexity(*loaded, [("অন্য কিছু", "ককক")]) == pytest.approx(1.0, abs=1e-4)
        assert perplexity(*loaded, [("ককক", "খ")]) > math.exp(20)
    finally:
        hook.remove()


def test_an_adapter_whose_base_has_moved_loads_on_the_base_it_is_given(tiny, settings, tmp_path, prompts, greedy):
    """A run moved to Drive holds the path of its old place inside the adapter."""
    import torch

    from lekhai_helpers.ship.export import save_adapter

    model, tokenizer = load_model(tiny, settings)
    model = attach_lora(model, settings.lora, seed=1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if ".lora_B." in name:
                torch.nn.init.normal_(weight, std=0.5)
    adapter = save_adapter(model, tokenizer, tmp_path / "adapter")
    expected = texts(generate(model, tokenizer, prompts, greedy, 1))

    moved = shutil.copytree(tiny, tmp_path / "moved base")
    config = json.loads((adapter / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(tiny)
    (adapter / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": "/gone/model"}))
    again = load_model(moved, settings, adapter=adapter)
    assert texts(generate(*again, prompts, greedy, 1)) == expected
    assert json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"] == "/gone/model"


def test_released_memory_goes_back_to_the_system(new_model, settings):
    """All twelve lessons in one runtime hold a model each; kept, they would not fit on a free machine."""
    large = new_model(hidden_size=1024, intermediate_size=8192)
    release_memory()
    before = memory_mb()
    model, tokenizer = load_model(large, settings)
    model.float()  # weights as loaded are pages of the file, which take no memory before they are read
    size, held = weights_mb(model), memory_mb() - before
    assert size > 200
    names = {"model": model, "tokenizer": tokenizer, "settings": settings}
    del model, tokenizer
    after = release_memory(names) - before
    assert set(names) == {"tokenizer", "settings"}
    assert held > 0.8 * size and after < 0.25 * size


def test_decoding_without_copies_gives_the_same_text(tiny):
    """The grouped attention of a processor must be the library's own arithmetic, only without the copies."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from lekhai_helpers.learn.model import decode_without_copies

    model = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32)
    assert model.config.num_key_value_heads < model.config.num_attention_heads, "the tiny model must share its heads"
    tokenizer = AutoTokenizer.from_pretrained(tiny, padding_side="left")
    batch = tokenizer(["চা", "বৃষ্টির দিনে এক কাপ চা"], padding=True, return_tensors="pt")
    before = model.generate(**batch, max_new_tokens=12, do_sample=False)
    decode_without_copies(model)
    assert torch.equal(before, model.generate(**batch, max_new_tokens=12, do_sample=False))
