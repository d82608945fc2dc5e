"""Real node processes for tests: started by the command line, stopped by SIGTERM, judged at the end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from cli.environment import ROOT

READY = re.compile(r"^atoll: ready (https?://\S+)$", re.MULTILINE)
READY_SECONDS_MAX = 60.0  # an idle machine needs one or two; two busy test workers need more
STOP_SECONDS_MAX = 30.0  # the drain time and what follows it
COMMAND_SECONDS_MAX = 60.0
POLL_SECONDS = 0.02
OUTPUT_TAIL = 4000  # characters of a node's log shown when it fails


class NodeFailure(AssertionError):  # noqa: N818  a failed node is a failed assertion
    """A node did not start, did not stop cleanly, or wrote a traceback."""


class NodeProcess:
    """One `atoll up` with a data directory of its own.

    `url` is known from `start()` on.  `kill()` is a crash; after it, `start()` again.
    """

    def __init__(
        self,
        data: Path,
        *,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.data = data
        self.url = ""
        self._arguments = ["--http", "127.0.0.1:0", "--mesh", "127.0.0.1:0", *arguments]
        clean = {k: v for k, v in os.environ.items() if not k.startswith("ATOLL_")}
        self._environment = {**clean, "PYTHONPATH": str(ROOT), **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._stdout = data.with_name(f"{data.name}.stdout")
        self._stderr = data.with_name(f"{data.name}.stderr")

    @property
    def pid(self) -> int:
        """Name the process, for tests that measure or stop it themselves."""
        if self._process is None:
            raise NodeFailure("the node is not running")
        return self._process.pid

    @property
    def address(self) -> str:
        """Give HOST:PORT, as clients without URLs want it."""
        return self.url.partition("://")[2].rstrip("/")

    @property
    def admin_password(self) -> str:
        """Read the password that the first start made up for the user `admin`."""
        return (self.data / "admin.password").read_text("utf-8").strip()

    @property
    def log(self) -> str:
        """Read what the node has written to standard error so far."""
        return self._stderr.read_text("utf-8", "replace")

    def start(self) -> NodeProcess:
        """Start the process and wait until it says that it answers.  Raises NodeFailure."""
        command = [sys.executable, "-m", "cli", "up", "--data", str(self.data), *self._arguments]
        with self._stdout.open("wb") as stdout, self._stderr.open("ab") as stderr:
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,  # Ctrl-C in the terminal is the test's to handle
            )
        deadline = time.monotonic() + READY_SECONDS_MAX
        while not (ready := READY.search(self._stdout.read_text("utf-8", "replace"))):
            if (status := self._process.poll()) is not None:
                self.kill()
                raise NodeFailure(f"ended with {status}:\n{self._tail()}")
            if time.monotonic() > deadline:
                self.kill()
                raise NodeFailure(f"not ready in {READY_SECONDS_MAX} s:\n{self._tail()}")
            time.sleep(POLL_SECONDS)
        self.url = ready[1].rstrip("/")
        return self

    def stop(self) -> None:
        """Ask for a clean end and require one.  Raises NodeFailure; a stopped node is left alone."""
        if self._process is None:
            return
        process = self._process
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            status = process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.kill()
            raise NodeFailure(f"still alive {STOP_SECONDS_MAX} s after SIGTERM") from None
        self._process = None
        if status != 0 or "Traceback (most recent call last)" in self.log:
            raise NodeFailure(f"ended with {status}:\n{self._tail()}")

    def kill(self) -> None:
        """Crash the node: SIGKILL, no last word."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def command(self, *arguments: str) -> str:
        """Run `atoll ARGUMENTS` beside the node; return its standard output, stripped."""
        finished = subprocess.run(
            [sys.executable, "-m", "cli", *arguments],
            cwd=ROOT,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS_MAX,
            check=False,
        )
        if finished.returncode:
            text = " ".join(arguments)
            raise NodeFailure(f"`atoll {text}` ended with {finished.returncode}: {finished.stderr}")
        return finished.stdout.strip()

    def token(self, *scopes: str, name: str = "test") -> str:
        """Make an API token: the password, for any user name, of native clients."""
        wanted = [word for scope in scopes or ("write",) for word in ("--scope", scope)]
        return self.command("token", "create", "--data", str(self.data), "--name", name, *wanted)

    def invitation(self) -> str:
        """Make an invitation, for `arguments=["--join", …]` of another node."""
        return self.command("mesh", "invite", "--data", str(self.data))

    def _tail(self) -> str:
        return self.log[-OUTPUT_TAIL:]
