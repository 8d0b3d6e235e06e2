"""colab_setup.sh, without installing anything: its messages, its repairs and its stamp.

The script runs in a copy of the project with a PATH of our own; a small ``python3`` plays pip.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ("bash", "dirname", "df", "awk", "cat", "tail", "sed", "sort", "tr", "grep", "wc", "mkdir", "rm", "touch")

# Answers like a Python that makes environments and installs: every call of pip is noted, none is carried out.
PYTHON = f"""#!/bin/bash
case "$*" in
  "-m venv --clear .venv") mkdir -p .venv/bin; cp "$0" .venv/bin/python ;;
  "-m pip --version") echo pip ;;
  "-m pip list"*) cat "$FAKE/pip-list" 2>/dev/null ;;
  "-m pip install"*|"-m pip download"*|"-m pip uninstall"*|"-m uv"*)
    case "$*" in *" --report "*)
      echo '{{"install": [{{"metadata": {{"name": "numpy", "version": "2.4.6"}}}}]}}' >.venv/plan.json ;;
    esac
    echo "$*" >>"$FAKE/calls"
    for word in $(cat "$FAKE/refuse" 2>/dev/null); do
      case "$*" in *"$word"*) cat "$FAKE/reason"; exit 1 ;; esac
    done ;;
  "-m ruff"*|"-m pytest"*|"-c from lekhai"*) echo "CALLED $*" ;;
  "-c import torch"*) exit "$(cat "$FAKE/torch-fails" 2>/dev/null || echo 0)" ;;
  *forget-broken*) echo "nothing" ;; # the real one would look into, and repair, the environment of these tests
  *) exec {sys.executable} -S "$@" ;; # without site-packages: a bare machine
esac
"""
OLD = '#!/bin/bash\ncase "$*" in *platform*) echo 3.9.2 ;; *) exit 1 ;; esac\n'


class Machine:
    """A copy of the project and a PATH that holds only what the test puts there."""

    def __init__(self, folder: Path):
        self.project, self.bin, self.fake = folder / "a project", folder / "bin", folder / "fake"
        for place in (self.project / "lekhai_helpers" / "core", self.bin, self.fake):
            place.mkdir(parents=True)
        for name in ("colab_setup.sh", "requirements.txt", "pyproject.toml", "lekhai_helpers/core/pins.py"):
            shutil.copy(ROOT / name, self.project / name)
        for tool in (*TOOLS, "sleep", "uname", "cp"):
            self.program(tool, None)
        self.program("python3", PYTHON)

    def program(self, name: str, text: str | None) -> None:
        path = self.bin / name
        if text is None:
            path.symlink_to(shutil.which(name) or pytest.skip(f"this machine has no {name}"))
        else:
            path.write_text(text)
            path.chmod(0o755)

    def refuse(self, words: str, reason: str) -> None:
        """Let pip fail where its arguments hold one of these words, with `reason` as its output."""
        (self.fake / "refuse").write_text(words)
        (self.fake / "reason").write_text(reason + "\n")

    def run(self, *arguments: str, cwd: Path | None = None, **variables: str) -> subprocess.CompletedProcess:
        environment = {"PATH": str(self.bin), "HOME": str(self.fake), "FAKE": str(self.fake), **variables}
        script = str(self.project / "colab_setup.sh")
        return subprocess.run(
            ["bash", script, *arguments],
            capture_output=True, text=True, env=environment, cwd=cwd or self.project, timeout=60,
        )  # fmt: skip

    @property
    def calls(self) -> list[str]:
        path = self.fake / "calls"
        return path.read_text().splitlines() if path.exists() else []

    @property
    def stamp(self) -> Path:
        return self.project / ".venv" / "setup-stamp"


@pytest.fixture
def computer(tmp_path):
    return Machine(tmp_path)


def test_the_script_has_no_syntax_error():
    subprocess.run(["bash", "-n", str(ROOT / "colab_setup.sh")], check=True)


def test_a_python_too_old_is_named_with_the_way_out(computer):
    computer.program("python3", OLD)
    done = computer.run()
    assert done.returncode == 1
    assert "needs Python 3.11" in done.stderr and "3.9.2" in done.stderr
    assert not (computer.project / ".venv").exists()


def test_a_newer_python_beside_an_old_one_is_found(computer):
    computer.program("python3", OLD)
    computer.program("python3.12", PYTHON)
    assert computer.run().returncode == 0


def test_a_python_that_cannot_make_environments_leads_to_the_package_to_install(computer):
    """Debian ships Python without venv and ensurepip."""
    lame = PYTHON.replace("case", 'if [ "$2" = "import ensurepip, venv" ]; then exit 1; fi\ncase', 1)
    computer.program("python3", lame)
    done = computer.run()
    assert done.returncode == 1 and "python3-venv" in done.stderr


def test_too_little_disk_stops_before_anything_is_installed(computer):
    (computer.bin / "df").unlink()
    computer.program("df", "#!/bin/bash\nprintf 'a b c d\\nx 1 1 3145728 1 /\\n'\n")
    done = computer.run()
    assert done.returncode == 1 and "Only 3 GB" in done.stderr
    assert computer.calls == []


def test_an_unknown_word_is_refused(computer):
    done = computer.run("tset")
    assert done.returncode == 1 and "'tset'" in done.stderr


def test_the_parts_come_in_the_order_that_keeps_cuda_out(computer):
    """torch first, by its CPU build: whatever asks for torch later finds it there."""
    assert computer.run().returncode == 0
    kinds = [call.split()[-1] for call in computer.calls]
    assert kinds[0] == "torch==2.13.0+cpu"
    assert [kind.split("/")[-1] for kind in kinds[1:]] == ["plain.txt", "no-deps.txt", "base.txt", "."]
    by_file = {call.split()[-1].split("/")[-1]: call for call in computer.calls}
    assert "--no-deps" in by_file["no-deps.txt"]
    assert "--require-hashes" in by_file["base.txt"]
    assert "--no-build-isolation" in by_file["."]


def test_a_second_call_is_quick_and_installs_nothing(computer):
    computer.run()
    before = computer.calls
    done = computer.run()
    assert "set up already" in done.stdout
    assert computer.calls == before


def test_a_changed_pin_installs_again(computer):
    computer.run()
    before = len(computer.calls)
    with (computer.project / "requirements.txt").open("a") as file:
        file.write("\nattrs==26.1.0\n")
    computer.run()
    assert len(computer.calls) > before


def test_it_works_from_any_folder(computer, tmp_path):
    done = computer.run(cwd=tmp_path)
    assert done.returncode == 0 and computer.stamp.is_file()
    assert not (tmp_path / ".venv").exists()


def test_a_broken_off_set_up_is_repaired_by_the_next(computer):
    computer.refuse("no-deps.txt", "killed")
    assert computer.run().returncode == 1
    assert not computer.stamp.exists()
    (computer.fake / "refuse").unlink()
    done = computer.run()
    assert done.returncode == 0 and "repairing" in done.stdout
    assert computer.stamp.is_file()
    assert not (computer.project / ".venv" / "setup-unfinished").exists()


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("Failed to establish a new connection: Temporary failure in name resolution", "internet connection"),
        ("OSError: [Errno 28] No space left on device", "disk is full"),
        ("ERROR: No matching distribution found for x==1", "pip config list"),
        ("something else", "the whole story"),
    ],
)
def test_a_failing_step_says_why_and_shows_the_end_of_its_log(computer, reason, told):
    computer.refuse("plain.txt", reason)
    done = computer.run()
    assert done.returncode == 1
    assert reason in done.stderr and told in done.stderr


def test_without_the_cpu_build_in_pips_sources_uv_is_asked(computer):
    computer.refuse("+cpu", "No matching distribution found")
    assert computer.run().returncode == 0
    assert any(call.startswith("-m uv") and "--torch-backend=cpu" in call for call in computer.calls)


def test_without_any_cpu_build_it_stops_and_takes_no_cuda(computer):
    computer.refuse("+cpu --torch-backend", "No matching distribution found")
    done = computer.run()
    assert done.returncode == 1 and "CPU build" in done.stderr
    assert not any(call.endswith(" torch==2.13.0") and "uv" not in call for call in computer.calls)


def test_a_missing_base_stops_nobody(computer):
    computer.refuse("base.txt", "No matching distribution found")
    done = computer.run()
    assert done.returncode == 0
    assert "pinned by its SHA-256" in done.stdout and "English only" in done.stdout
    assert any("fallback.txt" in call for call in computer.calls)
    assert not computer.stamp.exists(), "the next call must ask for the base again"


def test_a_card_brings_its_own_torch_and_kernels(computer):
    computer.program("nvidia-smi", "#!/bin/bash\necho 'GPU 0: Tesla T4'\n")
    assert computer.run().returncode == 0
    assert any("--torch-backend=auto" in call for call in computer.calls)
    assert any("gpu.txt" in call for call in computer.calls)


def test_cuda_packages_without_a_card_are_noted(computer):
    (computer.fake / "pip-list").write_text("nvidia-cublas 13\nnvidia-nccl-cu13 2\n")
    assert "2 nvidia packages" in computer.run().stdout


def test_run_and_test_pass_their_words_on(computer):
    done = computer.run("run", "--name", "my shop")
    assert done.returncode == 0 and "run --name my shop" in done.stdout
    done = computer.run("test", "-k", "bengali")
    assert "-m ruff check ." in done.stdout and "-m pytest tests -k bengali" in done.stdout


def test_downloads_are_kept_beside_runs_that_live_elsewhere(computer, tmp_path):
    computer.refuse("--no-index", "not in the cache")
    computer.run(cwd=tmp_path, LEKHAI_RUNS="drive/runs")
    assert (tmp_path / "drive" / "runs" / "wheel-cache").is_dir()
    first, plan, download, _ = computer.calls[1:5]
    assert "--no-index" in first and "plain.txt" in first
    assert "--dry-run" in plan and "plain.txt" in plan
    assert "download" in download and "drive/runs/wheel-cache" in download and "--no-deps" in download
    assert (computer.project / ".venv" / "plan.txt").read_text() == "numpy==2.4.6\n"


def test_a_full_wheel_cache_asks_the_network_for_nothing_but_torch(computer, tmp_path):
    assert computer.run(LEKHAI_RUNS=str(tmp_path / "drive")).returncode == 0
    lists = [call for call in computer.calls if call.endswith(".txt")]
    assert len(lists) == 3 and all("--no-index" in call for call in lists)
    assert next(call for call in lists if "base.txt" in call).count("--require-hashes") == 1


def test_on_colab_its_own_python_is_used(computer):
    done = computer.run(COLAB_RELEASE_TAG="release", HOME=str(computer.fake))
    assert done.returncode == 0
    assert not (computer.project / ".venv").exists()
    assert (computer.fake / ".cache" / "lekhai" / "setup-stamp").is_file()


def test_a_restart_is_asked_for_where_colab_had_another_version(computer):
    """A notebook that has imported the old datasets goes on with it until it is restarted; Unsloth forbids it."""
    answer = '  *"pins.py changed"*) echo "datasets numpy" ;;\n  *) exec'
    computer.program("python3", PYTHON.replace("  *) exec", answer))
    first = computer.run(COLAB_RELEASE_TAG="release")
    assert "datasets numpy" in first.stdout and "Restart once" in first.stdout
    assert "Restart" not in computer.run(COLAB_RELEASE_TAG="release").stdout
    assert "Restart" not in computer.run().stdout


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups")
def test_an_interruption_says_that_the_next_call_repairs(computer):
    import signal
    import time

    slow = PYTHON.replace('"-m pip install"*', '*plain.txt) touch "$FAKE/there"; sleep 30 ;;\n  "-m pip install"*', 1)
    computer.program("python3", slow)
    environment = {"PATH": str(computer.bin), "HOME": str(computer.fake), "FAKE": str(computer.fake)}
    child = subprocess.Popen(
        ["bash", str(computer.project / "colab_setup.sh")],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        # Started in the background, the tests inherit an ignored SIGINT, and bash could not trap it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    deadline = time.monotonic() + 30
    while not (computer.fake / "there").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(child.pid, signal.SIGINT)
    told = child.communicate(timeout=20)[1]
    assert child.returncode == 130 and "repairs" in told
    assert not computer.stamp.exists()
