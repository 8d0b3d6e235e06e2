"""A smoke training of the real base, killed in the middle of an epoch, ends where it would have ended undisturbed."""

import json
import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.chain

TRAIN = """
import json, sys
from pathlib import Path
from lekhai_helpers.core.recipe import data_file, resolve
from lekhai_helpers.learn.model import attach_lora, load_model
from lekhai_helpers.learn.training import train_sft
from lekhai_helpers.prepare.bases import resolve_base
from lekhai_helpers.prepare.dataset import load_table, split, to_examples

folder = Path(sys.argv[1])
settings = resolve("lekhai", "smoke", {"sft.max_steps": 6, "sft.keep": "last"})
table, _ = load_table(data_file(settings.data.file), settings.data.prompts)
table["split"] = split(table, 0.1, 0.1, settings.seed)
rows = to_examples(table, settings.data.prompts, settings.system_prompt)
train, validation = ([row for row in rows if row["split"] == part] for part in ("train", "validation"))
assert settings.sft.max_steps * settings.sft.batch_size < len(train), "the epoch must not end before the training"
model, tokenizer = load_model(resolve_base("embedded").path, settings)
model = attach_lora(model, settings.lora, settings.seed)
result = train_sft(model, tokenizer, train, validation[:2], settings, folder)
print(json.dumps([result.train_loss, result.validation_loss]))
"""


def start(folder):
    command = [sys.executable, "-u", "-c", TRAIN, str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process):
    """Return the lines and the losses of a training that came to its end."""
    out, errors = process.communicate()
    assert process.returncode == 0, errors[-2000:]
    lines = out.splitlines()
    return lines, [dict(map(tuple, losses)) for losses in json.loads(lines[-1])]


def test_killed_with_sigkill_and_resumed_it_ends_with_the_same_loss(tmp_path):
    _, (train, validation) = finish(start(tmp_path / "whole"))
    killed = start(tmp_path / "killed")
    for line in killed.stdout:
        if line.startswith("step    3 of 6: loss"):
            killed.send_signal(signal.SIGKILL)
            break
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    lines, (train_again, validation_again) = finish(start(tmp_path / "killed"))
    assert "going on from step 2" in lines and not any(line.startswith("step    2") for line in lines)
    assert train_again[6] == pytest.approx(train[6], abs=1e-3)
    assert validation_again[6] == pytest.approx(validation[6], abs=1e-3)
    assert train[6] < train[1], "nothing was learned, so an equal end says little"
