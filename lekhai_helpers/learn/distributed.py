"""The same training in several processes, one a card: `accelerate launch` over this file. Taught in notebook 06.

A notebook is one process, so it writes down the job, starts the others and reads what they left. The training
function is `learn.training.train_sft`, the same as everywhere.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lekhai_helpers.core.ledger import Ledger
from lekhai_helpers.core.recipe import Lora, Settings
from lekhai_helpers.core.run_folder import write_json
from lekhai_helpers.learn.callbacks import TrainingError
from lekhai_helpers.learn.model import attach_lora, load_model
from lekhai_helpers.learn.training import Example, TrainingResult, train_sft

JOB, RESULT, ADAPTER = "job.json", "result.json", "trained_adapter"


def train_in_processes(
    base: str,
    lora: Lora,
    train: Sequence[Example],
    validation: Sequence[Example],
    settings: Settings,
    folder: Path,
    *,
    max_length: int,
    ledger: Ledger | None = None,
    phase: str = "06_fine_tuning",
) -> tuple[TrainingResult, Path]:
    """Train in ``sft.processes`` processes and return the result and the folder of the adapter.

    Checkpoints and resume work as in `train_sft`; the lines of the first process are printed as they come. Raises
    TrainingError with the last lines where the processes end in an error, or where ``sft.keep`` is "contract", which
    would need every process to wait while one writes answers.
    """
    if settings.sft.keep == "contract":
        raise TrainingError("sft.keep=contract works in one process only: set sft.keep=best, or sft.processes=1")
    job = {
        "base": base,
        "lora": lora.model_dump(),
        "settings": settings.model_dump(mode="json"),
        "train": list(train),
        "validation": list(validation),
        "max_length": max_length,
        "phase": phase,
        "ledger": {"path": str(ledger.path), "experiment": ledger.experiment} if ledger else None,
    }
    workplace = folder.with_name(f"{folder.name}_job")
    write_json(workplace / JOB, job | {"folder": str(folder)})
    _run(_command(settings.sft.processes, workplace), settings)
    found = json.loads((workplace / RESULT).read_text(encoding="utf-8"))
    series = ("train_loss", "validation_loss", "valid_answers")
    result = TrainingResult(**found | {key: [(int(step), value) for step, value in found[key]] for key in series})
    return result, workplace / ADAPTER


def _command(processes: int, workplace: Path) -> list[str]:
    return [
        *(sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch", "--multi_gpu"),
        *("--num_processes", str(processes), "--num_machines", "1", "--main_process_port", "0"),
        *("--mixed_precision", "no", "--dynamo_backend", "no"),
        *("-m", "lekhai_helpers.learn.distributed", str(workplace)),
    ]


def _run(command: list[str], settings: Settings) -> None:
    """Run a command, print what it says of the training line by line, and keep its last lines for the error."""
    # accelerate starts several processes without a card only through MPI; told so in this way, it takes gloo.
    environment = os.environ | ({"ACCELERATE_USE_CPU": "true"} if settings.model.device == "cpu" else {})
    lines: list[str] = []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as running:
        assert running.stdout is not None
        for line in running.stdout:
            lines.append(line.rstrip())
            if line.startswith(("step ", "going on ", "the checkpoint ")):
                print(line, end="", flush=True)
    if running.returncode:
        raise TrainingError(f"the training in {settings.sft.processes} processes ended in an error: {_reason(lines)}")


def _reason(lines: Sequence[str]) -> str:
    """Return the first error among what the processes said; the launcher adds pages of its own after it."""
    errors = [line for line in lines if re.match(r"(\[rank\d+\]: ?)?[\w.]+(Error|Exception)\b", line)]
    return errors[0] if errors else "\n".join(lines[-15:])


def main(workplace: Path) -> None:
    """Do the job in `workplace`, as one of the processes that accelerate started."""
    from accelerate import PartialState

    job: dict[str, Any] = json.loads((workplace / JOB).read_text(encoding="utf-8"))
    settings = Settings.model_validate(job["settings"])
    model, tokenizer = load_model(job["base"], settings)
    model = attach_lora(model, Lora(**job["lora"]), settings.seed)
    ledger = None
    if job["ledger"] and PartialState().is_main_process:
        names = {"recipe": settings.recipe, "profile": settings.profile, "settings": settings.model_dump_json()}
        ledger = Ledger(Path(job["ledger"]["path"]), experiment=job["ledger"]["experiment"], **names)
    result = train_sft(
        *(model, tokenizer, job["train"], job["validation"], settings, Path(job["folder"])),
        max_length=job["max_length"],
        ledger=ledger,
        phase=job["phase"],
    )
    if PartialState().is_main_process:
        model.save_pretrained(str(workplace / ADAPTER), selected_adapters=["default"])
        tokenizer.save_pretrained(str(workplace / ADAPTER))
        write_json(workplace / RESULT, asdict(result))
    PartialState().destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
