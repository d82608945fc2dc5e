"""A PostgreSQL of the tests' own: a throw-away cluster from Debian's package, on a free port.

Loaded as a pytest plug-in.  Every test that uses it carries the mark `postgres`.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

OWNER = "postgres"  # the user that Debian's package makes; the server refuses to run as root
SUPERUSER = "atoll"
COMMAND_SECONDS_MAX = 60.0
SETTINGS = (
    "listen_addresses=127.0.0.1",
    "fsync=off",  # what the tests crash is the server, never the machine
    "full_page_writes=off",
    "max_connections=50",
    "shared_buffers=16MB",
)


class PostgresUnavailableError(Exception):
    """No PostgreSQL can be started here; the text says why."""


class PostgresServer:
    """One cluster in a folder of its own, started and stopped at will."""

    def __init__(self) -> None:
        self._binaries = _binaries()
        self._prefix = _unprivileged()
        self._folder = Path(tempfile.mkdtemp(prefix="atoll-postgres-"))
        self._data = self._folder / "data"
        self._password = secrets.token_hex(16)
        self._database_count = 0
        self.port = _free_port()
        secret = self._folder / "password"
        secret.write_text(self._password, "utf-8")
        if self._prefix:
            owner = pwd.getpwnam(OWNER)
            for path in (self._folder, secret):
                os.chown(path, owner.pw_uid, owner.pw_gid)
        authentication = ["--auth=scram-sha-256", f"--username={SUPERUSER}", f"--pwfile={secret}"]
        self._run("initdb", "--no-sync", "--encoding=UTF8", "--locale=C", *authentication)

    def start(self) -> None:
        """Start the server and wait until it answers."""
        options = [f"-p {self.port}", f"-k {self._folder}", *(f"-c {each}" for each in SETTINGS)]
        log = str(self._folder / "log")
        self._run("pg_ctl", "--wait", "start", f"--log={log}", "--options", " ".join(options))

    def stop(self, *, mode: str = "fast") -> None:
        """Stop it: `fast` breaks every connection, `immediate` is a crash."""
        self._run("pg_ctl", "--wait", "stop", f"--mode={mode}")

    def new_database(self) -> str:
        """Create an empty database; give its SQLAlchemy URL for asyncpg."""
        self._database_count += 1
        name = f"test_{self._database_count}"
        self._run("psql", "--quiet", "--command", f"CREATE DATABASE {name}", data=False)
        return f"postgresql+asyncpg://{SUPERUSER}:{self._password}@127.0.0.1:{self.port}/{name}"

    def remove(self) -> None:
        """Stop the server if it runs, and leave nothing behind."""
        if (self._data / "postmaster.pid").exists():
            self.stop(mode="immediate")
        shutil.rmtree(self._folder)

    def _run(self, program: str, *arguments: str, data: bool = True) -> None:
        environment = {
            "PATH": os.environ.get("PATH", ""),
            "PGHOST": "127.0.0.1",
            "PGPORT": str(self.port),
            "PGUSER": SUPERUSER,
            "PGPASSWORD": self._password,
            "PGDATABASE": "postgres",
            "LC_ALL": "C",
        }
        command = [*self._prefix, str(self._binaries / program), *arguments]
        log = self._folder / "commands.log"
        with log.open("w") as output:  # a file: the server keeps its starter's output open
            finished = subprocess.run(
                [*command, f"--pgdata={self._data}"] if data else command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                cwd=self._folder,
                timeout=COMMAND_SECONDS_MAX,
                check=False,
            )
        if finished.returncode:
            raise RuntimeError(f"{program} failed: {log.read_text('utf-8', 'replace')}")


def _binaries() -> Path:
    """Find the newest server's folder: Debian keeps servers outside the PATH."""
    versions = [p.parent for p in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if versions:
        return max(versions, key=lambda path: float(path.parent.name))
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    raise PostgresUnavailableError("PostgreSQL is not installed (apt-get install postgresql)")


def _unprivileged() -> Sequence[str]:
    """Say how to become an ordinary user; nothing to do for those who are."""
    if os.geteuid() != 0:
        return ()
    try:
        pwd.getpwnam(OWNER)
    except KeyError:
        raise PostgresUnavailableError(f"no user {OWNER!r} to run PostgreSQL as") from None
    return ("setpriv", f"--reuid={OWNER}", f"--regid={OWNER}", "--clear-groups")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _serve() -> Iterator[PostgresServer]:
    try:
        server = PostgresServer()
    except PostgresUnavailableError as error:
        pytest.skip(str(error))
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """Share one server among all tests of a worker; each takes databases of its own."""
    yield from _serve()


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """Start a server for one test, which may stop and restart it."""
    yield from _serve()


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> str:
    """Create an empty database for one test; give its SQLAlchemy URL."""
    return postgres.new_database()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs PostgreSQL, so that `--fast` can leave it out."""
    for item in items:
        if {"postgres", "own_postgres"} & set(getattr(item, "fixturenames", ())):
            item.add_marker("postgres")
