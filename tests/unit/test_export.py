"""Export: nothing half-written under a final name, a card that is true, and nothing sent that should stay here."""

import json
import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy
import pytest
import yaml
from safetensors.numpy import save_file

from lekhai_helpers.core.ledger import Ledger
from lekhai_helpers.core.recipe import resolve
from lekhai_helpers.core.run_folder import write_text
from lekhai_helpers.prepare.contracts import words_of
from lekhai_helpers.ship import export
from lekhai_helpers.ship.export import ExportError

TOKEN = "hf_" + "x" * 34


class FakeTokenizer:
    def save_pretrained(self, folder: str) -> None:
        Path(folder, "tokenizer_config.json").write_text("{}")


class FakeModel:
    """Writes what Unsloth and PEFT write, without being a model."""

    peft_config = {"default": object()}

    def __init__(self, kind=numpy.float16, fail: bool = False, base: str = "somebody/model") -> None:
        self.kind, self.fail = kind, fail
        self.config = SimpleNamespace(_name_or_path=base)

    def named_parameters(self):
        yield "layer.weight", SimpleNamespace(shape=(1000, 500))
        packed = SimpleNamespace(shape=(250_000, 1), quant_state=SimpleNamespace(shape=(1000, 500)))
        yield "four_bit.weight", packed
        yield "layer.lora_A.default.weight", SimpleNamespace(shape=(16, 500))

    def save_pretrained(self, folder: str, selected_adapters: list[str]) -> None:
        assert selected_adapters == ["default"]
        Path(folder, "README.md").write_text("base_model: /home/rahima/base")
        Path(folder, "adapter_config.json").write_text("{}")
        save_file({"a": numpy.zeros(4, numpy.float32)}, Path(folder, "adapter_model.safetensors"))

    def save_pretrained_merged(self, folder: str, tokenizer, save_method: str) -> None:
        assert save_method == "merged_16bit"
        print("Detected local model directory: /home/rahima/base")
        save_file({"w": numpy.zeros((8, 8), self.kind)}, Path(folder, "model.safetensors"))
        if self.fail:
            raise OSError("disk full")
        tokenizer.save_pretrained(folder)
        for name in ("config.json", "generation_config.json"):
            Path(folder, name).write_text("{}")


@pytest.fixture
def ledger(tmp_path):
    path = tmp_path / "runs" / "centralized.db"
    with Ledger(path, experiment="lekhai-cpu-t", recipe="lekhai", profile="cpu", settings="{}") as opened:
        yield opened


@pytest.fixture
def no_token(monkeypatch):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)


@pytest.fixture
def exported(tmp_path):
    """A folder as training and export may leave it, with everything that must stay here."""
    folder = tmp_path / "exported"
    send = ["README.md", "config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja", "gguf/m.gguf"]
    keep = ["optimizer.pt", "scheduler.pt", "rng_state.pth", "rng_state_0.pth", "training_args.bin", "scaler.pt"]
    keep += ["trainer_state.json", ".env", "prod.env", "server.key", ".git/config", "centralized.db"]
    keep += ["ref/adapter_model.safetensors", "checkpoint-20/model.safetensors", "old.writing/model.safetensors"]
    for name in send + keep:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 500_000 if name == "model.safetensors" else b"text")
    (folder / "README.md").write_text("---\nlicense: gemma\n---\n")
    (folder / "config.json").write_text("{}")
    return folder, sorted(send)


# --- weights


def test_the_merged_model_is_written_whole_and_quietly(tmp_path, capsys):
    folder = export.save_merged_16bit(FakeModel(), FakeTokenizer(), tmp_path / "merged")
    assert {"config.json", "generation_config.json", "model.safetensors"} <= {p.name for p in folder.iterdir()}
    assert "/home" not in capsys.readouterr().out
    assert [p.name for p in tmp_path.iterdir()] == ["merged"]


def test_an_interrupted_export_leaves_the_earlier_one_and_no_half_folder(tmp_path):
    export.save_merged_16bit(FakeModel(), FakeTokenizer(), tmp_path / "merged")
    before = (tmp_path / "merged" / "model.safetensors").stat().st_mtime_ns
    with pytest.raises(OSError, match="disk full"):
        export.save_merged_16bit(FakeModel(fail=True), FakeTokenizer(), tmp_path / "merged")
    assert (tmp_path / "merged" / "model.safetensors").stat().st_mtime_ns == before
    assert [p.name for p in tmp_path.iterdir()] == ["merged"]


def test_weights_that_are_not_16_bit_are_refused(tmp_path):
    """Unsloth's merge keeps the type of the base's files, also where that is 32-bit."""
    with pytest.raises(ExportError, match="not 16-bit"):
        export.save_merged_16bit(FakeModel(numpy.float32), FakeTokenizer(), tmp_path / "merged")
    assert list(tmp_path.iterdir()) == []


def test_a_model_without_an_adapter_is_refused(tmp_path):
    """Unsloth only warns and writes nothing."""
    model = FakeModel()
    model.peft_config = {}
    with pytest.raises(ExportError, match="no adapter"):
        export.save_merged_16bit(model, FakeTokenizer(), tmp_path / "merged")


def test_a_folder_of_weights_that_were_rounded_before_is_refused(tmp_path):
    """Unsloth's own error comes after the disk was filled, and names no setting to change."""
    base = write_text(tmp_path / "four" / "config.json", json.dumps({"quantization_config": {"load_in_4bit": True}}))
    with pytest.raises(ExportError, match=r"weights of four were rounded before.*set model\.name to the 16-bit"):
        export.save_merged_16bit(FakeModel(base=str(base.parent)), FakeTokenizer(), tmp_path / "merged")
    write_text(base, "{}")
    assert export.save_merged_16bit(FakeModel(base=str(base.parent)), FakeTokenizer(), tmp_path / "merged").exists()


def test_the_disk_is_checked_before_the_first_byte(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1_000_000))
    with pytest.raises(ExportError, match=r"the merged model needs 4 MB on disk and 1 MB are free.*LEKHAI_RUNS"):
        export.save_merged_16bit(FakeModel(), FakeTokenizer(), tmp_path / "merged")
    assert list(tmp_path.iterdir()) == []


def test_the_disk_need_counts_4_bit_weights_unpacked_and_a_hub_base_twice(tmp_path):
    assert export.merged_budget(FakeModel(base=str(tmp_path))).disk_mb == pytest.approx(2 * 1.1)
    assert export.merged_budget(FakeModel(base="somebody/model")).disk_mb == pytest.approx(4 * 1.1)


def test_the_memory_is_checked_before_the_first_byte(tmp_path, monkeypatch):
    """A merge that the machine ends in the middle says nothing at all."""
    monkeypatch.setattr("lekhai_helpers.ship.budgets.machine", lambda: {"ram_free_gb": 0.001})
    with pytest.raises(ExportError, match=r"the merged model needs 5 MB of memory and 1 MB are free"):
        export.save_merged_16bit(FakeModel(), FakeTokenizer(), tmp_path / "merged")
    assert list(tmp_path.iterdir()) == []


def test_the_adapter_comes_without_the_card_that_names_this_machine(tmp_path):
    folder = export.save_adapter(FakeModel(), FakeTokenizer(), tmp_path / "deep" / "adapter")
    assert not (folder / "README.md").exists()
    assert (folder / "adapter_model.safetensors").exists()


# --- how the two forms are compared

NINE_B, ONE_B, EMBEDDED = 9_241_705_984, 999_885_952, 122_000_000


@pytest.mark.parametrize(
    ("numbers", "memory_gb", "bits", "prompts"),
    [
        (EMBEDDED, 6, 32, 4),
        (ONE_B, 12, 32, 4),
        (ONE_B, 15, 32, 4),
        (NINE_B, 12, 0, 0),
        (NINE_B, 15, 0, 0),
        (NINE_B, 24, 16, 2),
        (NINE_B, 80, 32, 4),
    ],
)
def test_the_comparison_takes_the_finest_form_that_fits(numbers, memory_gb, bits, prompts):
    """A 9B in 32 bits is 37 GB: on a card of 12 GB notebook 08 would end in an out-of-memory error."""
    form = export.comparison_form(numbers, memory_gb)
    assert (form.bits, form.prompts) == (bits, prompts)


def test_what_is_not_measured_is_said():
    exact, coarse, none = (export.comparison_form(NINE_B, memory, "the card has") for memory in (80, 24, 12))
    assert "Not measured" not in exact.sentence and (exact.most_distance, exact.least_same_next) == (0.005, 0.95)
    assert "Not measured: how much of the difference is 16-bit rounding" in coarse.sentence
    assert coarse.most_distance > exact.most_distance and coarse.least_same_next < exact.least_same_next
    assert none.sentence.startswith("Not compared") and "the card has 12.0 GB" in none.sentence
    assert "run notebook 08 where 23 GB are free" in none.sentence


@pytest.mark.parametrize(("profile", "bits"), [("cpu", 32), ("rtx5070", 0)])
def test_the_plan_asks_the_device_the_profile_computes_on(monkeypatch, profile, bits):
    """A desktop with a small card often has plenty of main memory, and the other way round."""
    monkeypatch.setattr(export, "machine", lambda: {"gpu_memory_gb": 12.0, "ram_free_gb": 64.0})
    monkeypatch.setattr(export, "model_numbers", lambda path, settings: NINE_B)
    assert export.comparison_plan("base", resolve("lekhai", profile)).bits == bits


# --- the model card


def header_of(card: str) -> dict:
    assert card.startswith("---\n")
    return yaml.safe_load(card.split("---\n")[1])


def test_the_header_says_licence_language_and_base(ledger):
    header = header_of(export.model_card(resolve("lekhai", "cpu"), ledger))
    assert header["license"] == "gemma" and header["language"] == ["bn"]
    assert header["base_model"] == ["google/gemma-3-270m"]
    assert header["pipeline_tag"] == "text-generation"
    assert "datasets" not in header  # the data is on no hub, so no address is made up


def test_the_header_follows_the_profile_and_the_merge(ledger):
    settings = resolve("lekhai", "multi-gpu")
    header = header_of(export.model_card(settings, ledger, {"merge_t": 0.5}))
    assert header["license"] == "apache-2.0"
    assert header["base_model"] == ["Qwen/Qwen2.5-7B-Instruct", "open-thoughts/OpenThinker2-7B"]
    assert header_of(export.model_card(settings, ledger))["base_model"] == ["Qwen/Qwen2.5-7B-Instruct"]


def test_another_base_than_the_recipe_s_is_named_with_its_licence(ledger):
    """Where the embedded base could not be had, the card must not speak of Gemma."""
    used = {"base_model": ["HuggingFaceTB/SmolLM2-135M-Instruct"], "base_licence": "apache-2.0"}
    card = export.model_card(resolve("lekhai", "cpu"), ledger, used | {"datasets": ["rahima/ads"]})
    assert header_of(card)["license"] == "apache-2.0" and header_of(card)["datasets"] == ["rahima/ads"]
    assert "gemma" not in card.lower()


def test_a_licence_the_hub_does_not_know_is_called_other(ledger):
    header = header_of(export.model_card(resolve("lekhai", "cpu"), ledger, {"base_licence": "see its model card"}))
    assert header["license"] == "other" and header["license_name"] == "see its model card"


def test_a_folder_as_base_is_no_hub_id_and_its_path_stays_here(ledger):
    settings = resolve("lekhai", "cpu", {"model.name": "/home/rahima/models/mine"})
    card = export.model_card(settings, ledger)
    assert "base_model" not in header_of(card) and "/home" not in card and "mine" in card


def test_the_figures_are_those_of_the_ledger(ledger):
    ledger.summarize("base", "valid_tables", 0.0, 0.0, 0.097, 36)
    ledger.summarize("sft", "valid_tables", 0.8056, 0.6497, 0.9025, 36, "three seeds | no grammar")
    ledger.summarize("sft", "perplexity", None)
    for step, loss in ((1, 4.1), (80, 0.412)):
        ledger.log_metrics("06_fine_tuning", step, {"loss": loss})
    card = export.model_card(resolve("lekhai", "cpu"), ledger, {"kept stage": "sft"})
    assert "| sft | valid tables | 0.806 | 0.65 to 0.902 | 36 | three seeds \\| no grammar |" in card
    assert "| base | valid tables | 0 | 0 to 0.097 | 36 |" in card
    assert "| sft | perplexity | not measured | – | – |" in card
    assert "steps: 80" in card and "last training loss: 0.412" in card and "validation loss" not in card
    assert "| kept stage | sft |" in card


def test_an_empty_ledger_gives_no_figure_at_all(ledger):
    card = export.model_card(resolve("lekhai", "cpu"), ledger)
    measured = card.split("## What was measured")[1].split("## What it is not")[0]
    assert "Nothing was measured" in measured and not re.search(r"\d", measured)
    assert "Fine-tuning, " not in card


def test_somebody_s_own_table_is_not_given_our_licence(ledger):
    card = export.model_card(resolve("lekhai", "cpu", {"data.file": "mine.csv"}), ledger)
    assert "cc-by-4.0" not in card and "invented brands" not in card


def test_the_card_says_the_valid_share_in_words_with_its_interval(ledger):
    ledger.summarize("sft", "valid_tables", 0.8611, 0.7134, 0.9392, 36)
    ledger.summarize("dpo", "valid_tables", 0.5)
    card = export.model_card(resolve("lekhai", "cpu"), ledger)
    assert "- sft: 86% of the texts are a valid table, 95% interval 71% to 94%, n=36\n" in card
    assert "- dpo: 50% of the texts are a valid table\n" in card


def test_the_card_of_an_earlier_notebook_run_again_does_not_boast_of_later_stages(ledger):
    """Notebook 08 run again after 10 and 12 printed the aligned and the quantised figures on the fine-tuned model."""
    for stage, share in (("base", 0.0), ("sft", 0.75), ("dpo", 0.9), ("gguf-q8_0", 0.95)):
        ledger.summarize(stage, "valid_tables", share)
    card = export.model_card(resolve("lekhai", "cpu"), ledger, stages=("base", "sft"))
    assert "- sft: 75%" in card and "| base |" in card
    assert "dpo" not in card and "gguf" not in card


def test_the_card_says_what_the_audits_of_the_judges_found(ledger):
    """A card that gave a judge's scores without its audit would sell an untested opinion as a measurement."""
    ledger.add_audit("weak", [], passed=False, sentence="weak is not to be trusted here: it flips")
    ledger.add_audit("silent", [], passed=True, sentence="")
    row = dict(brief_id="b", seed=1, industry="i", tone="t", prompt="p", text="x", ok=True, problems=[], facts={})
    ledger.add_responses("sft", [row | dict(tokens=1, seconds=1, stopped=True)])
    verdict = dict(stage="sft", brief_id="b", seed=1, criterion="tone", status="scored", score=9, reason="")
    ledger.add_verdicts("unaudited", [verdict])
    card = export.model_card(resolve("lekhai", "cpu"), ledger)
    assert "- weak: weak is not to be trusted here: it flips" in card and "- silent: it passed its audit" in card
    assert "- unaudited: not audited" in card


@pytest.mark.parametrize("recipe", ["alignment", "companion", "tutor", "twainbot"])
def test_the_card_of_another_recipe_speaks_of_that_recipe(ledger, recipe):
    """The card of a tutor said that it writes advertising scripts, and must not advertise medicine."""
    ledger.summarize("sft", "valid_tables", 0.5, 0.3, 0.7, 12)
    settings = resolve(recipe, "cpu")
    card = export.model_card(settings, ledger, gguf="x-q8_0.gguf")
    for word in ("script", "table of two", "advertis", "valid table", "Visual", "brand"):
        assert word not in card, word
    assert settings.card.about in card and settings.card.data in card
    assert f"50% of the texts are {words_of(settings).one}" in card and words_of(settings).many in card
    assert all(sentence in card for sentence in settings.card.not_for)
    assert header_of(card)["tags"][: len(settings.card.tags)] == settings.card.tags
    assert "cc-by-4.0" in card and "ask its owner" not in card
    own = export.model_card(resolve(recipe, "cpu", {"data.file": "mine.jsonl"}), ledger)
    assert "ask its owner" in own and settings.card.data not in own


def test_the_card_shows_the_system_text_as_it_was_trained(ledger):
    """The marks of a tool call stood there as \\u003c: copied, the text was another one than the model had learned."""
    settings = resolve("twainbot", "cpu")
    shown = re.search(r'"system", "content": (".*")}', export.model_card(settings, ledger))
    assert json.loads(shown[1]) == settings.system_prompt and "<tool_call>" in shown[1]


def test_the_card_of_a_recipe_that_says_nothing_of_itself_still_stands(ledger):
    from lekhai_helpers.core.recipe import Card

    card = export.model_card(resolve("tutor", "cpu").model_copy(update={"card": Card()}), ledger)
    assert "A tutor for ten school subjects." in card and "not tested for safety or for bias" in card


def test_the_card_of_the_gguf_files_says_how_those_are_used(ledger):
    """Beside GGUF files the lines for Transformers name a folder that is not there."""
    card = export.model_card(resolve("lekhai", "cpu"), ledger, {"kept stage": "dpo"}, gguf="lekhai-q8_0.gguf")
    assert "`lekhai-q8_0.gguf`" in card and "ollama create lekhai" in card and "| kept stage | dpo |" in card
    assert "AutoModel" not in card and "library_name" not in header_of(card) and "gguf" in header_of(card)["tags"]
    plain = export.model_card(resolve("lekhai", "cpu"), ledger)
    assert "ollama" not in plain and "gguf" not in header_of(plain)["tags"]
    assert header_of(plain)["library_name"] == "transformers"


def test_the_card_says_where_nobody_judged_and_what_it_must_not_be_used_for(ledger):
    card = export.model_card(resolve("lekhai", "cpu"), ledger)
    assert "No judge was asked" in card and "must not be used" in card


# --- the hub


def test_only_what_belongs_on_the_hub_is_sent(exported):
    folder, expected = exported
    plan = export.push_plan(folder)
    assert [path for path, _ in plan] == expected
    assert dict(plan)["model.safetensors"] == pytest.approx(0.5)


def test_a_text_that_holds_a_token_stops_the_plan(exported):
    folder, _ = exported
    (folder / "config.json").write_text(json.dumps({"token": TOKEN}))
    with pytest.raises(ExportError, match=r"config\.json seems to hold") as caught:
        export.push_plan(folder)
    assert TOKEN not in str(caught.value)


def test_a_link_out_of_the_folder_stops_the_plan(exported, tmp_path):
    (tmp_path / "private.txt").write_text("mine")
    (exported[0] / "notes.txt").symlink_to(tmp_path / "private.txt")
    with pytest.raises(ExportError, match="link to a file outside"):
        export.push_plan(exported[0])


def test_an_empty_or_absent_folder_names_the_notebook_to_run(tmp_path):
    (tmp_path / "empty").mkdir()
    for name in ("empty", "absent"):
        with pytest.raises(ExportError, match="run notebook 08"):
            export.push_plan(tmp_path / name)


def test_push_without_a_token_says_where_tokens_come_from(exported, no_token):
    with pytest.raises(ExportError, match="HF_TOKEN") as caught:
        export.push(exported[0], "rahima/lekhai")
    assert "Colab" in str(caught.value) and "huggingface.co/settings/tokens" in str(caught.value)


def test_push_takes_no_token_as_a_parameter():
    """A token typed into a cell stays in the notebook."""
    names = export.push.__code__.co_varnames[: export.push.__code__.co_argcount]
    assert names == ("folder", "hub_id", "private")


@pytest.mark.parametrize("hub_id", [None, "", "lekhai", "a/b/c", "rahima/le khai", "../etc"])
def test_push_refuses_an_id_the_hub_cannot_have(exported, no_token, hub_id):
    with pytest.raises(ExportError, match=r"export\.hub_id"):
        export.push(exported[0], hub_id)


class FakeHub:
    """Stands in for huggingface_hub.HfApi and remembers what it was asked."""

    public = False
    sent: dict

    def __init__(self, token: str) -> None:
        assert token == TOKEN

    def create_repo(self, hub_id, private, exist_ok):
        return f"https://huggingface.co/{hub_id}"

    def repo_info(self, hub_id):
        return SimpleNamespace(private=not self.public)

    def preupload_lfs_files(self, hub_id, additions, free_memory):
        assert len(additions) == 1 and free_memory is False

    def create_commit(self, hub_id, operations, commit_message):
        FakeHub.sent = {operation.path_in_repo: operation.path_or_fileobj for operation in operations}


@pytest.fixture
def hub(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr("huggingface_hub.HfApi", FakeHub)
    FakeHub.sent = {}
    return FakeHub


def test_push_sends_the_plan_and_nothing_else(exported, hub):
    folder, expected = exported
    base = {"base_model_name_or_path": "/home/rahima/runs/a/merged_base", "r": 16}
    (folder / "adapter_config.json").write_text(json.dumps(base))
    assert export.push(folder, "rahima/lekhai") == "https://huggingface.co/rahima/lekhai"
    assert sorted(hub.sent) == sorted([*expected, "adapter_config.json"])
    assert json.loads(hub.sent["adapter_config.json"]) == {"base_model_name_or_path": "merged_base", "r": 16}


def test_a_private_upload_never_lands_in_a_public_repository(exported, hub, monkeypatch):
    monkeypatch.setattr(hub, "public", True)
    with pytest.raises(ExportError, match="is public"):
        export.push(exported[0], "rahima/lekhai")
    assert hub.sent == {}


def test_a_model_is_not_sent_without_its_card(exported, hub):
    (exported[0] / "README.md").unlink()
    with pytest.raises(ExportError, match="model card"):
        export.push(exported[0], "rahima/lekhai")


def test_the_login_state_never_shows_the_token(monkeypatch, no_token):
    assert "no hub token" in export.login_state()
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert "HF_TOKEN" in export.login_state() and TOKEN not in export.login_state()


def install_colab(monkeypatch, get) -> None:
    """Put a google.colab in place whose secrets answer as `get` does."""
    userdata = ModuleType("google.colab.userdata")
    for name in ("SecretNotFoundError", "NotebookAccessError", "TimeoutException"):
        setattr(userdata, name, type(name, (Exception,), {}))
    userdata.get = lambda key: get(userdata, key)
    colab = ModuleType("google.colab")
    colab.userdata = userdata
    monkeypatch.setitem(sys.modules, "google.colab", colab)


def test_on_colab_the_secret_is_used(monkeypatch, no_token):
    install_colab(monkeypatch, lambda userdata, key: {"HF_TOKEN": TOKEN}[key])
    assert "Colab secret" in export.login_state() and TOKEN not in export.login_state()


@pytest.mark.parametrize("reason", ["SecretNotFoundError", "NotebookAccessError", "TimeoutException"])
def test_on_colab_without_the_secret_there_is_no_token(monkeypatch, no_token, reason):
    def refuse(userdata, key):
        raise getattr(userdata, reason)(key)

    install_colab(monkeypatch, refuse)
    assert "no hub token" in export.login_state()
