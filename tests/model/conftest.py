"""A random two-layer Gemma 3 with a dictionary of its own, made on the fly: nothing is downloaded.

It has the shapes and the code path of the real base and none of its knowledge, so every test takes seconds.
"""

import json
import os

import pytest

os.environ.setdefault("UNSLOTH_DISABLE_STATISTICS", "1")

LETTERS = "কখগঘঙচছজঝঞটঠডঢণ"
SYSTEM = "শুধু একটি টেবিল লিখুন: | Visual | Audio |"
SHAPES = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "intermediate_size": 128,
}


def script(number: int) -> str:
    """Return a small script, another one for every number."""
    rows = [f"| ছবি {letter} | ভিও: কথা {letter} |" for letter in (LETTERS[number:] + LETTERS[:number])[:3]]
    return "\n".join(["| Visual | Audio |", "|---|---|", *rows])


def example(number: int) -> dict:
    """Return a training example as `prepare.dataset.to_examples` makes them."""
    user = f"রং নিয়ে {LETTERS[number]} লিখুন"
    return {
        "id": f"r{number}",
        "prompt": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": user}],
        "completion": [{"role": "assistant", "content": script(number)}],
    }


@pytest.fixture(scope="session")
def examples():
    return [example(number) for number in range(len(LETTERS))]


@pytest.fixture(scope="session")
def prompts(examples):
    """Two prompts, the second three times as long as the first."""
    system, user = examples[0]["prompt"]
    return [[user], [system, {"role": "user", "content": f"{user['content']}। ছবি দিন, কথা দিন।"}]]


@pytest.fixture(scope="session")
def settings():
    """The smoke profile with steps and lengths for a tiny model."""
    from lekhai_helpers.core.recipe import resolve

    tiny = {"model.max_seq_length": 256, "lora.r": 4, "lora.alpha": 8, "sft.max_steps": 8, "sft.learning_rate": 1e-2}
    tiny |= {"sft.eval_every": 4, "sft.keep": "best", "decoding.max_new_tokens": 8}
    return resolve("lekhai", "smoke", tiny)


def byte_bpe(vocabulary_size: int = 340):
    """Return a byte-fallback BPE tokenizer built as `prepare.embedded.exact_tokenizer` builds the real one."""
    from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, trainers
    from tokenizers.models import BPE
    from transformers import PreTrainedTokenizerFast

    from lekhai_helpers.prepare.embedded import CHAT_TEMPLATE

    def with_spaces(tokenizer):
        tokenizer.normalizer = normalizers.Replace(" ", "▁")
        tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
        return tokenizer

    text = "\n".join(f"{SYSTEM} {example(n)['prompt'][1]['content']}\n{script(n)}" for n in range(len(LETTERS)))
    trained = with_spaces(Tokenizer(BPE(unk_token="<unk>")))
    size = vocabulary_size - 256
    trained.train_from_iterator(
        text.split("\n"), trainers.BpeTrainer(vocab_size=size, special_tokens=["<unk>"], show_progress=False)
    )
    learned = json.loads(trained.to_str())["model"]
    special = ["<pad>", "<eos>", "<bos>", "<unk>"]
    learned_pieces = [piece for piece in learned["vocab"] if piece not in special]
    pieces = [*special, *(f"<0x{byte:02X}>" for byte in range(256)), "\n", *learned_pieces]
    ids = {piece: number for number, piece in enumerate(pieces)}
    merges = [tuple(pair) for pair in learned["merges"]]
    core = with_spaces(Tokenizer(BPE(ids, merges, byte_fallback=True, fuse_unk=True, unk_token="<unk>")))
    core.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>", unk_token="<unk>"
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def make_model(folder, seed: int = 0, tokenizer=None, **shapes):
    """Write a random Gemma 3 in bfloat16 with its tokenizer to `folder`."""
    import torch
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    tokenizer = tokenizer or byte_bpe()
    torch.manual_seed(seed)
    ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    layers = shapes.get("num_hidden_layers", SHAPES["num_hidden_layers"])
    config = Gemma3TextConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=1024,
        sliding_window=512,
        layer_types=["sliding_attention"] * (layers - 1) + ["full_attention"],
        query_pre_attn_scalar=32,
        **SHAPES | shapes,
        **ids,
    )
    model = Gemma3ForCausalLM(config).to(torch.bfloat16)
    for name, value in ids.items():
        setattr(model.generation_config, name, value)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def engine():
    """Unsloth, imported once and before everything it patches.

    One thread: for so small a model more of them only wait for each other, on a busy machine for minutes.
    """
    import torch

    from lekhai_helpers.learn.model import unsloth_engine

    loaded = unsloth_engine()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield loaded
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def make_tokenizer():
    """Return a function that makes a tokenizer of about so many pieces."""
    return byte_bpe


@pytest.fixture(scope="session")
def write_model(engine):
    """Return a function that writes a tiny model to a folder of the caller's choice."""
    return make_model


@pytest.fixture(scope="session")
def new_model(engine, tmp_path_factory):
    """Return a function that writes another tiny model: ``new_model(seed=1)``."""
    return lambda seed=0, **shapes: make_model(tmp_path_factory.mktemp("tiny") / "model", seed, **shapes)


@pytest.fixture(scope="session")
def tiny(new_model):
    """The folder of the tiny model all tests may read and none may change."""
    return new_model()
