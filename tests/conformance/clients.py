"""The real package clients that conformance tests drive, installed outside the tree.

Seven groups are installed side by side.  What cannot be had is written down with its reason, and the
tests that need it are skipped with that reason.  A second run finds everything in place.
`python -m tests.conformance.clients` installs and lists.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from cli.environment import locked
from tests.conformance import installers
from tests.conformance.installers import Command, Found, directory

VERSION_SECONDS_MAX = 60.0
VERSION_LENGTH_MAX = 72
VERSION_ARGUMENTS = {
    "crane": "version",
    "ip": "-V",
    "java": "-version",
    "nginx": "-v",
    "wrk": "-v",
}
VERSION_COMMANDS = {  # these cannot be asked themselves
    "oci-conformance": ["echo", installers.GO["oci-conformance"].rpartition("@")[2]],
    "dput": ["dpkg-query", "-W", "dput-ng"],
    "ivy": ["dpkg-query", "-W", "ivy"],
}


@dataclass(frozen=True, slots=True)
class Client:
    """One installed client: run `path`, whatever language it is written in."""

    name: str
    path: Path
    version: str


@dataclass(frozen=True, slots=True)
class MissingClient:
    """A client that this machine cannot have, and why."""

    name: str
    reason: str


def available() -> dict[str, Client | MissingClient]:
    """List every client, installing first if no earlier run did.  Safe in concurrent processes."""
    with locked(directory() / "lock"):
        return _read() or _install()


def install() -> dict[str, Client | MissingClient]:
    """Install what is not there yet, trying again what failed before."""
    with locked(directory() / "lock"):
        found = _read()
        if found and not any(isinstance(client, MissingClient) for client in found.values()):
            return found
        return _install()


def _recipe() -> str:
    return hashlib.sha256(
        Path(__file__).read_bytes() + Path(installers.__file__).read_bytes()
    ).hexdigest()


def _read() -> dict[str, Client | MissingClient]:
    """Read what an earlier run with these same recipes wrote; nothing if it no longer holds."""
    try:
        record = json.loads((directory() / "clients.json").read_text("utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    if record["recipe"] != _recipe():
        return {}
    found: dict[str, Client | MissingClient] = {}
    for entry in record["clients"]:
        if "reason" in entry:
            found[entry["name"]] = MissingClient(**entry)
        elif Path(entry["real"]).exists() and Path(entry["path"]).exists():
            found[entry["name"]] = Client(entry["name"], Path(entry["path"]), entry["version"])
        else:
            return {}
    return found


def _install() -> dict[str, Client | MissingClient]:
    """Run every group and record what came of it."""
    (directory() / "bin").mkdir(exist_ok=True)
    with ThreadPoolExecutor() as pool:
        debian = pool.submit(_timed, "Debian", installers.debian_clients)
        others = [
            pool.submit(_timed, "PyPI", installers.pypi_clients),
            pool.submit(_timed, "Debian's pip", installers.debian_pip),
            pool.submit(_timed, "npm", installers.npm_clients),
            pool.submit(_timed, "Go", installers.go_clients),
        ]
        commands = debian.result()  # Maven itself comes from Debian, and a compiler
        others.append(pool.submit(_timed, "libp2p", installers.libp2p_library))
        others.append(pool.submit(_timed, "Maven", lambda: installers.maven_plugins(commands)))
        for group in others:
            commands = {**commands, **group.result()}
        for name, command in commands.items():
            if not isinstance(command, str):
                _wrap(name, command)  # all before the first runs: a fork would hold them open
        names = sorted(commands)
        clients = list(pool.map(_client, names, [commands[name] for name in names]))
    entries = [
        {
            **asdict(client),
            **({"real": _executable(commands[client.name])} if isinstance(client, Client) else {}),
        }
        for client in clients
    ]
    draft = directory() / "clients.json.draft"
    draft.write_text(
        json.dumps({"recipe": _recipe(), "clients": entries}, default=str, indent=1), "utf-8"
    )
    draft.replace(directory() / "clients.json")
    return {client.name: client for client in clients}


def _timed(name: str, group: Callable[[], Found]) -> Found:
    started = time.monotonic()
    found = group()
    sys.stderr.write(f"clients: {name} took {time.monotonic() - started:.1f} s\n")
    return found


def _wrap(name: str, command: Command) -> None:
    """Give the client a script of its own name, so that one PATH holds them all."""
    path = directory() / "bin" / name
    draft = path.with_name(f"{name}.draft")
    draft.write_text(f'#!/bin/sh\nexec {shlex.join(map(str, command))} "$@"\n', "utf-8")
    draft.chmod(0o755)
    draft.replace(path)


def _client(name: str, command: Command | str) -> Client | MissingClient:
    """Ask a client for its version: the proof that it runs."""
    if isinstance(command, str):
        return MissingClient(name, command)
    path = directory() / "bin" / name
    ask: Command = VERSION_COMMANDS.get(name) or [path, VERSION_ARGUMENTS.get(name, "--version")]
    asked = installers.finish(ask, {**os.environ, "PATH": search_path()}, VERSION_SECONDS_MAX)
    lines = [line for line in asked.stdout.splitlines() if any(map(str.isdigit, line))]
    if asked.returncode not in {0, 1} or not lines:  # wrk prints version and usage, and exits 1
        return MissingClient(name, f"it does not run: {installers.reason(asked.stdout)}")
    return Client(name, path, installers.ANSI.sub("", lines[0]).strip()[:VERSION_LENGTH_MAX])


def _executable(command: Command | str) -> Path:
    """Name the file whose loss makes the command useless."""
    return Path(str(command[-1]) if Path(command[-1]).exists() else str(command[0]))


def search_path() -> str:
    """Make the PATH of a test: our clients first, then the system's own folders."""
    return f"{directory() / 'bin'}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def main() -> None:
    """Install every client and list what there is."""
    started = time.monotonic()
    for client in install().values():
        text = client.version if isinstance(client, Client) else f"MISSING: {client.reason}"
        sys.stdout.write(f"{client.name:18} {text}\n")
    sys.stdout.write(f"clients ready in {time.monotonic() - started:.1f} s\n")


if __name__ == "__main__":
    main()
