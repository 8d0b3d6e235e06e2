"""The parity gate on real files: a tiny model that has learned its scripts, and a copy of its GGUF for every fault."""

import json
import math
import shutil

import pytest

from lekhai_helpers.prepare.embedded import CHAT_TEMPLATE
from lekhai_helpers.ship.errors import QuantizeError
from lekhai_helpers.ship.gguf_facts import read_facts, rewrite
from lekhai_helpers.ship.imatrix import collect_imatrix, read_imatrix
from lekhai_helpers.ship.ollama_template import write_modelfile
from lekhai_helpers.ship.parity import parity_gate
from lekhai_helpers.ship.parity_checks import check_vocabulary
from lekhai_helpers.ship.parity_reference import reference
from lekhai_helpers.ship.quantize import convert_to_gguf, quantize
from lekhai_helpers.ship.scoring import distance, passages, score_gguf, score_model

TOKENIZER = "tokenizer.ggml."
LAYERS = 6  # llama.cpp takes every sixth layer of a Gemma 3 for one with full attention, and wants at least one


@pytest.fixture(scope="module")
def asked(settings):
    """Room for a whole script: a gate asks whether answers end by themselves."""
    return settings.model_copy(update={"decoding": settings.decoding.model_copy(update={"max_new_tokens": 120})})


@pytest.fixture(scope="module")
def folder(new_model, examples, tmp_path_factory):
    """A tiny model that has learned its scripts by heart, end included: in plain PyTorch, a few seconds."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    place = shutil.copytree(new_model(seed=5, num_hidden_layers=LAYERS), tmp_path_factory.mktemp("parity") / "model")
    model, tokenizer = AutoModelForCausalLM.from_pretrained(place).float(), AutoTokenizer.from_pretrained(place)
    texts = [tokenizer.apply_chat_template([*e["prompt"], *e["completion"]], tokenize=False) for e in examples]
    batch = tokenizer(texts, add_special_tokens=False, padding=True, padding_side="right", return_tensors="pt")
    labels = batch.input_ids.masked_fill(batch.attention_mask == 0, -100)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    model.train()
    for _ in range(120):
        optimizer.zero_grad()
        model(**batch, labels=labels).loss.backward()
        optimizer.step()
    model.to(torch.bfloat16).save_pretrained(place)
    return place


@pytest.fixture(scope="module")
def f16(folder):
    return convert_to_gguf(folder, folder.parent / "tiny-f16.gguf")


@pytest.fixture(scope="module")
def twenty(examples):
    return [examples[number % len(examples)]["prompt"] for number in range(20)]


@pytest.fixture
def gate(folder, f16, asked, twenty, examples, tmp_path):
    """Return a function that runs the gate on one file or more, with a Modelfile of ours or another text for it."""

    def run(changes=None, kinds=(), text=None, prompts=twenty, greedy=2):
        one = rewrite(f16, tmp_path / "tiny-f16.gguf", changes) if changes else f16
        files = {"f16": one} | {kind: quantize(f16, tmp_path / f"tiny-{kind}.gguf", kind) for kind in kinds}
        modelfile = write_modelfile(tmp_path, one.name, asked, CHAT_TEMPLATE)
        if text:
            modelfile.write_text(text(modelfile.read_text(encoding="utf-8")), encoding="utf-8")
        return parity_gate(folder, files, asked, prompts, examples[:6], modelfile, greedy=greedy)

    return run


def failed(parity) -> dict[str, str]:
    """Return the checks that failed and the cause each names."""
    assert not parity.ok and "Export OK" not in parity.sentence and parity.sentence.startswith("Not passed")
    assert all(check.cause and check.fix for check in parity.checks if not check.passed)
    return {check.name: check.cause for check in parity.checks if not check.passed}


def test_the_same_model_in_three_files_passes_and_its_losses_are_measured(gate):
    parity = gate(kinds=("q8_0", "q4_k_m"), greedy=4)
    assert parity.ok and parity.sentence.startswith("Export OK: on 20 prompts"), parity.sentence
    assert parity.passed[:2] == ["tiny-f16.gguf", "tiny-q8_0.gguf"] and "asked on 4 prompts" in parity.sentence
    f16, q8, q4 = parity.rows
    assert [row["file"] for row in parity.rows] == ["tiny-f16.gguf", "tiny-q8_0.gguf", "tiny-q4_k_m.gguf"]
    assert (f16["distance"], f16["same_next"]) == (0.0, 1.0) and f16["dlogp"] < 0.05
    assert 0 < q8["distance"] < q4["distance"] and f16["perplexity"] <= q4["perplexity"]
    assert f16["greedy_equal"] == "4 of 4" and f16["stopped_share"] == 1.0 and f16["valid_share"] >= 0
    assert q8["distance_low"] <= q8["distance"] <= q8["distance_high"] and f16["distance_low"] is None
    assert q8["scripts"] == 6 and q8["places"] > 20
    assert len(parity.table()) == len(parity.checks) == 3 * 6 + 1 + 3 and len(parity.figures()) == 3


def test_a_smaller_file_that_runs_on_is_named_and_not_passed(folder, f16, asked, twenty, examples, tmp_path):
    """Planted: weights that never find the end mark likely, in a file that is otherwise the model."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    place = shutil.copytree(folder, tmp_path / "endless")
    model, end = AutoModelForCausalLM.from_pretrained(place), AutoTokenizer.from_pretrained(place).eos_token_id
    with torch.no_grad():
        model.get_input_embeddings().weight[end] = 0  # tied to the output: its score is 0, that of others far above
    model.save_pretrained(place)
    endless = convert_to_gguf(place, tmp_path / "tiny-q8_0.gguf")
    shares = {"f16": 1.0, "q8_0": 0.5}
    parity = parity_gate(
        folder, {"f16": f16, "q8_0": endless}, asked, twenty[:3], examples[:3], greedy=3, shares=shares
    )
    assert [(c.name, c.file, c.cause) for c in parity.checks if not c.passed] == [
        ("stops by itself", "tiny-q8_0.gguf", "rounding"),
        ("contract share", "tiny-q8_0.gguf", "rounding"),
    ]
    assert parity.passed == ["tiny-f16.gguf"] and [row["passed"] for row in parity.rows] == [True, False]
    assert "Not passed: tiny-q8_0.gguf (stops by itself: of 3 answers 0 ended by themselves" in parity.sentence


def test_a_gate_that_asked_for_no_answers_is_not_passed(gate, twenty):
    assert failed(gate(prompts=twenty[:2], greedy=0)) == {"stops by itself": "not shown"}


def test_another_chat_template_in_the_file_is_found(gate):
    changed = CHAT_TEMPLATE.replace("### Answer:", "### Script:")
    assert failed(gate({"tokenizer.chat_template": changed}))["rendered text"] == "template"


def test_a_start_mark_that_the_template_writes_a_second_time_is_found(gate):
    found = failed(gate({"tokenizer.chat_template": "{{ bos_token }}" + CHAT_TEMPLATE}))
    assert found["BOS once"] == "template"


def test_a_start_mark_that_nobody_writes_is_found(gate):
    changes = {
        f"{TOKENIZER}add_bos_token": False,
        "tokenizer.chat_template": CHAT_TEMPLATE.replace("{{ bos_token }}", ""),
    }
    assert failed(gate(changes))["BOS once"] == "special token"


@pytest.mark.parametrize("eos", [None, 300])
def test_a_missing_or_other_end_is_found(gate, eos):
    """llama.cpp still guesses this one by its name; Ollama and LM Studio go by the number in the file."""
    assert failed(gate({f"{TOKENIZER}eos_token_id": eos}))["end of turn"] == "special token"


def test_an_end_that_cannot_be_guessed_lets_answers_run_on(gate, f16):
    pieces = ["<finish>" if piece == "<eos>" else piece for piece in read_facts(f16).pieces]
    found = failed(gate({f"{TOKENIZER}eos_token_id": 300, f"{TOKENIZER}tokens": pieces}))
    assert found["end of turn"] == found["stops by itself"] == "special token"


def test_a_space_before_every_text_is_found_as_another_rule_of_cutting(gate):
    """SentencePiece's dummy prefix: the file loads, writes, and every prompt begins with a token never seen there."""
    assert failed(gate({f"{TOKENIZER}add_space_prefix": True}))["token ids"] in ("pre-tokenizer", "special token")


def test_pieces_merged_in_another_order_are_found_as_another_rule_of_cutting(gate, f16):
    from gguf import GGUFReader

    scores = GGUFReader(f16).fields[f"{TOKENIZER}scores"].contents()
    texts = ["| Visual | Audio |\n|---|---|\n| ছবি ক | ভিও: কথা খ |", "| কথা | কলম: কাগজ, দুটি  ফাঁকা   ঘর "]
    prompts = [[{"role": "user", "content": text}] for text in texts]
    found = failed(gate({f"{TOKENIZER}scores": [-score for score in scores]}, prompts=prompts, greedy=0))
    assert found["token ids"] == "pre-tokenizer"


def test_a_special_token_that_is_not_marked_as_one_is_found(gate, f16):
    """As plain text <bos> is cut into letters."""
    from gguf import GGUFReader

    types = GGUFReader(f16).fields[f"{TOKENIZER}token_type"].contents()
    types[read_facts(f16).bos] = 1
    assert failed(gate({f"{TOKENIZER}token_type": types}))["token ids"] == "special token"


def test_a_dictionary_longer_than_the_weights_is_found_though_llama_cpp_does_not_load_it(gate, f16):
    facts = read_facts(f16)
    changes = {f"{TOKENIZER}tokens": [*facts.pieces, "[PAD0]", "[PAD1]"]}
    parity = gate(changes)
    assert failed(parity)["vocabulary"] == "vocabulary padding"
    assert "resize_token_embeddings" in parity.sentence


def test_weights_padded_before_the_conversion_are_found(folder, twenty, tmp_path):
    """The file loads and writes; ids beyond the dictionary can then be drawn, and other programs refuse the file."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    padded = shutil.copytree(folder, tmp_path / "padded")
    model = AutoModelForCausalLM.from_pretrained(padded)
    model.resize_token_embeddings(len(AutoTokenizer.from_pretrained(padded)) + 12)
    model.save_pretrained(padded)
    file = convert_to_gguf(padded, tmp_path / "padded.gguf")
    ours = reference(folder, AutoTokenizer.from_pretrained(folder), twenty)
    found = check_vocabulary(ours, read_facts(file), file.name)
    assert not found.passed and found.cause == "vocabulary padding"


def test_other_weights_under_the_same_dictionary_are_found(asked, folder, f16, new_model, twenty, examples):
    """Every text and token agrees; only the probabilities show that another model lies in the file."""
    parity = parity_gate(
        new_model(seed=5, num_hidden_layers=LAYERS), {"f16": f16}, asked, twenty[:2], examples[:2], greedy=0
    )
    assert failed(parity)["same probabilities"] == "weights"


@pytest.mark.parametrize(
    ("text", "check", "cause"),
    [
        (lambda t: t.replace("### Answer:", "### Script:"), "Modelfile template", "template"),
        (lambda t: t.replace("{{ if .System }}", "{{ range .Messages }}"), "Modelfile template", "template"),
        (lambda t: t.replace('"<eos>"', '"<bos>"'), "Modelfile stop", "special token"),
        (lambda t: t.replace("tiny-f16", "another"), "Modelfile file", "template"),
    ],
)
def test_a_modelfile_that_asks_otherwise_is_found(gate, twenty, text, check, cause):
    assert failed(gate(text=text, prompts=twenty[:2], greedy=1)) == {check: cause}


def test_a_broken_file_is_a_failed_check_and_no_crash(folder, f16, asked, twenty, examples, tmp_path):
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(f16.read_bytes()[:-40_000])
    parity = parity_gate(folder, {"f16": broken}, asked, twenty[:2], examples[:2], greedy=0)
    assert failed(parity) == {"loads": "weights"} and not parity.rows


def test_a_gate_without_files_or_scripts_is_refused(folder, asked, twenty, examples):
    for files, prompts, rows in (({}, twenty, examples[:1]), ({"f16": folder}, twenty, []), ({"f16": folder}, [], [1])):
        with pytest.raises(QuantizeError, match="needs a GGUF file, a prompt and a held-out row"):
            parity_gate(folder, files, asked, prompts, rows)


# --- byte-level BPE, where the name of the pre-tokenizer decides


def as_byte_level(source, target, pre):
    """Give a file the dictionary of a byte-level BPE of the same size; only ids are asked of it afterwards."""
    from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
    from tokenizers.models import BPE
    from transformers import PreTrainedTokenizerFast

    size = len(read_facts(source).pieces)
    core = Tokenizer(BPE())
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    special = ["<pad>", "<eos>", "<bos>", "<unk>"]
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(["টাকা 1234 5678 2024 2025 1999 ছবি কথা 1234"] * 40 + ["| ক | খ |"] * 9, trainer)
    spec = json.loads(core.to_str())["model"]
    pieces = [piece for piece, _ in sorted(spec["vocab"].items(), key=lambda item: item[1])]
    pieces += [f"[PAD{number}]" for number in range(len(pieces), size)]
    changes = {
        f"{TOKENIZER}model": "gpt2",
        f"{TOKENIZER}pre": pre,
        f"{TOKENIZER}tokens": pieces,
        f"{TOKENIZER}merges": [" ".join(pair) for pair in spec["merges"]],
        f"{TOKENIZER}token_type": [3] * 4 + [1] * (size - 4),
        f"{TOKENIZER}scores": None,
    }
    ours = PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>")
    return rewrite(source, target, changes), ours


@pytest.mark.parametrize(("pre", "same"), [("gpt-2", True), ("qwen2", False)])
def test_the_wrong_pre_tokenizer_of_a_byte_level_dictionary_is_found_by_its_tokens(f16, tmp_path, pre, same):
    """Qwen's cuts every digit by itself, GPT-2's keeps a number together: the pieces are all the same."""
    from lekhai_helpers.ship.llama_server import LlamaServer, token_differences

    file, ours = as_byte_level(f16, tmp_path / "bytes.gguf", pre)
    with LlamaServer(file, context=256, slots=1, threads=1) as server:
        assert (token_differences(server, ours, ["টাকা 1234 5678", "ছবি কথা"]) == []) is same


# --- scoring


def test_llama_cpp_and_hugging_face_find_the_same_of_every_token(folder, f16, examples, tmp_path):
    from lekhai_helpers.learn.model import load_plain, perplexity

    model, tokenizer = load_plain(folder)
    model, texts = model.float(), passages(tokenizer, examples[:5])
    kept = tmp_path / "rows"
    theirs = score_gguf(f16, texts, keep=kept, threads=1)
    ours = score_model(model, texts, against=kept)
    assert [len(row) for row in theirs.logprobs] == [len(text.ids) - text.start for text in texts]
    assert distance(ours, theirs) < 0.01 and ours.kl < 0.01 and ours.same_next == 1.0
    pairs = [(tokenizer.decode(t.ids[: t.start]), tokenizer.decode(t.ids[t.start :])) for t in texts]
    assert math.isclose(ours.perplexity, perplexity(model, tokenizer, pairs), rel_tol=1e-3)
    assert theirs.facts["bos"] == tokenizer.bos_token_id and theirs.facts["ends"] == [tokenizer.eos_token_id]


def test_a_file_that_cannot_be_scored_says_so(tmp_path, f16, folder, examples):
    from transformers import AutoTokenizer

    broken = tmp_path / "broken.gguf"
    broken.write_bytes(f16.read_bytes()[:50_000])
    with pytest.raises(QuantizeError, match=r"could not read the scripts with broken\.gguf"):
        score_gguf(broken, passages(AutoTokenizer.from_pretrained(folder), examples[:1]))


# --- importance matrix and tensors kept at another type


@pytest.fixture(scope="module")
def matrix(folder, examples):
    return collect_imatrix(folder, examples, folder.parent / "tiny.imatrix.gguf", limit=4)


def test_the_matrix_holds_the_mean_square_of_every_layers_inputs(folder, examples, matrix):
    """Held against a second way of counting: the inputs of one layer, squared by hand."""
    import torch

    from lekhai_helpers.learn.model import load_plain

    model, tokenizer = load_plain(folder)
    layer, seen = model.model.layers[1].mlp.down_proj, []
    hook = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach().float()[0]))
    for row in examples[:4]:
        text = tokenizer.apply_chat_template([*row["prompt"], *row["completion"]], tokenize=False)
        with torch.inference_mode():
            model(**tokenizer(text, add_special_tokens=False, return_tensors="pt"))
    hook.remove()
    columns = read_imatrix(matrix)
    assert len(columns) == LAYERS * 7 and columns["blk.1.ffn_down.weight"].shape == (128,)
    expected = torch.cat(seen).square().mean(0).numpy()
    assert columns["blk.1.ffn_down.weight"] == pytest.approx(expected, rel=1e-3, abs=1e-7)


def test_the_matrix_is_really_used(f16, matrix, tmp_path):
    """Same types and size, other bytes: rounding has followed the matrix."""
    from gguf import GGUFReader

    plain = quantize(f16, tmp_path / "plain.gguf", "q4_k_m")
    weighed = quantize(f16, tmp_path / "weighed.gguf", "q4_k_m", imatrix=matrix)
    types = [[tensor.tensor_type for tensor in GGUFReader(file).tensors] for file in (plain, weighed)]
    assert types[0] == types[1] and plain.stat().st_size == weighed.stat().st_size
    assert plain.read_bytes() != weighed.read_bytes()


def test_tensors_can_be_kept_at_another_type(f16, tmp_path):
    from gguf import GGUFReader

    kept = quantize(f16, tmp_path / "kept.gguf", "q4_k_m", keep=[("attn_v", "q8_0")])
    types = {tensor.name: tensor.tensor_type.name for tensor in GGUFReader(kept).tensors}
    assert types["blk.0.attn_v.weight"] == types["blk.1.attn_v.weight"] == "Q8_0" != types["blk.0.attn_q.weight"]


def test_what_would_have_no_effect_is_refused_and_leaves_no_file(f16, matrix, tmp_path):
    strange = rewrite(matrix, tmp_path / "strange.gguf", {"imatrix.chunk_count": None})
    with pytest.raises(QuantizeError, match="no tensor is named like 'nobody'"):
        quantize(f16, tmp_path / "q.gguf", "q4_k_m", keep=[("nobody", "q8_0")])
    with pytest.raises(QuantizeError, match="holds no sums of squares"):
        read_imatrix(f16)
    with pytest.raises(QuantizeError, match="wrote no q4_k_m file"):
        quantize(f16, tmp_path / "q.gguf", "q4_k_m", imatrix=f16)
    assert [path.name for path in tmp_path.iterdir()] == [strange.name]


def test_a_matrix_needs_text(folder, tmp_path):
    with pytest.raises(QuantizeError, match="needs text"):
        collect_imatrix(folder, [], tmp_path / "none.gguf")
