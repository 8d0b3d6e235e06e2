"""From a tiny model to GGUF and back through llama.cpp's own code: the same tokens, the same form, clear errors."""

import shutil
import threading
from types import SimpleNamespace

import pytest

from lekhai_helpers.ship.quantize import (
    FILE_TYPES,
    LlamaServer,
    QuantizeError,
    convert_to_gguf,
    modelfile,
    needs_sentencepiece,
    quantize,
    template_differences,
    token_differences,
    write_modelfile,
    write_sentencepiece,
)

TEXTS = [
    "| Visual | Audio |\n|---|---|\n| ছবি ক | ভিও: কথা খ |",
    "| কথা | কলম: কাগজ, দুটি  ফাঁকা   ঘর ",
    "রং নিয়ে ক লিখুন",
    " শুরুতে ফাঁকা",
    "ক্ষুধা ৳৫০০ — “উদ্ধৃতি” 🙂",
    "<bos>### Request:\nরং<eos>",
]


@pytest.fixture(scope="module")
def folder(tiny, tmp_path_factory):
    """A copy: the converter wants one more file beside the weights."""
    return shutil.copytree(tiny, tmp_path_factory.mktemp("gguf") / "model")


@pytest.fixture(scope="module")
def f16(folder):
    return convert_to_gguf(folder, folder.parent / "tiny-f16.gguf")


@pytest.fixture(scope="module")
def tokenizer(tiny):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny)


@pytest.fixture(scope="module")
def server(f16):
    with LlamaServer(f16, context=256, slots=2, threads=1) as running:
        yield running


@pytest.fixture
def greedy(settings):
    return settings.decoding.model_copy(update={"temperature": 0.0, "max_new_tokens": 6})


def test_a_conversion_leaves_one_whole_file(f16, folder):
    assert f16.stat().st_size > 100_000
    assert sorted(path.name for path in folder.parent.glob("tiny*") if path.is_file()) == ["tiny-f16.gguf"]
    assert (folder / "tokenizer.model").exists() and not needs_sentencepiece(folder)


def test_llama_cpp_cuts_every_text_as_we_do(server, tokenizer):
    assert token_differences(server, tokenizer, TEXTS) == []


def test_the_template_inside_the_file_puts_a_brief_together_as_ours(server, tokenizer, prompts, examples):
    assert template_differences(server, tokenizer, [*prompts, examples[3]["prompt"]]) == []


def test_another_template_is_found(server, tiny, prompts):
    from transformers import AutoTokenizer

    other = AutoTokenizer.from_pretrained(tiny)
    other.chat_template = other.chat_template.replace("### Answer:", "### Script:")
    assert len(template_differences(server, other, prompts)) == 2


def test_the_model_answers_with_the_tokens_it_is_given_once(server, tokenizer, prompts, greedy):
    """A second BOS, from the template and from llama.cpp, makes every answer a little worse and no test red."""
    answer = server.complete(server.render(prompts[1]), greedy, seed=1)
    expected = tokenizer.apply_chat_template(prompts[1], add_generation_prompt=True, tokenize=False)
    assert answer["tokens_evaluated"] == len(tokenizer(expected, add_special_tokens=False).input_ids)
    assert 0 < answer["tokens_predicted"] <= 6


def test_llama_cpp_writes_what_the_model_writes(server, tiny, settings, prompts, greedy):
    """Greedy and in 16 bits the first tokens must be the same: weights, positions and template have to be right."""
    from lekhai_helpers.learn.model import generate, load_model

    model, tokenizer = load_model(tiny, settings)
    ours = generate(model, tokenizer, prompts, greedy, 1)
    theirs = server.write(prompts, greedy, 1)
    assert [answer.text[:2] for answer in theirs] == [answer.text[:2] for answer in ours]


def test_several_prompts_come_back_in_order(server, prompts, greedy):
    four = server.writer(greedy)([*prompts, *prompts], 1)
    alone = [server.write([prompt], greedy, 1)[0] for prompt in prompts]
    assert [g.text[:2] for g in four] == [g.text[:2] for g in alone] * 2
    assert alone[0].text[:2] != alone[1].text[:2] and all(0 < g.tokens <= 6 for g in four)


def test_the_same_seed_gives_the_same_text_where_one_prompt_is_written_at_a_time(server, prompts, settings):
    """Prompts in flight together share their sums, whose last digits then depend on who came first."""
    hot = settings.decoding.model_copy(update={"temperature": 1.0})
    first, again, other = (server.write(prompts[:1], hot, seed)[0].text for seed in (1, 1, 2))
    assert first == again != other


def test_the_chat_route_answers_and_the_process_can_be_weighed(server, prompts, greedy):
    assert isinstance(server.chat(prompts[0], greedy), str)
    assert 10 < server.peak_memory_mb() < 2000 and server.load_seconds > 0


def test_a_prompt_that_does_not_fit_is_told(server, greedy):
    with pytest.raises(QuantizeError, match="answered 400 on /completion: .*context"):
        server.complete("| ছবি" * 500, greedy, seed=1)


@pytest.mark.parametrize("kind", ["q8_0", "q4_k_m"])
def test_a_smaller_file_loads_and_cuts_the_same(f16, tokenizer, prompts, greedy, kind):
    small = quantize(f16, f16.with_name(f"tiny-{kind}.gguf"), kind)
    assert small.stat().st_size < f16.stat().st_size
    assert not small.with_suffix(".writing").exists()
    with LlamaServer(small, context=256, slots=1, threads=1) as server:
        assert token_differences(server, tokenizer, TEXTS) == []
        assert server.write(prompts[:1], greedy, 1)[0].tokens > 0
    assert server.process.poll() is not None


def test_a_broken_file_gives_a_clear_error_and_leaves_no_process(f16, tmp_path):
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(f16.read_bytes()[:50_000])
    threads = threading.active_count()
    server = LlamaServer(broken)
    with pytest.raises(QuantizeError, match="could not load broken.gguf: the file is broken"):
        server.__enter__()
    assert server.process.poll() is not None and threading.active_count() == threads


def test_a_broken_file_cannot_be_quantised(tmp_path, f16):
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(f16.read_bytes()[:50_000])
    with pytest.raises(QuantizeError, match="no q8_0 file from broken.gguf"):
        quantize(broken, tmp_path / "small.gguf", "q8_0")
    assert [path.name for path in tmp_path.iterdir()] == ["broken.gguf"]


def test_a_folder_that_cannot_be_converted_gives_the_converters_own_words(folder, tmp_path):
    bad = shutil.copytree(folder, tmp_path / "bad")
    config = (bad / "config.json").read_text().replace("Gemma3ForCausalLM", "NobodysForCausalLM")
    (bad / "config.json").write_text(config)
    with pytest.raises(QuantizeError, match="could not read bad:\n(.|\n)*NobodysForCausalLM"):
        convert_to_gguf(bad, tmp_path / "bad.gguf")
    assert [path.name for path in tmp_path.iterdir()] == ["bad"]


# --- the gate finds a wrong dictionary


def reverse_scores(proto):
    """As with a wrong pre-tokenizer: the pieces are merged in another order."""
    for piece in proto.pieces:
        piece.score = -piece.score


def a_wrong_type(proto):
    """A control piece is cut out of the text before any merging."""
    next(piece for piece in proto.pieces if piece.piece == "খুন").type = 3


@pytest.mark.parametrize("fault", [reverse_scores, a_wrong_type])
def test_a_wrong_dictionary_converts_loads_and_is_found_by_the_tokens(tiny, tokenizer, tmp_path, fault):
    """Nothing complains: the file loads and writes, only worse. The comparison of the ids is what finds it."""
    from sentencepiece import sentencepiece_model_pb2 as sentencepiece

    bad = shutil.copytree(tiny, tmp_path / "bad")
    path = write_sentencepiece(bad)
    proto = sentencepiece.ModelProto.FromString(path.read_bytes())
    fault(proto)
    path.write_bytes(proto.SerializeToString())
    with LlamaServer(convert_to_gguf(bad, tmp_path / "bad.gguf"), context=256, slots=1, threads=1) as server:
        assert token_differences(server, tokenizer, TEXTS)


# --- without a model


def test_the_modelfile_has_the_template_the_model_was_trained_with(settings, tokenizer, tmp_path, prompts):
    path = write_modelfile(tmp_path, "tiny.gguf", settings, tokenizer.chat_template)
    text = path.read_text(encoding="utf-8")
    assert text == modelfile("tiny.gguf", settings, tokenizer.chat_template)
    assert text.startswith("FROM ./tiny.gguf\n") and f'SYSTEM """{settings.system_prompt}"""' in text
    template = text.split('"""')[1]
    system, user = prompts[1]
    filled = template.replace("{{ if .System }}", "").replace("{{ end }}", "")
    filled = filled.replace("{{ .System }}", system["content"]).replace("{{ .Prompt }}", user["content"])
    ours = tokenizer.apply_chat_template(prompts[1], add_generation_prompt=True, tokenize=False)
    assert "<bos>" + filled == ours


def test_the_modelfile_decodes_as_the_files_were_examined(settings):
    """Ollama's own repeat penalty would punish the strokes of a table; another model's template is Ollama's to read."""
    text = modelfile("tiny.gguf", settings, "{{ another }}")
    assert "TEMPLATE" not in text and "stop" not in text
    assert f"PARAMETER repeat_penalty {settings.decoding.repetition_penalty}\n" in text
    assert "PARAMETER top_k 0\n" in text and "PARAMETER min_p 0\n" in text


def test_every_quantisation_of_the_settings_has_its_number(settings):
    kinds = type(settings.export).model_fields["quantizations"].annotation.__args__[0].__args__
    assert set(kinds) == set(FILE_TYPES)


def test_only_a_gemma_without_its_sentencepiece_file_needs_one(tmp_path, folder):
    other = SimpleNamespace(path=shutil.copytree(folder, tmp_path / "other")).path
    (other / "tokenizer.model").unlink()
    assert needs_sentencepiece(other)
    config = (other / "config.json").read_text()
    (other / "config.json").write_text(config.replace("gemma3_text", "qwen2"))
    assert not needs_sentencepiece(other)
