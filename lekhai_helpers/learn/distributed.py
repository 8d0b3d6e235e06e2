"""The same training in several processes, one a card: `accelerate launch` over this file. Taught in notebook 06.

A notebook is one process, so it writes down the job, starts the others and reads what they left. The training
function is `learn.training.train_sft`, the same as everywhere.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
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
_SECONDS_TO_END = 10.0


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

    Checkpoints and resume work as in `train_sft`; the lines of the first process are printed as they come. Where this
    process is interrupted or killed, the others end too and leave the checkpoints as they are. Raises
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
    """Run a command, print what it says of the training line by line, and keep its last lines for the error.

    Its standard input is a pipe that stays open as long as this process lives; see `end_with_the_notebook`.
    """
    # accelerate starts several processes without a card only through MPI; told so in this way, it takes gloo.
    environment = os.environ | ({"ACCELERATE_USE_CPU": "true"} if settings.model.device == "cpu" else {})
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    # In a session of its own: its processes are ended by us, all of them, and not by an interrupt, some of them.
    with subprocess.Popen(command, **pipes, text=True, env=environment, start_new_session=True) as running:
        try:
            lines = _printed(running)
        except BaseException:  # also where a person interrupts the notebook: nobody may go on writing checkpoints
            _end(running)
            raise
    if running.returncode:
        raise TrainingError(f"the training in {settings.sft.processes} processes ended in an error: {_reason(lines)}")


def _printed(running: subprocess.Popen[str]) -> list[str]:
    """Print the lines about the training as they come, and return all lines."""
    assert running.stdout is not None
    lines: list[str] = []
    for line in running.stdout:
        lines.append(line.rstrip())
        if line.startswith(("step ", "going on ", "the checkpoint ")):
            print(line, end="", flush=True)
    return lines


def _end(running: subprocess.Popen[str]) -> None:
    """End the launcher and what it started: the closed pipe ends the workers, wherever they are."""
    assert running.stdin is not None
    running.stdin.close()
    for sent in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(running.pid, sent)
        with contextlib.suppress(subprocess.TimeoutExpired):
            running.wait(_SECONDS_TO_END)
            return


def end_with_the_notebook() -> None:
    """End this worker as soon as the process that asked for the training is gone, however it went.

    Its end of the pipe, which every worker inherits as standard input, is then closed, by the system if by nobody
    else. Without this the workers of a killed notebook would go on for hours, and write into a folder that the next
    run continues from.
    """

    def wait() -> None:
        while os.read(0, 1024):  # nothing is ever written; an empty answer is the end
            pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _reason(lines: Sequence[str]) -> str:
    """Return the first error among what the processes said; the launcher adds pages of its own after it."""
    errors = [line for line in lines if re.match(r"(\[rank\d+\]: ?)?[\w.]+(Error|Exception)\b", line)]
    return errors[0] if errors else "\n".join(lines[-15:])


def main(workplace: Path) -> None:
    """Do the job in `workplace`, as one of the processes that accelerate started."""
    end_with_the_notebook()
    from accelerate import PartialState

    job: dict[str, Any] = json.loads((workplace / JOB).read_text(encoding="utf-8"))
    settings = Settings.model_validate(job["settings"])
    model, tokenizer = load_model(job["base"], settings)
    model = attach_lora(model, Lora(**job["lora"]), settings.seed)
    ledger = None
    if job["ledger"] and PartialState().is_main_process:
        ledger = Ledger(
            Path(job["ledger"]["path"]),
            experiment=job["ledger"]["experiment"],
            recipe=settings.recipe,
            profile=settings.profile,
            settings=settings.model_dump_json(),
        )
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
