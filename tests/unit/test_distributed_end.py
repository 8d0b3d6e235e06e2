"""Where the notebook is interrupted or killed, its workers end too: nobody goes on writing into the checkpoints."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

# As torch's launcher does it: every worker is in a session of its own, where no signal to a group reaches it.
WORKER = """
import os, sys, time
from lekhai_helpers.learn.distributed import end_with_the_notebook
end_with_the_notebook()
while True:
    with open(sys.argv[1], "w") as place:
        place.write(str(os.getpid()))
    time.sleep(0.05)
"""
LAUNCHER = f"""
import subprocess, sys
workers = [
    subprocess.Popen([sys.executable, "-c", {WORKER!r}, f"{{sys.argv[1]}}/{{n}}"], start_new_session=True)
    for n in range(2)
]
for worker in workers:
    worker.wait()
"""
# A kernel listens for an interrupt even where it was started in the background, where a shell has it ignored.
NOTEBOOK = f"""
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from lekhai_helpers.core.recipe import resolve
from lekhai_helpers.learn.distributed import _run
_run([sys.executable, "-c", {LAUNCHER!r}, sys.argv[1]], resolve("lekhai", "smoke", {{}}))
"""


def within(seconds, condition):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.1)
    return condition()


def gone(number):
    return not psutil.pid_exists(number) or psutil.Process(number).status() == psutil.STATUS_ZOMBIE


def read(path):
    return path.read_text() if path.exists() else ""


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM], ids=lambda sent: sent.name)
def test_workers_end_within_seconds_of_the_notebook_however_it_ends(tmp_path, sent):
    files = [tmp_path / "0", tmp_path / "1"]
    notebook = subprocess.Popen([sys.executable, "-c", NOTEBOOK, str(tmp_path)], stderr=subprocess.DEVNULL)
    try:
        assert within(60, lambda: all(read(file) for file in files)), "the workers did not start"
        started = [int(read(file)) for file in files] + [child.pid for child in psutil.Process(notebook.pid).children()]
        assert len(started) == 3
        os.kill(notebook.pid, sent)
        assert within(15, lambda: all(map(gone, started)))
    finally:
        notebook.kill()
        notebook.wait()


def test_a_worker_that_has_done_its_job_ends_as_ever():
    """A thread that waits for input can hold up, or break, the end of the interpreter."""
    code = "from lekhai_helpers.learn.distributed import end_with_the_notebook as guard; guard(); print('done')"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as worker:
        assert (worker.stdout.read(), worker.stderr.read(), worker.wait(30)) == ("done\n", "", 0)
