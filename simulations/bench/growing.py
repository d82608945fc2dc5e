"""Let a stopped node's repositories grow by many versions, through its own ledger.

A version that was published over HTTP is the pattern: its facts are repeated with other names and
digests, a record each, signed, stored and folded as any publish is.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec
import sqlalchemy as sa
import trio

from store import chain, records, schema
from store.appending import Appender
from store.database import Database, open_database
from store.facts import File, Publish
from store.ledger import Ledger
from store.projection import Tables

PROJECT, VERSION = "pattern", "7.7.7"  # what the patterns are published as
BATCH = 5_000  # versions in one transaction
VERSIONS = 10  # of a project
BLOBS_MAX = 20_000  # versions whose bytes are on the disk, too


@dataclass(frozen=True, slots=True)
class Grown:
    """One version: a project, its number, and where the node keeps its file."""

    project: str
    version: str

    @property
    def content(self) -> bytes:
        """Its bytes."""
        return f"{self.project} {self.version}\n".encode()

    def named(self, text: str) -> str:
        """A text of the pattern's, about this version."""
        return text.replace(PROJECT, self.project).replace(VERSION, self.version)


def grown(number: int) -> Grown:
    """The version with a number."""
    project, version = divmod(number, VERSIONS)
    return Grown(f"grown{project:06d}", f"1.0.{version}")


def grow(data: Path, repositories: Sequence[str], start: int, stop: int) -> None:
    """Publish the versions from ``start`` to ``stop`` in each of the repositories."""
    trio.run(_grow, data, repositories, start, stop)


async def _grow(data: Path, repositories: Sequence[str], start: int, stop: int) -> None:
    for number in range(start, min(stop, BLOBS_MAX)):
        place(data, grown(number).content)
    url = f"sqlite+aiosqlite:///{data / 'facts.db'}"
    async with open_database(url, schema.facts) as database:
        ledger = await Ledger.open(database, data)
        for repository in repositories:
            pattern = await database.read(partial(find_pattern, repository=repository))
            for first in range(start, stop, BATCH):
                numbers = range(first, min(first + BATCH, stop))
                facts = [about(pattern, grown(number)) for number in numbers]
                await _append(database, ledger, facts)


def place(data: Path, content: bytes) -> None:
    """Put a blob where the node keeps it."""
    name = hashlib.sha256(content).hexdigest()
    file = data / "blobs" / name[:2] / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)


def find_pattern(connection: sa.Connection, repository: str) -> Publish:
    """The publish that a client made.  Raises LookupError."""
    bodies = sa.select(schema.records.c.body).where(schema.records.c.scope == repository)
    for fact in publishes(connection.execute(bodies).scalars()):
        if PROJECT in fact.package:
            return fact
    raise LookupError(f"nothing to repeat in {repository}")


def publishes(bodies: Iterable[bytes]) -> Iterator[Publish]:
    """The publishes in records' bodies."""
    for body in bodies:
        for fact in records.read_body(body).facts:
            if isinstance(fact, Publish):
                yield fact


def about(pattern: Publish, version: Grown) -> Publish:
    """The pattern's facts, about another version."""
    files = tuple(_file(each, version) for each in pattern.files)
    return msgspec.structs.replace(
        pattern,
        package=version.named(pattern.package),
        version=version.named(pattern.version),
        files=files,
    )


def _file(pattern: File, version: Grown) -> File:
    content = version.content
    return msgspec.structs.replace(
        pattern,
        path=version.named(pattern.path),
        digest=f"sha256:{hashlib.sha256(content).hexdigest()}",
        size=len(content),
        checksums=(),
        manifest_id=b"",
        metadata=version.named(pattern.metadata.decode()).encode(),
    )


async def _append(database: Database, ledger: Ledger, facts: Sequence[Publish]) -> None:
    """Write records of facts about coordinates that hold nothing yet."""

    def unit(connection: sa.Connection) -> None:
        anchor = chain.read_anchor(connection, ledger.node)
        if anchor is None:
            raise LookupError("the node was never started")
        appender = Appender(connection, ledger.identity, anchor, ledger.authority)
        tables = Tables(connection, ledger.authority)
        for fact in facts:
            appender.add([fact], "bench", after=0, now=time.time())
        appender.flush({}, tables)
        tables.finish()

    await database.write(unit)
