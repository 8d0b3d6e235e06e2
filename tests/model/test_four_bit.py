"""The 4-bit export reloads to what was written; and what merging into 4-bit weights would lose, in numbers."""

import json
import math
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from lekhai_helpers.ship.errors import ExportError
from lekhai_helpers.ship.four_bit import save_4bit
from lekhai_helpers.ship.merge_loss import delta_survival, survival_sentence, survival_table

TEXTS = ["| Visual | Audio |\n|---|---|\n| ছবি ক | ভিও: কথা ক |", "রং নিয়ে ক লিখুন"]
EXPORT = "import sys; from lekhai_helpers.ship.four_bit import save_4bit; print('begun', flush=True); "
EXPORT += "from pathlib import Path; save_4bit(Path(sys.argv[1]), Path(sys.argv[2]), ['ক খ'])"


@pytest.fixture(scope="module")
def exported(engine, tiny, tmp_path_factory):
    return save_4bit(tiny, tmp_path_factory.mktemp("four") / "model-4bit", TEXTS)


def test_the_folder_reloads_to_what_was_written(exported):
    assert exported.changed < 1e-3 and exported.places >= 8
    assert 0 <= exported.distance < 1 and 0 < exported.same_next <= 1
    assert exported.size_mb < exported.sixteen_bit_mb and "MB instead of" in exported.sentence


def test_the_verdict_is_by_the_rule_of_the_files_and_on_several_texts(exported):
    """One script once stood for all, and 0.5 nats were printed without a word on whether that is much."""
    assert exported.texts == 2 and exported.perplexity > 1 and exported.sixteen_bit_perplexity > 1
    far, near = replace(exported, distance=0.5), replace(exported, distance=0.1)
    assert not far.holds and "By the rule of 0.1 nats it does not hold: use the 16-bit" in far.sentence
    assert near.holds and near.sentence.endswith("By the rule of 0.1 nats it holds.")


def test_the_perplexity_is_the_textbooks(tiny):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from lekhai_helpers.ship import four_bit

    model, tokenizer = AutoModelForCausalLM.from_pretrained(tiny), AutoTokenizer.from_pretrained(tiny)
    ids = tokenizer(TEXTS[0], add_special_tokens=False, return_tensors="pt").input_ids
    rows = model(ids).logits[0].log_softmax(-1)
    places = four_bit._places(ids.shape[1], 1)
    expected = -sum(float(rows[place, ids[0, place + 1]]) for place in places) / len(places)
    found = four_bit._perplexity(four_bit._predict(model, tokenizer, TEXTS[:1]), four_bit._following(tiny, TEXTS[:1]))
    assert found == pytest.approx(math.exp(expected), rel=0.02)
    assert places[0] == ids.shape[1] // 2 and places[-1] == ids.shape[1] - 2
    assert four_bit._places(400, 8) == list(range(200, 399, 7)) and four_bit._places(2, 1) == [0]


def test_its_weights_are_really_four_bits(exported):
    from safetensors import safe_open

    config = json.loads((exported.folder / "config.json").read_text())
    assert config["quantization_config"]["bnb_4bit_quant_type"] == "nf4"
    with safe_open(exported.folder / "model.safetensors", framework="pt") as tensors:
        packed = tensors.get_slice("model.layers.0.mlp.down_proj.weight")
        assert packed.get_dtype() == "U8" and packed.get_shape() == [64 * 128 // 2, 1]
    assert (exported.folder / "tokenizer.json").exists()
    assert [path.name for path in exported.folder.parent.iterdir()] == ["model-4bit"]


def test_a_folder_that_does_not_reload_is_thrown_away(engine, tiny, tmp_path, monkeypatch):
    """bitsandbytes of another version can write what it then reads otherwise."""
    from lekhai_helpers.ship import four_bit

    honest = four_bit._predictions
    monkeypatch.setattr(four_bit, "_predictions", lambda *args: [scores + 1 for scores in honest(*args)])
    with pytest.raises(ExportError, match="does not reload to what was written"):
        save_4bit(tiny, tmp_path / "model-4bit", TEXTS)
    assert list(tmp_path.iterdir()) == []


def test_a_quantised_source_and_missing_texts_are_refused(exported, tiny, tmp_path):
    with pytest.raises(ExportError, match="quantised already"):
        save_4bit(exported.folder, tmp_path / "again", TEXTS)
    with pytest.raises(ExportError, match="no texts"):
        save_4bit(tiny, tmp_path / "again", [])
    with pytest.raises(ExportError, match=r"holds no config\.json"):
        save_4bit(tmp_path, tmp_path / "again", TEXTS)


def test_killed_in_the_middle_it_leaves_nothing_under_its_name(tiny, tmp_path):
    """kill -9 while weights are on their way; the next export clears what is left."""
    target = tmp_path / "model-4bit"
    running = subprocess.Popen(
        [sys.executable, "-c", EXPORT, str(tiny), str(target)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    beside = tmp_path / "model-4bit.writing"
    deadline = time.monotonic() + 300
    while not beside.exists() and running.poll() is None and time.monotonic() < deadline:
        time.sleep(0.001)
    running.send_signal(signal.SIGKILL)
    running.communicate()
    assert not target.exists() and beside.exists()
    save_4bit(tiny, target, TEXTS[:1])
    assert [path.name for path in tmp_path.iterdir()] == ["model-4bit"]


# --- why never into 4-bit weights


@pytest.fixture(scope="module")
def adapter(tiny, tmp_path_factory):
    """A small LoRA change of every down projection, as training leaves them: small beside the weights."""
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("adapter")
    strips = {}
    for layer in range(2):
        name = f"base_model.model.model.layers.{layer}.mlp.down_proj"
        strips[f"{name}.lora_A.weight"] = torch.randn(4, 128) * 0.02
        strips[f"{name}.lora_B.weight"] = torch.randn(64, 4) * 0.002
    save_file(strips, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "use_rslora": False, "use_dora": False}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def test_a_small_change_survives_the_16_bit_merge_and_vanishes_in_the_4_bit_one(tiny, adapter):
    table = delta_survival(tiny, adapter)
    assert len(table) == 2 and (table["change"] < 0.1).all()
    assert (table["survives_16bit"] > 0.7).all() and (table["survives_4bit"] < 0.3).all()
    assert "is left when" in survival_sentence(table)
    ways = survival_table(table)
    assert ways.index[0] == "merged in 16 bits, not rounded" and ways["survives"].iloc[0] == pytest.approx(1, abs=0.1)
    assert ways["error"].iloc[0] < ways["error"].iloc[1] and ways["survives"].idxmin() == ways.index[2]
    assert len(delta_survival(tiny, adapter, layers=1)) == 1


def test_a_large_change_survives_both_ways(tiny, adapter, tmp_path):
    """It is the size against a step that decides, not the order alone."""
    big = shutil.copytree(adapter, tmp_path / "big")
    config = json.loads((big / "adapter_config.json").read_text())
    (big / "adapter_config.json").write_text(json.dumps(config | {"lora_alpha": 8000}))
    assert (delta_survival(tiny, big)["survives_4bit"] > 0.9).all()


def test_a_base_may_be_named_by_its_hub_id(tiny, adapter, monkeypatch):
    """Without a merge the base stays a hub id, which was taken for a folder without weights."""
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name, **_: {"google/gemma-2-2b-it": tiny}[name])
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda name, file: str(tiny / file))
    assert delta_survival("google/gemma-2-2b-it", adapter).equals(delta_survival(tiny, adapter))


def test_a_base_that_was_rounded_before_has_nothing_to_compare_with(exported, adapter):
    with pytest.raises(ExportError, match="were rounded before.*16-bit repository"):
        delta_survival(exported.folder, adapter)


def test_an_adapter_of_another_base_or_kind_is_refused(tiny, adapter, tmp_path):
    other = shutil.copytree(adapter, tmp_path / "other")
    config = json.loads((other / "adapter_config.json").read_text())
    (other / "adapter_config.json").write_text(json.dumps(config | {"use_dora": True}))
    with pytest.raises(ExportError, match="no plain LoRA"):
        delta_survival(tiny, other)
    with pytest.raises(ExportError, match=r"no adapter_config\.json"):
        delta_survival(tiny, tiny)
    with pytest.raises(ExportError, match="holds no weights"):
        delta_survival(tmp_path, adapter)
