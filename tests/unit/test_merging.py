"""mergekit gets the configuration that was meant, and the repair after it puts back what is lost."""

import json
from pathlib import Path

import pytest

from lekhai_helpers.core.recipe import resolve
from lekhai_helpers.core.run_folder import write_json, write_text
from lekhai_helpers.prepare.merge_repair import repair_merge
from lekhai_helpers.prepare.merging import (
    FROM_A_BASE,
    MergeError,
    delete_models,
    exact_ends,
    linked_copy,
    local_folder,
    merge_config,
    run_merge,
)

MERGE = resolve("lekhai", "smoke").merge
CONFIG = {"architectures": ["Gemma3ForCausalLM"], "vocab_size": 34_385, "hidden_size": 8, "eos_token_id": 1}


def merge_with(**changes):
    return MERGE.model_copy(update=changes)


def test_mergekit_gets_absolute_folders_and_hub_ids_as_they_are(tmp_path, monkeypatch):
    """A hub id made absolute is a folder that does not exist: no profile with ready donors could merge."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "language").mkdir()
    config = merge_config("slerp", Path("language"), "google/gemma-3-1b-it", None, 0.25, MERGE)
    assert config["base_model"] == str(tmp_path / "language")
    assert config["models"] == [{"model": str(tmp_path / "language")}, {"model": "google/gemma-3-1b-it"}]
    assert config["parameters"] == {"t": 0.25} and config["tokenizer"] == {"source": "base"}


def test_slerp_takes_a_share_by_module_and_t_for_the_rest():
    merge = merge_with(t_by_module={"self_attn": [0.0, 1.0], "mlp": [1.0, 0.0]})
    shares = merge_config("slerp", "a/x", "a/y", None, 0.5, merge)["parameters"]["t"]
    assert shares == [
        {"filter": "self_attn", "value": [0.0, 1.0]},
        {"filter": "mlp", "value": [1.0, 0.0]},
        {"value": 0.5},
    ]


def test_the_share_of_whole_layers_stands_behind_those_of_modules():
    """mergekit takes the first filter that fits, and "layers" fits every module of a layer."""
    merge = merge_with(t_by_module={"layers": [0.0, 1.0], "mlp": [0.5]})
    shares = merge_config("slerp", "a/x", "a/y", None, 0.25, merge)["parameters"]["t"]
    assert [share.get("filter") for share in shares] == ["mlp", "layers", None] and shares[2]["value"] == 0.25


@pytest.mark.parametrize("method", ["slerp", "linear"])
def test_the_ends_of_a_plain_sweep_must_be_the_donors(method):
    merge = merge_with(method=method, t=[0.0, 0.5, 1.0])
    assert exact_ends(merge, alike=True) == {"0": "language donor", "1": "structure donor"}
    assert exact_ends(merge_with(method=method, t=[0.5, 1.0]), alike=True) == {"1": "structure donor"}
    assert exact_ends(merge, alike=False) == {}


@pytest.mark.parametrize("method", [*FROM_A_BASE, "none"])
def test_no_end_is_promised_where_no_method_keeps_it(method):
    assert exact_ends(merge_with(method=method, t=[0.0, 1.0]), alike=True) == {}


def test_with_a_share_by_module_t_zero_is_no_donor():
    """A test that fails on a right merge would send its reader looking for a fault that is not there."""
    sweep = {"t": [0.0, 1.0], "t_by_module": {"mlp": [0.5]}}
    assert exact_ends(merge_with(method="slerp", **sweep), alike=True) == {}
    assert len(exact_ends(merge_with(method="linear", **sweep), alike=True)) == 2


def test_only_what_lies_in_the_folder_and_is_not_to_be_kept_is_deleted(tmp_path, monkeypatch):
    """A ready donor of the user's, or a hub id that happens to name a folder here, must never be deleted."""
    monkeypatch.chdir(tmp_path)
    inside, mine, hub = tmp_path / "run", tmp_path / "mine", Path("some") / "model"
    models = [inside / "merge_t0.5", inside / "merge_t1", mine, hub]
    for folder in models:
        folder.mkdir(parents=True)
        write_text(folder / "config.json", "{}")
    delete_models(map(str, models), inside, keep=[str(models[1])])
    assert [folder.exists() for folder in models] == [False, True, True, True]
    delete_models(models, inside, keep=[models[1]])  # what is gone already is no error
    assert models[1].exists()


@pytest.mark.parametrize("method", ["linear", *FROM_A_BASE])
def test_in_every_method_t_is_the_share_of_the_structure_donor(method):
    config = merge_config(method, "a/language", "a/structure", "a/base", 0.25, MERGE)
    weights = {entry["model"]: entry["parameters"]["weight"] for entry in config["models"]}
    assert weights == {"a/language": 0.75, "a/structure": 0.25}
    assert config["base_model"] == ("a/base" if method in FROM_A_BASE else "a/language")
    sparse = ["density" in entry["parameters"] for entry in config["models"]]
    assert sparse == [method in ("ties", "dare_ties", "dare_linear")] * 2


@pytest.mark.parametrize("method", FROM_A_BASE)
def test_with_a_base_the_dictionary_is_still_the_language_donors(method):
    """`source: base` would be the common base's, and every Bengali piece the donor was given is lost."""
    config = merge_config(method, "a/language", "a/structure", "a/base", 0.25, MERGE)
    assert config["tokenizer"] == {"source": "a/language"}


@pytest.mark.parametrize("method", FROM_A_BASE)
def test_a_method_without_its_base_is_refused(method):
    with pytest.raises(MergeError, match=f"{method} needs the donors' common base"):
        merge_config(method, "a/x", "a/y", None, 0.5, MERGE)


def test_no_merge_has_no_configuration():
    with pytest.raises(MergeError, match="'none': it makes no merge"):
        merge_config("none", "a/x", "a/y", None, 0.5, MERGE)


def test_a_union_names_the_source_of_what_only_one_donor_knows():
    merge = merge_with(tokenizer="union")
    tokens = {"মা": "a/language", "cat": "a/structure"}
    config = merge_config("slerp", "a/language", "a/structure", None, 0.5, merge, tokens)
    assert config["tokenizer"] == {
        "source": "union",
        "tokens": {"মা": {"source": "a/language"}, "cat": {"source": "a/structure"}},
    }
    assert merge_config("slerp", "a/x", "a/y", None, 0.5, merge)["tokenizer"] == {"source": "union"}


def test_a_union_in_the_order_of_a_common_base_is_refused():
    """Its ids would be the base's; measured: every Bengali piece the language donor had learned moved."""
    with pytest.raises(MergeError, match="every id of the language donor would change"):
        merge_config("ties", "a/language", "a/structure", "a/base", 0.5, merge_with(tokenizer="union"))


def test_pieces_without_a_row_are_refused_before_mergekit_fails_on_them(tmp_path):
    """mergekit's own word for it is a bare `KeyError: 402`, after minutes."""
    donor = model_folder(tmp_path / "donor", config=CONFIG | {"vocab_size": 5})
    config = merge_config("slerp", donor, donor, None, 0.5, merge_with(tokenizer="union"))
    with pytest.raises(MergeError, match="donor lists 6 pieces and has 5 rows"):
        run_merge(config, tmp_path / "merged", donor)


def test_a_linked_copy_can_be_written_to_and_leaves_the_model_alone(tmp_path):
    donor = model_folder(tmp_path / "donor")
    copy = linked_copy(local_folder(donor), tmp_path / "copy")
    (copy / "tokenizer.model").write_bytes(b"more")
    assert (copy / "config.json").read_text() == (donor / "config.json").read_text()
    assert not (donor / "tokenizer.model").exists()


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
    assert len(repaired) == 3 and "eos_token_id set back to [1, 106]" in repaired[1]


def template_in_config(folder, template):
    """Keep the chat template where models kept it before chat_template.jinja came."""
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    file = folder / "tokenizer_config.json"
    write_json(file, json.loads(file.read_text()) | ({"chat_template": template} if template else {}))


@pytest.mark.parametrize("theirs", [{}, {"chat_template__jinja": "{{ theirs }}"}], ids=["none", "another"])
@pytest.mark.parametrize("ours", ["{{ ours }}", None])
def test_a_template_kept_in_the_tokenizers_config_is_the_language_donors_too(donor, tmp_path, ours, theirs):
    """Only chat_template.jinja compared: a donor without that file leaves the merge with the wrong template or none."""
    from transformers import AutoTokenizer

    template_in_config(donor, ours)
    merged = model_folder(tmp_path / "merged", **theirs)
    repaired = repair_merge(donor, merged)
    assert AutoTokenizer.from_pretrained(merged).chat_template == ours
    assert ("chat template set to the language donor's" in repaired) == bool(ours or theirs)
    assert repair_merge(donor, merged) == []


def test_a_whole_merge_needs_no_repair(donor, tmp_path):
    merged = model_folder(tmp_path / "merged")
    repair_merge(donor, merged)
    assert repair_merge(donor, merged) == []


def test_a_changed_dictionary_is_refused(donor, tmp_path):
    merged = model_folder(tmp_path / "merged", pieces=[*PIECES[:4], "খ", "ক"])
    with pytest.raises(MergeError, match="changed the dictionary: 2 pieces"):
        repair_merge(donor, merged)


def test_a_lost_piece_is_refused_and_a_new_one_behind_the_others_is_not(donor, tmp_path):
    repair_merge(donor, model_folder(tmp_path / "union", pieces=[*PIECES, "গ"]))
    with pytest.raises(MergeError, match="1 pieces of the language donor are gone .* 'খ' among them"):
        repair_merge(donor, model_folder(tmp_path / "less", pieces=PIECES[:-1]))


def test_the_number_of_rows_is_read_from_the_weights_and_set_right(donor, tmp_path):
    """A vocab_size that the embedding does not have makes the model fail to load, or read past its rows."""
    import numpy
    from safetensors.numpy import save_file

    merged = model_folder(tmp_path / "merged", config=CONFIG | {"vocab_size": 99})
    save_file({"model.embed_tokens.weight": numpy.zeros((7, 2), "float32")}, merged / "model.safetensors")
    assert "config.json: vocab_size set to the 7 rows the model has" in repair_merge(donor, merged)
    assert json.loads((merged / "config.json").read_text())["vocab_size"] == 7


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
    write_json(donor / "config.json", CONFIG | {"vocab_size": len(PIECES)})
    repair_merge(donor, model_folder(tmp_path / "merged", config=CONFIG | {"vocab_size": len(PIECES)}))
