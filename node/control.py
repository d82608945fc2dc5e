"""The control connection: how commands on this machine reach the running node.

A loopback listener of its own and a random secret, both named in ``DATA/control.json`` (0600).  Who
can read the data directory could read every secret in it anyway, so the secret makes the operator.
"""

from __future__ import annotations

import fcntl
import hmac
import json
import os
import secrets
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from store.errors import ConflictError

FILE = "control.json"
LOCK = "lock"
LOOPBACK = frozenset({"127.0.0.1", "::1", "::ffff:127.0.0.1"})


class DirectoryBusyError(ConflictError):
    """Another process works on this data directory."""


@dataclass(slots=True)
class Control:
    """The secret of this run."""

    secret: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)

    def accepts(self, offered: str, address: str) -> bool:
        """Tell whether a loopback caller knows the secret."""
        local = address in LOOPBACK
        return hmac.compare_digest(offered.encode(), self.secret.encode()) and local

    def publish(self, data: Path, url: str) -> None:
        """Write where and how to reach the node, for its owner's eyes only."""
        text = json.dumps({"url": url, "secret": self.secret, "pid": os.getpid()})
        temporary = data / f"{FILE}.new"
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        temporary.replace(data / FILE)

    def withdraw(self, data: Path) -> None:
        """Take back what ``publish`` wrote: nobody else may be given the secret on that port."""
        try:
            found = json.loads((data / FILE).read_text())
            if found.get("secret") == self.secret:
                (data / FILE).unlink()
        except (OSError, ValueError, AttributeError):
            return  # gone already, or not ours


@contextmanager
def locked(data: Path) -> Generator[None]:
    """Own the data directory.  Raises DirectoryBusyError when another process does (ruling 1)."""
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(data / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DirectoryBusyError(f"another process is using {data}") from None
        yield
    finally:
        os.close(descriptor)
