"""``lekhai export`` prints the list and sends nothing unless asked."""

from types import SimpleNamespace

import pytest
import typer
from typer.testing import CliRunner

from lekhai_helpers.core.recipe import resolve
from lekhai_helpers.core.run_folder import RunError
from lekhai_helpers.export_cli import export_command
from lekhai_helpers.ship.errors import ExportError

TOKEN = "hf_" + "x" * 34


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A finished run with a model folder and, on request, a pushed one remembered in `sent`."""
    folder = tmp_path / "model"
    (folder / "adapter").mkdir(parents=True)
    (folder / "README.md").write_text("---\nlicense: gemma\n---\n# A model\n")
    (folder / "adapter" / "adapter_model.safetensors").write_bytes(b"x" * 2_000_000)
    (folder / "adapter" / "optimizer.pt").write_bytes(b"x")
    settings = resolve("lekhai", "cpu")
    outputs = {"exported_model": folder, "gguf": None}
    made = SimpleNamespace(label="lekhai-cpu-t", settings=settings, name="t", output=outputs.get, sent=[])
    monkeypatch.setattr("lekhai_helpers.closing.newest_run", lambda label: made)
    monkeypatch.setenv("HF_TOKEN", TOKEN)

    def send(folder, name, private, extra, tell):
        made.sent.append((folder, name, private, sorted(extra)))
        return f"https://huggingface.co/{name}"

    monkeypatch.setattr("lekhai_helpers.ship.hub.push", send)
    return made


def call(*words):
    app = typer.Typer()
    app.command()(export_command)
    return CliRunner().invoke(app, [*words])


@pytest.mark.parametrize("words", [(), ("--dry-run",), ("--push", "--dry-run", "--hub-id", "rahima/lekhai")])
def test_without_push_the_list_is_printed_and_nothing_sent(run, words):
    done = call(*words)
    assert done.exit_code == 0, done.output
    assert "2.0 MB  adapter/adapter_model.safetensors" in done.output and "LICENCES.md" in done.output
    assert "stays here: adapter/optimizer.pt" in done.output and "private; licence: gemma" in done.output
    assert "Nothing was sent" in done.output and run.sent == [] and TOKEN not in done.output


def test_push_sends_privately_unless_public_is_asked_for(run):
    assert call("--push", "--hub-id", "rahima/lekhai").exit_code == 0
    assert call("--push", "--public", "--hub-id", "rahima/lekhai").exit_code == 0
    assert [private for _, _, private, _ in run.sent] == [True, False]
    assert run.sent[0][1:] == ("rahima/lekhai", True, ["LICENCES.md"])


def test_a_secret_stops_the_dry_run_too(run):
    (run.output("exported_model") / "notes.txt").write_text(TOKEN)
    done = call()
    assert isinstance(done.exception, ExportError) and "notes.txt" in str(done.exception)
    assert TOKEN not in str(done.exception)


def test_what_is_not_there_yet_names_its_notebook(run):
    done = call("--what", "gguf")
    assert isinstance(done.exception, RunError) and "notebook 12" in str(done.exception)
