"""Suites of very many packages, hosted and merged: memory does not grow with them."""

from __future__ import annotations

import hashlib
import tempfile
import tracemalloc
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, BinaryIO, TypeVar, cast

import msgspec
import pytest

from formats.contract import BlobContent
from formats.debian import index, twins
from formats.debian.virtual import Builder, Suite
from formats.virtual import Document
from store.blobs import Ingested
from store.chunks import Manifest
from store.digest import Digest
from store.rows import Artifact, Pointer
from tests.formats.fake_repository import FakeRepository

T = TypeVar("T")
PACKAGES = 1000
WORDS = "what it is for and what it does " * 200  # more than six kilobytes of each stanza
ALLOWED = 11 << 19  # bytes: buffers of texts, twins and pages, whatever there is of packages


class DiskIngest:
    """Bytes on their way into a file."""

    def __init__(self, checksums: Iterable[str]) -> None:
        self.file = tempfile.TemporaryFile()  # noqa: SIM115  the repository keeps it
        self.hashes = {name: hashlib.new(name) for name in {*checksums, "sha256"}}
        self.size = 0
        self.result = cast("Ingested", None)

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        self.file.write(data)
        self.size += len(data)
        for each in self.hashes.values():
            each.update(data)

    def close(self) -> Ingested:
        sums = {name: each.hexdigest() for name, each in self.hashes.items()}
        digest = Digest.sha256(sums["sha256"])
        self.result = Ingested(digest, self.size, sums, Manifest(digest, self.size, ()))
        return self.result


class Large(FakeRepository):
    """Packages that are made when they are asked for, and blobs that lie on the disk."""

    def __init__(self) -> None:
        super().__init__()
        self.on_disk: dict[Digest, BinaryIO] = {}
        self.opened: list[BinaryIO] = []

    async def all_pointers(self, prefix: str = "") -> AsyncIterator[Pointer]:
        for number in range(PACKAGES):
            path = f"pool/main/p/p{number}/p{number}_1.0_amd64.deb"
            name = f"stable/main/amd64/p{number}_1.0_amd64.deb"
            yield Pointer("repo", f"p{number}", name, path.encode(), 0.0, (b"",))

    async def artifacts(self, package: str, version: str | None = None) -> list[Artifact]:
        control = {"Package": package, "Version": "1.0", "Architecture": "amd64"}
        stored = msgspec.json.encode({"control": {**control, "Description": f"{package} {WORDS}"}})
        path = f"pool/main/p/{package}/{package}_1.0_amd64.deb"
        sums = {"sha256": "0" * 64}
        place = ("repo", package, "1.0", path, "deb", Digest.sha256("0" * 64), 1)
        return [Artifact(*place, sums, stored, None, b"", 0.0, b"", "")]

    async def inspect(self, digest: Digest, reader: Callable[[BinaryIO], T]) -> T:
        return reader(self.on_disk[digest])

    @asynccontextmanager
    async def ingest(self, *, checksums: Iterable[str] = ()) -> AsyncGenerator[Any]:
        sink = DiskIngest(checksums)
        yield sink
        self.opened.append(cast("BinaryIO", sink.file))
        self.on_disk[sink.close().digest] = self.opened[-1]

    def forget(self) -> None:
        for file in self.opened:
            file.close()


class Members:
    """Two members that list the same packages, in one order and in the other."""

    def __init__(self, repository: Large, blob: Ingested) -> None:
        self.repository, self._blob = repository, blob

    async def blob(self, member: int, ask: object) -> BlobContent:
        return BlobContent(self._blob.digest, self._blob.size)

    async def may(self, member: int, name: str) -> bool:
        return True


@contextmanager
def large() -> Iterator[Large]:
    repository = Large()
    tracemalloc.start()
    try:
        yield repository
    finally:
        tracemalloc.stop()
        repository.forget()


async def test_a_suite_and_one_merged_of_such_are_never_in_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(twins, "XZ_PRESET", 0)  # by itself it takes 17 MiB
    with large() as repository:
        found = await index.Builder(repository, "stable").build({"main": ("amd64",)})
        listed = found["main/binary-amd64/Packages"]
        assert listed.size > PACKAGES * len(WORDS), "it is larger than what is allowed"
        assert listed.size > ALLOWED
        assert tracemalloc.get_traced_memory()[1] < ALLOWED
        tracemalloc.reset_peak()
        suites = [
            Suite(
                Document(n, f"m{n}", b"", "", {}, lambda _: True),
                {"Components": "main", "Architectures": "amd64"},
                frozenset({"main/binary-amd64/Packages"}),
            )
            for n in range(2)
        ]
        builder = Builder(cast("Any", Members(repository, listed)), "stable", suites)
        await builder._merge("main/binary-amd64/Packages", ["main/binary-amd64/Packages"])
        merged = builder.found["main/binary-amd64/Packages"]
        assert merged.size == listed.size + PACKAGES * len("members/m0/"), "each build once"
        assert tracemalloc.get_traced_memory()[1] < ALLOWED
