"""A push to a stand-in of the hub with the hub's own client: broken off, killed, resumed, and nothing sent twice."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from lekhai_helpers.core.recipe import resolve
from lekhai_helpers.ship.errors import ExportError
from lekhai_helpers.ship.hub_plan import content, kept_here, push_plan
from lekhai_helpers.ship.licences import card_licence, licences_text
from lekhai_helpers.ship.secret_scan import find_secret

_spec = importlib.util.spec_from_file_location("hub_stand_in", Path(__file__).with_name("hub_stand_in.py"))
stand_in = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(stand_in)

TOKEN = "hf_" + "x" * 34
CARD = "---\nlicense: gemma\nlanguage: [bn]\n---\n# A model\n"
PUSH = """
import sys
from lekhai_helpers.ship.errors import ExportError
from lekhai_helpers.ship.hub import push
try:
    print(push(sys.argv[1], "rahima/lekhai", extra={"LICENCES.md": "terms"}, tell=lambda line: print(line, flush=True)))
except ExportError as error:
    print(error)
    sys.exit(1)
"""


@pytest.fixture
def folder(tmp_path):
    """Four large files and three small ones; the sizes tell them apart."""
    folder = tmp_path / "exported"
    (folder / "merged").mkdir(parents=True)
    (folder / "README.md").write_text(CARD)
    (folder / "merged" / "config.json").write_text('{"model_type": "gemma3_text"}')
    (folder / "merged" / "optimizer.pt").write_bytes(b"stays here")
    for number in range(4):
        (folder / "merged" / f"model-{number}.safetensors").write_bytes(bytes([number]) * (2000 + number))
    return folder


def push(folder, hub, **more):
    """Push in a fresh process: the client reads its settings when it is imported."""
    return subprocess.run([sys.executable, "-c", PUSH, str(folder)], **_process(hub), timeout=120, **more)


def _process(hub):
    environment = dict(os.environ) | {"HF_ENDPOINT": hub.address, "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": TOKEN}
    environment |= {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "0"}
    return {"env": environment, "text": True, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}


def test_a_push_sends_the_plan_privately_and_in_one_commit(folder):
    with stand_in.Hub() as hub:
        done = push(folder, hub)
        assert done.returncode == 0, done.stdout + done.stderr
        assert sorted(hub.files) == sorted([*(path for path, _ in push_plan(folder)), "LICENCES.md"])
        assert hub.created[0]["visibility"] == "private" and len(hub.commits) == 1
        assert hub.files["merged/model-2.safetensors"] == bytes([2]) * 2002
        assert hub.tokens == {f"Bearer {TOKEN}"} and TOKEN not in done.stdout + done.stderr
    assert "merged/optimizer.pt" not in hub.files and kept_here(folder) == ["merged/optimizer.pt"]


def test_a_line_cut_in_the_middle_of_a_file_is_taken_up_again(folder):
    """The client itself tries a file once more; nothing but that file is sent twice."""
    with stand_in.Hub(cut_at=3) as hub:
        done = push(folder, hub)
        assert done.returncode == 0, done.stdout + done.stderr
        assert len(hub.uploads) == 5 and len(hub.blobs) == 4 and len(hub.commits) == 1


def test_a_push_refused_in_the_middle_says_what_is_there_and_the_next_sends_only_the_rest(folder):
    """A model of 15 GB that begins anew after every failure never arrives."""
    with stand_in.Hub(refuse_from=3) as hub:
        done = push(folder, hub)
        assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
        assert "model-2.safetensors did not arrive" in done.stdout and "Push again" in done.stdout
        arrived = set(hub.blobs)
        assert len(arrived) == 2 and hub.commits == []  # nobody sees half a model
        hub.refuse_from = 0
        hub.uploads.clear()
        assert push(folder, hub).returncode == 0
        assert len(hub.uploads) == 2 and not arrived & set(hub.uploads)
    assert len(hub.commits) == 1 and len(hub.files) == 7


def test_a_push_that_was_killed_goes_on_where_it_stopped(folder):
    """kill -9, as a closed laptop does: no half model is to be seen, and nothing is sent twice."""
    with stand_in.Hub() as hub:
        running = subprocess.Popen([sys.executable, "-c", PUSH, str(folder)], **_process(hub))
        deadline = time.monotonic() + 60
        while len(hub.blobs) < 2 and time.monotonic() < deadline:
            time.sleep(0.002)
        running.send_signal(signal.SIGKILL)
        running.communicate()
        arrived = set(hub.blobs)
        if hub.commits:
            pytest.skip("the push was through before it could be killed")
        assert len(arrived) >= 2 and hub.files == {}
        hub.uploads.clear()
        assert push(folder, hub).returncode == 0
        assert not arrived & set(hub.uploads) and len(hub.files) == 7


def test_a_second_push_without_a_change_sends_nothing_and_one_with_a_change_sends_that(folder):
    with stand_in.Hub() as hub:
        assert push(folder, hub).returncode == 0
        again = push(folder, hub)
        assert again.returncode == 0 and len(hub.uploads) == 4 and len(hub.commits) == 1, again.stdout
        (folder / "merged" / "model-0.safetensors").write_bytes(b"n" * 3000)
        assert push(folder, hub).returncode == 0
        assert len(hub.uploads) == 5 and hub.commits[1] == ["merged/model-0.safetensors"]


def test_a_private_push_never_lands_in_a_public_repository(folder):
    with stand_in.Hub(public=True) as hub:
        done = push(folder, hub)
        assert done.returncode == 1 and "is public" in done.stdout
        assert hub.uploads == [] and hub.files == {}


def test_a_machine_that_may_not_ask_the_hub_is_told(folder):
    environment = _process(SimpleNamespace(address="http://127.0.0.1:9"))["env"] | {"HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", PUSH, str(folder)]
    done = subprocess.run(command, env=environment, text=True, capture_output=True, timeout=120)
    assert done.returncode == 1 and "HF_HUB_OFFLINE is set" in done.stdout, done.stderr


def test_a_hub_that_cannot_be_reached_is_told(folder):
    with stand_in.Hub() as hub:
        pass
    done = push(folder, hub)
    assert done.returncode == 1 and "cannot be reached" in done.stdout and "Traceback" not in done.stderr


# --- what goes and what stays


@pytest.mark.parametrize("card", ["no front matter", "---\nlanguage: bn\n---\n", "---\n[broken\n---\n"])
def test_a_card_without_a_licence_is_not_sent(folder, monkeypatch, card):
    from lekhai_helpers.ship.hub import push as send

    monkeypatch.setenv("HF_TOKEN", TOKEN)
    (folder / "README.md").write_text(card)
    with pytest.raises(ExportError, match="names no licence"):
        send(folder, "rahima/lekhai")


def test_paths_of_this_machine_are_taken_out_of_configs(folder):
    path = folder / "merged" / "config.json"
    path.write_text(json.dumps({"_name_or_path": "/home/rahima/runs/merged", "model_type": "gemma3_text"}))
    assert json.loads(content(folder, "merged/config.json"))["_name_or_path"] == "merged"
    assert json.loads(path.read_text())["_name_or_path"] == "/home/rahima/runs/merged"
    assert content(folder, "README.md") == str(folder / "README.md")


SECRETS = {
    "a Hugging Face token": TOKEN,
    "an AWS key": "AKIA" + "A1B2" * 4,
    "a GitHub token": "ghp_" + "a" * 36,
    "a Google API key": "AIza" + "b" * 35,
    "a private key": "-----BEGIN OPENSSH PRIVATE KEY-----",
    "an address with a password": "postgresql+pg8000://rahima:gopon123@db.example.org/lekhai",
}


@pytest.mark.parametrize("kind", SECRETS)
def test_every_kind_of_secret_stops_the_plan_and_is_not_shown(folder, kind):
    (folder / "merged" / "notes.csv").write_text(f"a,b\n1,{SECRETS[kind]}\n")
    with pytest.raises(ExportError, match=rf"notes\.csv seems to hold {kind}") as caught:
        push_plan(folder)
    assert SECRETS[kind] not in str(caught.value)


def test_the_value_of_a_secret_variable_is_found_whatever_its_form(tmp_path):
    file = tmp_path / "log.txt"
    file.write_text("started with gopon-katha-2026")
    assert find_secret(file, {"LEKHAI_ADMIN_TOKEN": "gopon-katha-2026"}) == "the value of LEKHAI_ADMIN_TOKEN"
    assert find_secret(file, {"LEKHAI_COLOUR": "gopon-katha-2026", "A_KEY": "short"}) is None


def test_a_secret_far_down_a_long_file_or_across_two_pieces_is_found(tmp_path):
    """Long text files used to be left unread, as vocabularies."""
    piece = 8 * 1024**2
    for place in (piece - 10, 2 * piece + 5):
        file = tmp_path / "long.json"
        file.write_bytes(b" " * place + TOKEN.encode() + b" " * 100)
        assert find_secret(file, {}) == "a Hugging Face token"


def test_a_secret_in_the_header_of_weights_is_found(tmp_path):
    import numpy
    from safetensors.numpy import save_file

    file = tmp_path / "model.safetensors"
    save_file({"w": numpy.zeros(9, numpy.float16)}, file, metadata={"by": TOKEN})
    assert find_secret(file, {}) == "a Hugging Face token"


def test_the_licences_say_base_and_data(folder):
    text = licences_text(resolve("lekhai", "cpu"), card_licence(folder))
    assert "Gemma Terms of Use found at ai.google.dev/gemma/terms" in text and "cc-by-4.0" in text
    own = licences_text(resolve("lekhai", "cpu", {"data.file": "mine.csv"}), "some-licence")
    assert "cc-by-4.0" not in own and "read it before you pass this on" in own
