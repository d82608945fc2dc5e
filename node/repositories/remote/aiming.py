"""What there is for an aim, and the small conversions around aims."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import BinaryIO
from urllib.parse import urljoin

import msgspec

from formats.contract import Format, Request, Route
from formats.remote import Aim, Origin, Promise
from node.repositories.remote.flight import Flight
from node.routing import RouteTable
from node.upstream.urls import join
from store.errors import UnavailableError
from store.rows import Artifact

TABLES: dict[str, RouteTable[Route]] = {}  # by format


@dataclass(frozen=True, slots=True)
class Found:
    """What there is for an aim, and how it was come by."""

    result: str  # hit | miss | stale | revalidated
    artifact: Artifact | None = None
    flight: Flight | None = None  # still arriving
    age: float = 0.0
    warning: str = ""

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """What the client is told of it."""
        told = [("x-cache", self.result.upper())]
        if self.result != "miss":
            told.append(("age", str(max(0, int(self.age)))))
        if self.warning:
            told.append(("warning", self.warning))
        return tuple(told)


@dataclass(frozen=True, slots=True)
class Announced:
    """Content of which nobody has a byte, as HEAD tells of it: its size, if that is known.

    Not b"", whose size and digest would be sent as if they were the content's.
    """

    size: int | None

    @asynccontextmanager
    async def spans(
        self, start: int, stop: int | None
    ) -> AsyncGenerator[tuple[int, AsyncIterator[tuple[int, int]]]]:
        """Nothing: there is no body to send."""
        raise UnavailableError(f"bytes {start} to {stop} were only announced")
        yield


def made_up(served: Format, path: str, accept: str) -> Request:
    """The request of a client that is not there.  Raises NotFoundError, PathInvalidError."""
    table = TABLES.setdefault(served.name, RouteTable(served.routes))
    headers = {"accept": accept} if accept else {}
    params = table.match("GET", path).params
    return Request("GET", path, "", "", params, headers=headers)


def nothing(file: BinaryIO) -> None:
    """Look at nothing of a blob that is only to be here."""


def based(aim: Aim, base: str) -> Aim:
    """The aim with absolute URLs."""
    index = based(aim.index, base) if aim.index is not None else None
    sidecars = tuple((algorithm, join(base, url)) for algorithm, url in aim.sidecars)
    return replace(aim, url=join(base, aim.url), index=index, sidecars=sidecars)


def absolute(promise: Promise, base: str) -> Promise:
    """The promise with an absolute URL, resolved where its document was found."""
    return replace(promise, url=urljoin(base, promise.url)) if promise.url else promise


def origin_of(artifact: Artifact) -> Origin:
    """Where kept bytes came from, if that is what their metadata says."""
    try:
        return msgspec.json.decode(artifact.metadata, type=Origin)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Origin()
