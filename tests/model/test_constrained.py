"""Decoding held to the grammar: every table valid, whatever the model would rather write and however short the limit.

Most tests feed random scores instead of a model's: thousands of tokens in a second, and wilder than any model.
"""

import re
import shutil
from collections import Counter

import pytest

from lekhai_helpers.learn.constrained import Bill, grammar_processors, table_processors
from lekhai_helpers.learn.table_text import ConstraintError, TableText, read_vocabulary, shortest_parts
from lekhai_helpers.prepare.contracts import Grammar, get_contract, get_grammar
from lekhai_helpers.prepare.contracts.grammar import HEADER

ASKED = ["রং নিয়ে লিখুন", "একটা witty script", "spoken English-এর ad", "V-Guard নিয়ে internationalisation"]
GRAMMARS = [get_grammar("ad_script")(asked) for asked in ASKED]
check = get_contract("ad_script")


def byte_level(vocabulary_size=300):
    """Return a tokenizer like Llama 3's or Qwen's: byte-level, with hardly a Bengali letter in one piece."""
    from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
    from tokenizers.models import BPE
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=["<pad>", "<eos>", "<end_of_turn>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator([HEADER, "| the cat sat on the mat | Audio |\n"] * 3, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<eos>", pad_token="<pad>")


@pytest.fixture(scope="module", params=["byte fallback", "byte level"])
def tokenizer(request, engine, make_tokenizer):
    return make_tokenizer() if request.param == "byte fallback" else byte_level()


@pytest.fixture(scope="module")
def vocabulary(tokenizer):
    """The model's logits are wider than the dictionary, as real ones are: the rows of padding must never be drawn."""
    return read_vocabulary(tokenizer, {tokenizer.eos_token_id}, len(tokenizer) + 7)


def least(vocabulary):
    header, row = shortest_parts(vocabulary, GRAMMARS[0])
    return header + 3 * row + 1 + max(TableText(vocabulary, grammar, row).margin for grammar in GRAMMARS)


def write(vocabulary, limit, push=None, seed=0):
    """Let random scores write four tables of at most `limit` tokens after a padded prompt; return texts and bill."""
    import torch

    bill = Bill()
    (processor,) = table_processors(vocabulary, GRAMMARS, limit, bill)
    dice = torch.Generator().manual_seed(seed)
    ids = torch.zeros((len(GRAMMARS), 5), dtype=torch.long)
    while ids.shape[1] < 5 + limit and not all(text.done for text in processor.texts):
        scores = torch.randn((len(GRAMMARS), len(vocabulary.pieces)), generator=dice) * 2
        if push is not None:
            scores += push
        drawn = torch.multinomial(processor(ids, scores).softmax(-1), 1, generator=dice)
        ids = torch.cat([ids, drawn], 1)
    for text, token in zip(processor.texts, ids[:, -1].tolist(), strict=True):
        text.take(token)
    return processor.texts, bill


def towards(vocabulary, wanted, weight=15.0):
    """Return what to add to scores so that pieces of a kind are drawn whenever they may be."""
    import torch

    return torch.tensor([weight if wanted(piece) else 0.0 for piece in vocabulary.pieces])


WISHES = {
    "anything": lambda piece: False,
    "never to end": lambda piece: piece != b"" and b"|" not in piece,
    "latin words": lambda piece: piece.strip()[:1].isalpha(),
    "half letters": lambda piece: len(piece) == 1 and piece[0] > 127,
    "spaces and marks": lambda piece: piece.strip() in (b"", b".", b"(", b"1") and piece != b"",
    "many short rows": lambda piece: b"|" in piece,
}


@pytest.mark.parametrize("wish", WISHES)
@pytest.mark.parametrize("room", [0, 1, 7, 40, 400])
def test_every_table_is_valid_and_ends_within_the_limit(vocabulary, wish, room):
    texts, _ = write(vocabulary, least(vocabulary) + room, towards(vocabulary, WISHES[wish]), seed=room)
    for text in texts:
        assert text.done and check(text.text.decode()).problems == [], text.text.decode("utf-8", "replace")


def test_a_limit_that_holds_no_table_is_told_with_the_one_that_does(vocabulary):
    needed = least(vocabulary)
    with pytest.raises(ConstraintError, match=f"{needed - 1} new tokens hold no table.* takes {needed}. Set decoding"):
        table_processors(vocabulary, GRAMMARS, needed - 1, Bill())


def test_without_pressure_nothing_is_steered_and_rows_come_freely(vocabulary):
    """Steering is for the last tokens only: a model that ends by itself must not notice it."""
    push = towards(vocabulary, lambda piece: b"|" in piece, weight=8.0)
    push[vocabulary.ends] = 4.0
    rows: Counter[int] = Counter()
    for seed in range(6):
        texts, bill = write(vocabulary, 4000, push, seed)
        rows.update(text.text.count(b"\n") - 1 for text in texts)
        assert bill.steered == 0
    assert min(rows) >= 3 and max(rows) <= 16 and len(rows) > 2


def test_the_bill_counts_what_was_struck_out(vocabulary):
    import torch

    bill = Bill()
    (processor,) = table_processors(vocabulary, GRAMMARS[:1], 400, bill)
    even = torch.zeros((1, len(vocabulary.pieces)))
    masked = processor(torch.zeros((1, 3), dtype=torch.long), even)
    allowed = int(torch.isfinite(masked).sum())
    assert allowed < len(vocabulary.pieces)
    assert bill.nats == pytest.approx(torch.log(torch.tensor(len(vocabulary.pieces) / allowed)).item(), abs=1e-4)
    assert bill.tokens == 1 and bill.seconds > 0
    assert bill.figures()["nats_given_up_per_token"] == pytest.approx(bill.nats, abs=1e-4)
    assert Bill().figures()["grammar_ms_per_token"] == 0.0


def test_after_its_end_a_text_may_only_be_padded(vocabulary):
    import torch

    (processor,) = table_processors(vocabulary, GRAMMARS[:1], 400, Bill())
    text = processor.texts[0]
    for byte_token in vocabulary.engine.tokenize_str(HEADER + "\n| ক | খ |" * 3):
        text.take(byte_token)
    assert text.allowed(300)[vocabulary.ends].all()
    text.take(vocabulary.ends[0])
    text.take(0)  # padding is no fault
    assert text.done and text.allowed(300).nonzero()[0].tolist() == vocabulary.ends
    scores = processor(torch.zeros((1, 3), dtype=torch.long), torch.zeros((1, len(vocabulary.pieces))))
    assert torch.isfinite(scores).sum() == 1


def test_a_token_that_breaks_the_grammar_is_an_error_and_not_a_broken_table(vocabulary):
    text = TableText(vocabulary, GRAMMARS[0], 6)
    with pytest.raises(ConstraintError, match="breaks the grammar"):
        text.take(vocabulary.pieces.index(b"z"))


def test_a_grammar_of_no_table_is_kept_without_steering_and_ends_where_it_may(vocabulary):
    """The steering counts strokes: JSON has none, and was taken for a table whose header never came."""
    import torch

    grammar = Grammar('start: "{" /[a-c]{1,20}/ "}"\n', "")
    make = grammar_processors(vocabulary, [grammar] * 3, 60, Bill())
    (processor,) = make(0, 3)
    ids, torch_seed = torch.zeros((3, 2), dtype=torch.long), torch.Generator().manual_seed(1)
    for _ in range(60):
        scores = processor(ids, torch.rand((3, len(vocabulary.pieces)), generator=torch_seed))
        ids = torch.cat([ids, scores.argmax(1, keepdim=True)], 1)
    written = [b"".join(vocabulary.pieces[token] for token in row[2:].tolist()).decode() for row in ids]
    assert all(re.fullmatch(r"\{[a-c]{1,20}\}", text) for text in written)
    assert processor.bill.steered == 0 and all(text.done for text in processor.texts)


def test_a_tokenizer_read_wrongly_is_refused(make_tokenizer):
    """A lower-casing tokenizer writes other text than the grammar allowed: nothing would say so later."""
    from tokenizers import normalizers

    other = make_tokenizer()
    steps = [normalizers.Lowercase(), normalizers.Replace(" ", "▁")]
    other.backend_tokenizer.normalizer = normalizers.Sequence(steps)
    with pytest.raises(ConstraintError, match="reads the pieces of this tokenizer wrongly"):
        read_vocabulary(other, {other.eos_token_id}, len(other))


# --- with a model


@pytest.fixture(scope="module")
def briefs():
    from lekhai_helpers.prepare.dataset import Brief

    long = "একটি বিজ্ঞাপন লিখুন, মা আর মেয়ে রং নিয়ে কথা বলেন, শেষে হাসি।"
    return [Brief(f"b{n}", "রং", "উষ্ণ", 30, "রং", "রং", prompt) for n, prompt in enumerate([*ASKED, long])]


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_an_untrained_model_writes_valid_tables_only(tiny, settings, briefs, temperature):
    """Five briefs of unequal length in batches of two: each text is held to the grammar of its own brief."""
    from lekhai_helpers.learn.model import load_model
    from lekhai_helpers.measure.evaluation import model_writer, text_perplexity, write_scripts

    decoding = {"max_new_tokens": 200, "batch_size": 2, "temperature": temperature}
    ours = settings.model_copy(update={"decoding": settings.decoding.model_copy(update=decoding)})
    model, tokenizer = load_model(tiny, ours)
    bill = Bill()
    writer = model_writer(model, tokenizer, ours, bill)
    free = write_scripts(writer, briefs, ours, [1])
    assert not any(row["ok"] for row in free) and bill.tokens == 0
    held = write_scripts(writer, briefs, ours, [1], constrained=True)
    assert [(row["problems"], row["stopped"]) for row in held] == [([], True)] * len(briefs)
    assert bill.nats > 0 and bill.tokens >= sum(row["tokens"] for row in held)
    assert bill.figures()["grammar_preparing_seconds"] > 0
    words = {word for row in held for word in ("witty", "spoken") if word in row["text"]}
    assert not words & {word for word in ("witty", "spoken") if word in held[0]["text"] + held[4]["text"]}
    assert text_perplexity(model, tokenizer, held, ours) > 1
    nothing = text_perplexity(model, tokenizer, [row | {"text": ""} for row in held], ours)
    assert nothing != nothing


def test_a_writer_reads_the_dictionary_once_and_puts_the_time_on_the_bill(tiny, settings, briefs, monkeypatch):
    """A dictionary of 256,000 words takes seconds to read: not again at every write, and not for nothing."""
    import time

    from lekhai_helpers.learn import constrained
    from lekhai_helpers.learn.model import load_model
    from lekhai_helpers.measure.evaluation import model_writer, write_scripts

    calls = []

    def slowly(*given):
        calls.append(given)
        time.sleep(0.5)
        return read_vocabulary(*given)

    monkeypatch.setattr(constrained, "read_vocabulary", slowly)
    ours = settings.model_copy(update={"decoding": settings.decoding.model_copy(update={"max_new_tokens": 200})})
    bill = Bill()
    writer = model_writer(*load_model(tiny, ours), ours, bill)
    write_scripts(writer, briefs[:1], ours, [1])
    assert calls == [] and bill.preparing == 0
    write_scripts(writer, briefs[:1], ours, [1, 2], constrained=True)
    write_scripts(writer, briefs[1:2], ours, [1], constrained=True)
    assert len(calls) == 1 and bill.preparing > 0.5
    assert bill.seconds / bill.tokens < 0.5


def test_llama_cpp_keeps_the_same_grammar(tiny, settings, briefs, tmp_path):
    """llama.cpp reads the GBNF itself; what it writes is held against the other language of the same grammar."""
    from llguidance import LLMatcher
    from transformers import AutoTokenizer

    from lekhai_helpers.measure.evaluation import brief_grammar, write_scripts
    from lekhai_helpers.ship.quantize import LlamaServer, QuantizeError, convert_to_gguf

    folder = shutil.copytree(tiny, tmp_path / "model")
    f16 = convert_to_gguf(folder, tmp_path / "tiny.gguf")
    decoding = settings.decoding.model_copy(update={"max_new_tokens": 900, "temperature": 1.0})
    with LlamaServer(f16, context=1024, slots=2, threads=1) as server:
        free = write_scripts(server.writer(decoding), briefs, settings, [1])
        held = write_scripts(server.writer(decoding), briefs, settings, [1, 2], constrained=True)
        with pytest.raises(QuantizeError, match="answered 400 on /completion: .*grammar"):
            server.complete("ক", decoding, 1, grammar="root ::= [")
    assert not any(row["text"].startswith(HEADER) for row in free)
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    engine = read_vocabulary(tokenizer, {tokenizer.eos_token_id}, len(tokenizer)).engine
    for row, brief in zip(held, briefs * 2, strict=True):
        matcher = LLMatcher(engine, LLMatcher.grammar_from_lark(brief_grammar(brief, settings).lark))
        ids = engine.tokenize_str(row["text"].rstrip("\ufffd"))  # the limit may cut a letter in half
        assert matcher.validate_tokens(ids) == len(ids) and row["text"].startswith(HEADER + "\n| ")
        assert row["ok"] == row["stopped"]
    assert any(row["ok"] for row in held)
