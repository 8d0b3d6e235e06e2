"""Two donors whose dictionaries really differ: one learned Bengali pieces of the ad scripts, the other never did."""

import csv
import json
import subprocess
import sys
from types import SimpleNamespace

import pytest

from lekhai_helpers.core.recipe import data_file
from lekhai_helpers.prepare import tokenizer_sync as sync
from lekhai_helpers.prepare.merging import MergeError, linked_copy, merge_config, run_merge

NEW_PIECES = 150


def scripts() -> list[str]:
    with data_file("Ad Script Dataset - Scripts.csv").open(encoding="utf-8-sig") as file:
        return [row["script"] for row in csv.DictReader(file) if row["script"]]


def extended(tokenizer, texts: list[str]):
    """Return a copy of a byte-fallback BPE tokenizer that has learned the commonest Bengali pieces of `texts`."""
    from tokenizers import Tokenizer, models, trainers
    from transformers import PreTrainedTokenizerFast

    spec = json.loads(tokenizer.backend_tokenizer.to_str())
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = tokenizer.backend_tokenizer.pre_tokenizer
    learner.normalizer = tokenizer.backend_tokenizer.normalizer
    trainer = trainers.BpeTrainer(vocab_size=NEW_PIECES, show_progress=False)
    learner.train_from_iterator(texts, trainer)
    learned = json.loads(learner.to_str())["model"]
    vocabulary = spec["model"]["vocab"]
    for piece in sorted(learned["vocab"], key=learned["vocab"].get):
        vocabulary.setdefault(piece, len(vocabulary))
    spec["model"]["merges"] += [pair for pair in learned["merges"] if pair not in spec["model"]["merges"]]
    special = {role: getattr(tokenizer, role) for role in ("bos_token", "eos_token", "pad_token", "unk_token")}
    larger = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(spec)), **special)
    larger.chat_template = tokenizer.chat_template
    return larger


@pytest.fixture(scope="module")
def small(make_tokenizer):
    return make_tokenizer(330)


@pytest.fixture(scope="module")
def large(small):
    return extended(small, scripts())


@pytest.fixture(scope="module")
def donors(write_model, small, large, tmp_path_factory):
    """The language donor knows the ads' Bengali pieces, the structure donor does not."""
    folder = tmp_path_factory.mktemp("donors")
    return write_model(folder / "language", 1, large), write_model(folder / "structure", 2, small)


@pytest.fixture(scope="module")
def union(settings):
    return settings.merge.model_copy(update={"tokenizer": "union"})


def loaded(folder):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def rows(folder):
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")["model.embed_tokens.weight"].float()


def test_the_learned_pieces_make_bengali_cheaper(small, large):
    texts = scripts()[:5]
    assert len(large) > len(small) + 50 and not sync.read_alike(small, large)
    assert sync.tokens_per_word(large, texts) < 0.75 * sync.tokens_per_word(small, texts)
    assert all(large.decode(large(text, add_special_tokens=False).input_ids) == text for text in texts)
    table = sync.sync_table({"small": small, "large": large}, texts)
    assert table.loc["large", "bengali pieces"] > table.loc["small", "bengali pieces"] + 50


def test_donors_read_alike_only_with_the_same_pieces_ends_and_template(small):
    """With another chat template the same weights sit another exam, and t = 1 is not the structure donor's figure."""
    from copy import deepcopy

    other, ends = deepcopy(small), deepcopy(small)
    assert sync.read_alike(small, other)
    other.chat_template = small.chat_template + " "
    ends.eos_token = ends.pad_token
    assert not sync.read_alike(small, other) and not sync.read_alike(small, ends)


def test_without_a_word_there_is_nothing_to_count(small):
    with pytest.raises(MergeError, match="no word"):
        sync.tokens_per_word(small, ["...", ""])


def test_lost_and_moved_pieces_are_counted_and_shown_first(small, large):
    lost = sync.survival(large, small)
    assert lost.kept == lost.same_id < len(lost.pieces)
    assert f"{lost.kept} of {len(lost.pieces)} Bengali pieces survive" in lost.sentence
    assert lost.table(3)["id after"].isna().all() and len(lost.table(3)) == 3
    pieces = list(lost.pieces)[:3]
    vocabulary = {piece: lost.pieces[piece][0] for piece in pieces}
    moved = SimpleNamespace(get_vocab=lambda: vocabulary | {pieces[0]: 9, pieces[1]: 8})
    after = sync.survival(large, moved)
    assert (after.kept, after.same_id) == (3, 1)


def test_bengali_pieces_of_a_byte_level_dictionary_are_seen():
    """Qwen and Llama spell their pieces in an alphabet of bytes: none of them looks Bengali."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=320, initial_alphabet=alphabet, show_progress=False)
    core.train_from_iterator(["মা মা মাটি", "cat cat"] * 5, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core)
    pieces = sync.survival(tokenizer, tokenizer).pieces
    assert pieces and not any("ম" in piece for piece in pieces)


@pytest.fixture(scope="module")
def united(donors, union, small, large, tmp_path_factory):
    """The union of both, from the language donor's side."""
    language, structure = donors
    sources = sync.token_sources(large, small, str(language), str(structure))
    config = merge_config("slerp", language, structure, None, 0.5, union, sources)
    return run_merge(config, tmp_path_factory.mktemp("united") / "merged", language)


def test_in_a_union_every_bengali_piece_survives_under_its_id(united, large):
    after = loaded(united)
    kept = sync.survival(large, after)
    assert kept.kept == kept.same_id == len(kept.pieces) > 100
    assert sync.tokens_per_word(after, scripts()[:5]) == sync.tokens_per_word(large, scripts()[:5])
    config = json.loads((united / "config.json").read_text())
    assert config["vocab_size"] == len(rows(united)) == len(large) and config["eos_token_id"] == 1
    assert (united / "generation_config.json").exists() and after.chat_template == large.chat_template


def test_a_piece_only_one_donor_knows_takes_that_donors_row(united, donors, union, small, large, tmp_path):
    """A mean of two rows of which one means something else is a word nobody has ever trained.

    SLERP turns the table as a whole, so it keeps the row's direction and stretches it a little; linear keeps it all.
    """
    import torch

    language, structure = donors
    only = [number for piece, number in large.get_vocab().items() if piece not in small.get_vocab()]
    assert len(only) > 50
    own, turned = rows(language)[only], rows(united)[only]
    assert float(torch.cosine_similarity(own, turned).min()) > 0.999
    assert 1.0 <= float(turned.norm() / own.norm()) < 1.45
    sources = sync.token_sources(large, small, str(language), str(structure))
    config = merge_config("linear", language, structure, None, 0.5, union, sources)
    linear = rows(run_merge(config, tmp_path / "merged", language))[only]
    torch.testing.assert_close(linear, own, rtol=0.008, atol=1e-6)


def test_a_union_from_the_other_side_appends_the_new_pieces(donors, union, small, large, tmp_path):
    """With the smaller dictionary first the Bengali pieces come behind it, under other ids."""
    language, structure = donors
    sources = sync.token_sources(small, large, str(structure), str(language))
    config = merge_config("slerp", structure, language, None, 0.5, union, sources)
    merged = run_merge(config, tmp_path / "merged", structure)
    kept = sync.survival(large, loaded(merged))
    assert kept.kept == len(kept.pieces) and len(rows(merged)) == len(large)


def test_without_a_union_the_smaller_dictionary_loses_the_bengali_pieces(donors, settings, large, tmp_path):
    language, structure = donors
    merged = run_merge(merge_config("slerp", structure, language, None, 0.5, settings.merge), tmp_path / "m", structure)
    kept = sync.survival(large, loaded(merged))
    assert kept.kept < len(kept.pieces)
    assert sync.tokens_per_word(loaded(merged), scripts()[:5]) > sync.tokens_per_word(large, scripts()[:5])


def test_with_a_smaller_common_base_the_language_donors_pieces_stay(donors, settings, small, large, tmp_path):
    """The base never had these pieces: in its dictionary they would be gone, and Bengali dear again."""
    import torch

    language, structure = donors
    config = merge_config("task_arithmetic", language, structure, structure, 0.5, settings.merge)
    merged = run_merge(config, tmp_path / "merged", language)
    kept = sync.survival(large, loaded(merged))
    assert kept.same_id == len(kept.pieces)
    only = [number for piece, number in large.get_vocab().items() if piece not in small.get_vocab()]
    torch.testing.assert_close(rows(merged)[only], rows(language)[only], rtol=0.02, atol=4e-3)


def test_the_sentences_say_what_differs_and_offer_surgery_where_it_applies(small, large):
    assert "nothing to unite" in sync.union_sentence(small, small)
    new = len(large) - len(small)
    assert f"{new} only in the first, 0 only in the second" in sync.union_sentence(large, small)
    assert "no surgery needed" in sync.surgery_offer(small, large, "s", "l", "o")
    offer = sync.surgery_offer(large, small, "structure", "language", "out folder")
    assert f"{new} pieces are new" in offer and "'out folder'" in offer


def test_the_offered_command_runs_and_gives_the_structure_donor_the_dictionary(donors, large, tmp_path):
    """An offered command that no longer exists in the pinned mergekit is worse than none."""
    import shlex

    language, structure = donors
    _, *arguments = shlex.split(sync.tokensurgeon_command(str(structure), str(language), str(tmp_path / "out"), 8))
    command = [sys.executable, "-m", "mergekit.scripts.tokensurgeon", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-800:]
    assert loaded(tmp_path / "out").get_vocab() == large.get_vocab()
    assert len(rows(tmp_path / "out")) == len(large) and rows(tmp_path / "out").isfinite().all()


def test_a_merge_stops_where_its_donor_does_and_only_because_of_the_repair(donors, settings, prompts, tmp_path):
    """mergekit forgets all but one end token; a model that ended at another one then talks to the limit."""
    import shutil

    from lekhai_helpers.learn.model import generate, load_model

    greedy = settings.decoding.model_copy(update={"temperature": 0.0, "max_new_tokens": 24, "batch_size": 1})
    language = shutil.copytree(donors[0], tmp_path / "language")
    model, tokenizer = load_model(language, settings)
    five = [prompts[0]] * 5
    said = generate(model, tokenizer, five, greedy, 1)
    assert sync.stopped_share(said) == 0
    spoken = sorted(set(tokenizer(said[0].text[-8:], add_special_tokens=False).input_ids))
    for name in ("config.json", "generation_config.json"):
        content = json.loads((language / name).read_text()) | {"eos_token_id": [1, *spoken]}
        (language / name).write_text(json.dumps(content))
    config = merge_config("slerp", language, donors[1], None, 0.0, settings.merge)
    merged = run_merge(config, tmp_path / "merged", language)
    assert sync.must_stop(generate(*load_model(merged, settings), five, greedy, 1), at_least=5) == 5

    unrepaired = linked_copy(merged, tmp_path / "unrepaired")
    for name in ("config.json", "generation_config.json"):
        content = json.loads((merged / name).read_text()) | {"eos_token_id": 1}
        (unrepaired / name).unlink()
        (unrepaired / name).write_text(json.dumps(content))
    with pytest.raises(MergeError, match="only 0 of 5 answers end"):
        sync.must_stop(generate(*load_model(unrepaired, settings), five, greedy, 1), at_least=5)


@pytest.mark.parametrize(
    ("base_stops", "taught", "least", "words"),
    [
        (0, False, 0, "ends 0 of 5, so this exam excludes nobody here"),
        (1, False, 0, "ends 1 of 5, so this exam excludes nobody here"),
        (2, False, 1, "ends 2 of 5: a candidate must end at least 1"),
        (5, False, 4, "ends 5 of 5: a candidate must end at least 4"),
        (0, True, 5, "a candidate must end all 5"),
    ],
)
def test_who_must_end_how_many_answers_is_said_with_the_number(base_stops, taught, least, words):
    """A base that ends none once gave -1: a number nobody can fall below, and nothing said so."""
    number, sentence = sync.least_stops(base_stops, 5, taught)
    assert number == least and words in sentence
    answers = [SimpleNamespace(stopped=n < number) for n in range(5)]
    assert sync.must_stop(answers, number) == number
    if number:
        with pytest.raises(MergeError, match=f"only {number - 1} of 5"):
            sync.must_stop([SimpleNamespace(stopped=n < number - 1) for n in range(5)], number)


def test_the_conversion_texts_hold_what_goes_wrong_in_a_conversion():
    together = "".join(sync.CONVERSION_TEXTS)
    assert len(sync.CONVERSION_TEXTS) == 10 and all(part in together for part in ("|---|", "৳", "🙂", "taka", "20%"))


def test_a_converted_merge_cuts_the_texts_as_before_and_a_spoiled_one_does_not(united, tmp_path):
    from lekhai_helpers.ship.quantize import LlamaServer, convert_to_gguf, token_differences

    copy = linked_copy(united, tmp_path / "model")
    gguf = convert_to_gguf(copy, tmp_path / "merged-f16.gguf")
    assert not (united / "tokenizer.model").exists()
    tokenizer = loaded(united)
    with LlamaServer(gguf, context=256, slots=1, threads=1) as server:
        assert token_differences(server, tokenizer, sync.CONVERSION_TEXTS) == []
        tokenizer.add_tokens(["পরিবার"])
        assert token_differences(server, tokenizer, sync.CONVERSION_TEXTS) == [sync.CONVERSION_TEXTS[0]]
