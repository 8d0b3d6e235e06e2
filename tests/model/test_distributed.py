"""Two real processes under `accelerate launch` (gloo, no card): the same losses as one with the same global batch."""

import json
import subprocess
import sys
import time

import psutil
import pytest

from lekhai_helpers.core.ledger import Ledger
from lekhai_helpers.learn.callbacks import TrainingError
from lekhai_helpers.learn.distributed import train_in_processes
from lekhai_helpers.learn.model import attach_lora, load_model
from lekhai_helpers.learn.training import effective_batch, train_sft


def with_sft(settings, **changes):
    return settings.model_copy(update={"sft": settings.sft.model_copy(update=changes)})


@pytest.fixture
def two(settings):
    """Two processes of one row each; a learning rate at which the order of the rows matters."""
    return with_sft(settings, processes=2, batch_size=1, max_steps=6, eval_every=3, learning_rate=5e-3)


def test_two_processes_lose_what_one_loses(tiny, examples, two, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with Ledger(tmp_path / "l.db", experiment="e", recipe="lekhai", profile="smoke", settings="{}") as ledger:
        rows = (examples[:8], examples[8:10])
        found, adapter = train_in_processes(
            str(tiny), two.lora, *rows, two, tmp_path / "two", max_length=256, ledger=ledger
        )
        logged = ledger.metrics("06_fine_tuning")
    one = with_sft(two, batch_size=2, processes=1)  # the same global batch
    model, tokenizer = load_model(tiny, one)
    model = attach_lora(model, one.lora, one.seed)
    alone = train_sft(model, tokenizer, *rows, one, tmp_path / "one", max_length=256)
    assert effective_batch(two.sft) == effective_batch(one.sft) == 2 and found.steps == alone.steps == 6
    for ours, theirs in ((found.train_loss, alone.train_loss), (found.validation_loss, alone.validation_loss)):
        assert [step for step, _ in ours] == [step for step, _ in theirs]
        assert [loss for _, loss in ours] == pytest.approx([loss for _, loss in theirs], abs=1e-2)
    assert alone.train_loss[-1][1] < alone.train_loss[0][1] - 0.1, "nothing was learned, so equal losses say little"
    assert (adapter / "adapter_model.safetensors").exists()
    assert (logged["name"] == "loss").sum() == 6, "both processes wrote into the ledger, or none"
    assert capsys.readouterr().out.count("step    6 of 6: loss") == 2


def test_a_process_that_fails_says_why(tiny, examples, two, tmp_path):
    """The launcher's own pages about who died hide the one line that helps."""
    with pytest.raises(TrainingError, match="in 2 processes ended in an error: .*Error: .*no model"):
        train_in_processes(
            str(tmp_path / "no model"), two.lora, examples[:8], examples[8:10], two, tmp_path / "x", max_length=256
        )


def test_keeping_by_contract_is_refused_before_anything_starts(tiny, examples, two, tmp_path):
    settings = with_sft(two, keep="contract")
    with pytest.raises(TrainingError, match="works in one process only: set sft.keep=best"):
        train_in_processes(str(tiny), two.lora, examples, examples, settings, tmp_path / "x", max_length=256)
    assert list(tmp_path.iterdir()) == []


NOTEBOOK = """
import json, sys
from pathlib import Path
from lekhai_helpers.core.recipe import Settings
from lekhai_helpers.learn.distributed import train_in_processes
given = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
settings = Settings.model_validate(given["settings"])
rows = given["rows"]
folder = Path(sys.argv[1]).with_name("two")
train_in_processes(given["base"], settings.lora, rows[:8], rows[8:10], settings, folder, max_length=256)
"""


def at_work(workplace):
    """Return the processes that name the workplace on their command line: launcher and workers."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        if str(workplace) in (process.info["cmdline"] or []) and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


def test_the_workers_of_a_killed_notebook_stop_writing_checkpoints(tiny, examples, two, tmp_path, monkeypatch):
    """Through torch's real launcher, which gives each worker a session of its own."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    endless = with_sft(two, max_steps=10_000, eval_every=2).model_dump(mode="json")
    job = {"base": str(tiny), "settings": endless, "rows": examples}
    (tmp_path / "given.json").write_text(json.dumps(job), encoding="utf-8")
    notebook = subprocess.Popen([sys.executable, "-c", NOTEBOOK, str(tmp_path / "given.json")])
    workplace = tmp_path / "two_job"
    try:
        for _ in range(3000):
            if list((tmp_path / "two").glob("checkpoint-*")) or notebook.poll() is not None:
                break
            time.sleep(0.1)
        assert notebook.poll() is None and len(at_work(workplace)) == 3
        notebook.kill()
        notebook.wait()
        end = time.monotonic() + 15
        while at_work(workplace) and time.monotonic() < end:
            time.sleep(0.2)
        assert at_work(workplace) == []
    finally:
        notebook.kill()
        for process in at_work(workplace):
            process.kill()
