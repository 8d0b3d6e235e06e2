"""The preflight finds what makes a merge impossible or silently useless, and the repair puts back what is lost."""

import json
from pathlib import Path

import pytest

from lekhai_helpers.core.recipe import resolve
from lekhai_helpers.core.run_folder import write_json, write_text
from lekhai_helpers.prepare.merging import (
    MergeError,
    blocks,
    check_mergeable,
    preflight_table,
    read_config,
    repair_merge,
    rope_bases,
    slerp_config,
)

CONFIG = {
    "architectures": ["Gemma3ForCausalLM"],
    "num_hidden_layers": 18,
    "hidden_size": 640,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "head_dim": 256,
    "intermediate_size": 2048,
    "vocab_size": 34_385,
    "rope_parameters": {"full_attention": {"rope_theta": 1e6}, "sliding_attention": {"rope_theta": 1e4}},
    "tie_word_embeddings": True,
    "dtype": "bfloat16",
    "eos_token_id": 1,
}


def found(second, first=CONFIG):
    """Return what the preflight finds: name of the check to its verdict, passes left out."""
    return {check.what: check.verdict for check in check_mergeable(first, second) if check.verdict != "pass"}


def test_two_children_of_one_base_pass_every_check():
    assert found(dict(CONFIG)) == {}
    assert blocks(check_mergeable(CONFIG, dict(CONFIG))) == []


@pytest.mark.parametrize(
    ("change", "what", "verdict"),
    [
        ({"architectures": ["Qwen2ForCausalLM"]}, "architectures", "block"),
        ({"num_hidden_layers": 26}, "num_hidden_layers", "block"),
        ({"hidden_size": 1152}, "hidden_size", "block"),
        ({"num_attention_heads": 8}, "num_attention_heads", "block"),
        ({"num_key_value_heads": 2}, "num_key_value_heads", "block"),
        ({"head_dim": 128}, "head_dim", "block"),
        ({"intermediate_size": 6912}, "intermediate_size", "block"),
        ({"rope_parameters": {"rope_theta": 1e4}}, "rope base", "block"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings", "block"),
        ({"quantization_config": {"quant_method": "bitsandbytes"}}, "already quantised", "block"),
        ({"vocab_size": 262_144}, "vocab_size", "warn"),
        ({"dtype": "float16"}, "dtype", "warn"),
    ],
)
def test_each_difference_is_found_alone_and_by_name(change, what, verdict):
    assert found(CONFIG | change) == {what: verdict}
    assert found(CONFIG, first=CONFIG | change) == {what: verdict}


def test_every_finding_has_a_consequence_in_words():
    checks = check_mergeable(CONFIG, CONFIG | {"hidden_size": 1152, "vocab_size": 9})
    assert blocks(checks) == ["hidden_size: 640 against 1152, so the tensors have different widths and cannot be added"]
    table = preflight_table(checks)
    assert len(table) == len(checks)
    assert (table["consequence"] != "").sum() == 2


def test_what_only_one_config_says_is_a_warning():
    """transformers leaves a value out of config.json where it is the default: that is no difference yet."""
    without = {key: value for key, value in CONFIG.items() if key != "tie_word_embeddings"}
    assert found(without) == {"tie_word_embeddings": "warn"}


def test_older_ways_to_write_the_same_config_are_no_difference():
    old = {key: value for key, value in CONFIG.items() if key not in ("rope_parameters", "dtype")}
    old |= {"rope_theta": 1e6, "rope_local_base_freq": 1e4, "torch_dtype": "bfloat16"}
    assert found(old) == {}
    assert found(old | {"torch_dtype": "float16"}) == {"dtype": "warn"}
    assert found(old | {"rope_local_base_freq": 5e4}) == {"rope base": "block"}


def test_the_text_part_of_a_larger_model_is_compared_too():
    """With its figures one level down both sides had none, and none equals none."""
    nested = {"architectures": ["Gemma3ForConditionalGeneration"], "text_config": {**CONFIG, "architectures": None}}
    assert found(nested, first=nested) == {}
    other = nested | {"text_config": nested["text_config"] | {"hidden_size": 2560}}
    assert found(other, first=nested) == {"hidden_size": "block"}


def test_rope_bases_in_every_spelling():
    assert rope_bases({"rope_theta": 5e5}) == {"all": 500_000.0}
    assert rope_bases({}) == {"all": 10_000.0}
    assert rope_bases(CONFIG) == {"full_attention": 1e6, "sliding_attention": 1e4}


def test_qwen_and_its_distillate_are_blocked_by_their_rope_base_alone():
    """Equal shapes: mergekit merges these two without a word, into a model that speaks garbage."""
    pair = ("deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", "Qwen/Qwen2.5-7B-Instruct")
    assert found(*(read_config(name, recorded=True) for name in pair)) == {"rope base": "block"}


def test_the_plans_own_pair_is_blocked_for_several_reasons():
    pair = resolve("lekhai", "smoke").merge.pairs["the plan's pair"]
    reasons = blocks(check_mergeable(*(read_config(name, recorded=True) for name in pair)))
    assert len(reasons) >= 4 and reasons[0].startswith("architectures")


def test_a_config_is_read_from_a_folder(tmp_path):
    write_json(tmp_path / "config.json", CONFIG)
    assert read_config(tmp_path) == read_config(str(tmp_path)) == json.loads(json.dumps(CONFIG))


def test_mergekit_gets_absolute_folders_and_hub_ids_as_they_are(tmp_path, monkeypatch):
    """A hub id made absolute is a folder that does not exist: no profile with ready donors could merge."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "language").mkdir()
    config = slerp_config(Path("language"), Path("google/gemma-3-1b-it"), 0.25)
    assert config["base_model"] == str(tmp_path / "language")
    assert config["models"] == [{"model": str(tmp_path / "language")}, {"model": "google/gemma-3-1b-it"}]
    assert config["parameters"] == {"t": 0.25} and config["tokenizer"] == {"source": "base"}


# --- the repair


PIECES = ["<pad>", "<eos>", "<bos>", "<unk>", "ক", "খ"]


def model_folder(folder, pieces=PIECES, config=CONFIG, end="<eos>", **files):
    """Write a folder with everything a model has but its weights."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE({piece: number for number, piece in enumerate(pieces)}, [], unk_token="<unk>"))
    PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<bos>", eos_token=end, pad_token="<pad>", unk_token="<unk>"
    ).save_pretrained(folder)
    write_json(folder / "config.json", config)
    for name, text in files.items():
        write_text(folder / name.replace("__", "."), text)
    return folder


@pytest.fixture
def donor(tmp_path):
    files = {"generation_config__json": '{"eos_token_id": [1, 106]}', "chat_template__jinja": "{{ ours }}"}
    return model_folder(tmp_path / "donor", config=CONFIG | {"eos_token_id": [1, 106]}, **files)


def test_what_mergekit_leaves_out_is_put_back(donor, tmp_path):
    """Without its list of end tokens a merged model never stops."""
    merged = model_folder(tmp_path / "merged", chat_template__jinja="{{ theirs }}")
    repaired = repair_merge(donor, merged)
    assert json.loads((merged / "generation_config.json").read_text())["eos_token_id"] == [1, 106]
    assert (merged / "chat_template.jinja").read_text() == "{{ ours }}"
    assert json.loads((merged / "config.json").read_text()) == CONFIG | {"eos_token_id": [1, 106]}
    assert len(repaired) == 3 and "eos_token_id set back to [1, 106]" in repaired[2]


def test_a_whole_merge_needs_no_repair(donor, tmp_path):
    merged = model_folder(tmp_path / "merged")
    repair_merge(donor, merged)
    assert repair_merge(donor, merged) == []


def test_a_changed_dictionary_is_refused(donor, tmp_path):
    merged = model_folder(tmp_path / "merged", pieces=[*PIECES[:4], "খ", "ক"])
    with pytest.raises(MergeError, match="changed the dictionary"):
        repair_merge(donor, merged)


def test_another_end_token_is_refused(donor, tmp_path):
    merged = model_folder(tmp_path / "merged", end="<unk>")
    with pytest.raises(MergeError, match="the token that ends a text"):
        repair_merge(donor, merged)


def test_more_pieces_than_rows_are_refused(donor, tmp_path):
    """mergekit itself fails on this with a bare KeyError, or not at all."""
    merged = model_folder(tmp_path / "merged", config=CONFIG | {"vocab_size": 5})
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(merged)
    tokenizer.add_tokens(["one more", "and another"])
    tokenizer.save_pretrained(merged)
    with pytest.raises(MergeError, match="8 pieces but the model 5 rows"):
        repair_merge(donor, merged)


def test_a_donors_piece_without_a_row_may_be_left_out(donor, tmp_path):
    """Gemma 3 lists a picture's placeholder its text model has no row for; mergekit drops it, and that is right."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(donor)
    tokenizer.add_tokens(["<picture>"])
    tokenizer.save_pretrained(donor)
    repair_merge(donor, model_folder(tmp_path / "merged", config=CONFIG | {"vocab_size": len(PIECES)}))
