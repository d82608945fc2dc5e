"""An in-memory repository under the format contract: dictionaries for a catalog."""

from __future__ import annotations

import hashlib
import io
import random
import tempfile
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import BinaryIO, TypeVar

from formats.contract import (
    DOCUMENT_MAX,
    GENERATIONS_MIN,
    Accounts,
    Publish,
    Rendered,
    Session,
    Signer,
    Staged,
    Uploads,
)
from store import facts
from store.blobs import Ingest, Ingested
from store.chunks import Chunk, Manifest
from store.digest import Digest
from store.errors import (
    BlobUnknownError,
    DigestMismatchError,
    NotFoundError,
    PreconditionFailedError,
    SessionUnknownError,
    TooLargeError,
    UnauthorizedError,
    VersionExistsError,
)
from store.rows import Artifact, FlagRow, Pointer

T = TypeVar("T")
START = 1_700_000_000.0  # ledger time of the first publish; each later one adds a second


class FakeListing:
    """A long document, in a file of memory."""

    def __init__(self, data: bytes, modified: float) -> None:
        self.size, self.etag, self.modified = len(data), str(Digest.of(data)), modified
        self.data = data

    @asynccontextmanager
    async def spans(
        self, start: int, stop: int | None
    ) -> AsyncGenerator[tuple[int, AsyncIterator[tuple[int, int]]]]:
        async def pieces() -> AsyncIterator[tuple[int, int]]:
            yield start, (self.size if stop is None else stop) - start

        with tempfile.TemporaryFile(buffering=0) as file:
            file.write(self.data)
            yield file.fileno(), pieces()


# --- blobs --------------------------------------------------------------------------------------
class MemoryIngest:
    """Bytes on their way into a ``FakeRepository``."""

    def __init__(self, checksums: Iterable[str]) -> None:
        self.data = bytearray()
        self._checksums = tuple(checksums)
        self._result: Ingested | None = None

    @property
    def size(self) -> int:
        return len(self.data)

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        self.data += data

    @property
    def result(self) -> Ingested:
        assert self._result is not None, "the ingest block has not been left"
        return self._result

    def close(self) -> Ingested:
        self._result = ingested(bytes(self.data), self._checksums)
        return self._result


def ingested(data: bytes, checksums: Iterable[str] = ()) -> Ingested:
    """What an ingest of ``data`` would report."""
    digest = Digest.of(data)
    chunks = (Chunk(len(data), digest.raw),) if data else ()
    found = {name: hashlib.new(name, data).hexdigest() for name in sorted({*checksums, "sha256"})}
    return Ingested(digest, len(data), found, Manifest(digest, len(data), chunks))


# --- the small services -------------------------------------------------------------------------
class FakeUploads:
    """Upload sessions in memory."""

    def __init__(self, repository: FakeRepository) -> None:
        self.sessions: dict[str, tuple[str, bytearray]] = {}
        self._repository = repository
        self._count = 0

    async def create(self, package: str) -> Session:
        self._count += 1
        identity = f"session-{self._count}"
        self.sessions[identity] = (package, bytearray())
        return Session(identity, 0)

    def data(self, session: str, package: str | None = None) -> bytearray:
        owner, data = self.sessions.get(session, ("", None))
        if data is None or (package is not None and owner != package):
            raise SessionUnknownError(session)
        return data

    async def status(self, session: str, package: str) -> Session:
        return Session(session, len(self.data(session, package)))

    async def finish(self, session: str, package: str, expected: Digest | None = None) -> Ingested:
        data = bytes(self.data(session, package))
        if expected is not None:
            actual = hashlib.new(expected.algorithm, data).hexdigest()
            if actual != expected.hex:
                raise DigestMismatchError(expected, f"{expected.algorithm}:{actual}")
        del self.sessions[session]
        return self._repository.add_blob(data)

    async def abort(self, session: str, package: str) -> None:
        self.data(session, package)
        del self.sessions[session]


class FakeAccounts:
    """Users and tokens in memory: ``users`` is name → password."""

    def __init__(self) -> None:
        self.users = {"alice": "secret"}
        self.tokens: dict[str, str] = {}

    async def login(self, username: str, password: str) -> str:
        if self.users.get(username) != password:
            raise UnauthorizedError("wrong user name or password")
        token = f"token-{len(self.tokens) + 1}"
        self.tokens[token] = username
        return token

    async def logout(self, token: str) -> None:
        self.tokens.pop(token, None)


class FakeSigner:
    """Not OpenPGP: text in the right frame, deterministic as the contract asks."""

    async def public_key(self) -> bytes:
        return b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nfake\n-----END PGP PUBLIC KEY BLOCK-----\n"

    async def clear_sign(self, text: bytes, *, time: float) -> bytes:
        signature = await self.detach_sign(text, time=time)
        return b"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n" + text + b"\n" + signature

    async def detach_sign(self, data: bytes, *, time: float) -> bytes:
        value = hashlib.sha256(data + str(int(time)).encode()).hexdigest().encode()
        return b"-----BEGIN PGP SIGNATURE-----\n\n" + value + b"\n-----END PGP SIGNATURE-----\n"


# --- the repository -----------------------------------------------------------------------------
@dataclass
class FakeRepository:
    """A local repository whose catalog is a handful of dictionaries.

    With ``shuffle`` set, every listing whose order a renderer must not rely on comes in random order.
    """

    key: str = "repo"
    options: dict[str, object] = field(default_factory=dict)
    shuffle: random.Random | None = None
    blobs: dict[Digest, bytes] = field(default_factory=dict)
    files: dict[str, Artifact] = field(default_factory=dict)
    burnt: dict[str, Digest] = field(default_factory=dict)
    tags: dict[tuple[str, str], Pointer] = field(default_factory=dict)
    marks: dict[tuple[str, str, str, str], FlagRow] = field(default_factory=dict)
    revision: int = 0
    renders: int = 0  # how often a cached document was really rendered

    def __post_init__(self) -> None:
        self.uploads: Uploads = FakeUploads(self)
        self.accounts: Accounts = FakeAccounts()
        self.signer: Signer = FakeSigner()
        self._staged: dict[tuple[str, str], Staged] = {}
        self._cache: dict[str, tuple[int, Rendered]] = {}
        self._lists: dict[str, tuple[int, FakeListing]] = {}
        self._sets: dict[str, tuple[int, Mapping[str, Ingested]]] = {}
        self._generations: dict[str, list[Mapping[str, Ingested]]] = {}

    # -- reading
    def _listed(self, items: Iterable[T]) -> list[T]:
        found = list(items)
        if self.shuffle is not None:
            self.shuffle.shuffle(found)
        return found

    async def artifact(self, path: str) -> Artifact:
        found = await self.find(path)
        if found is None:
            raise NotFoundError(f"no such file: {path}")
        return found

    async def find(self, path: str) -> Artifact | None:
        return self.files.get(path)

    async def artifacts(self, package: str, version: str | None = None) -> Sequence[Artifact]:
        return self._listed(
            each
            for _, each in sorted(self.files.items())
            if each.package == package and version in (None, each.version)
        )

    async def each(self, package: str, prefix: str = "") -> AsyncIterator[Artifact]:
        for path, artifact in sorted(self.files.items()):
            if artifact.package == package:
                assert path.startswith(prefix)
                yield artifact

    async def by_digest(self, digest: Digest) -> Sequence[Artifact]:
        return self._listed(
            each
            for _, each in sorted(self.files.items())
            if each.digest == digest or each.checksums.get(digest.algorithm) == digest.hex
        )

    async def all_artifacts(self, prefix: str = "") -> AsyncIterator[Artifact]:
        for path in sorted(self.files, key=str.encode):
            if path.startswith(prefix):
                yield self.files[path]

    async def packages(
        self,
        *,
        prefix: str = "",
        after: str = "",
        limit: int = 1000,
        holding: Sequence[str] = (),
    ) -> Sequence[str]:
        names = {each.package for each in self.files.values()} | {each for each, _ in self.tags}
        wanted = [text.lower() for text in holding]
        fitting = (each for each in names if all(text in each.lower() for text in wanted))
        found = sorted(fitting, key=str.encode)
        after_bytes = after.encode("utf-8", "surrogatepass")
        return [n for n in found if n.startswith(prefix) and n.encode() > after_bytes][:limit]

    async def pointer(self, package: str, name: str) -> Pointer | None:
        return self.tags.get((package, name))

    async def pointers(self, package: str) -> Sequence[Pointer]:
        return self._listed(
            each for (owner, _), each in sorted(self.tags.items()) if owner == package
        )

    async def pointer_names(
        self, package: str, *, after: str = "", limit: int = 1000
    ) -> Sequence[str]:
        names = sorted(name for owner, name in self.tags if owner == package)
        return [name for name in names if name > after][:limit]

    async def all_pointers(self, prefix: str = "") -> AsyncIterator[Pointer]:
        for (package, _), each in sorted(self.tags.items()):
            if package.startswith(prefix):
                yield each

    async def flags(self, package: str) -> Sequence[FlagRow]:
        return self._listed(each for key, each in sorted(self.marks.items()) if key[0] == package)

    async def metadata(self, artifacts: Sequence[Artifact]) -> Sequence[bytes]:
        return [
            each.metadata if each.metadata_digest is None else self.blobs[each.metadata_digest]
            for each in artifacts
        ]

    async def load(self, digest: Digest, *, limit: int = DOCUMENT_MAX) -> bytes:
        data = self.blob(digest)
        if len(data) > limit:
            raise TooLargeError(f"{len(data)} bytes exceed {limit}")
        return data

    async def inspect(self, digest: Digest, reader: Callable[[BinaryIO], T]) -> T:
        return reader(io.BytesIO(self.blob(digest)))

    @asynccontextmanager
    async def ingest(self, *, checksums: Iterable[str] = ()) -> AsyncIterator[Ingest]:
        sink = MemoryIngest(checksums)
        yield sink
        self.blobs[sink.close().digest] = bytes(sink.data)

    def add_blob(self, data: bytes, checksums: Iterable[str] = ()) -> Ingested:
        """Store bytes directly, as the node does with a body."""
        result = ingested(data, checksums)
        self.blobs[result.digest] = data
        return result

    def blob(self, digest: Digest) -> bytes:
        """The bytes of a blob.  Raises BlobUnknownError."""
        for each, data in self.blobs.items():
            if each == digest or hashlib.new(digest.algorithm, data).hexdigest() == digest.hex:
                return data
        raise BlobUnknownError(str(digest))

    # -- staging and caches
    async def stage(
        self, package: str, name: str, blob: Ingested | Staged, metadata: bytes = b""
    ) -> None:
        self._staged[package, name] = Staged(
            name, blob.digest, blob.size, blob.checksums, metadata, START + self.revision
        )

    async def staged(self, package: str) -> Sequence[Staged]:
        return [each for (owner, _), each in sorted(self._staged.items()) if owner == package]

    async def unstage(self, package: str, name: str) -> None:
        self._staged.pop((package, name), None)

    async def cached(self, key: str, render: Callable[[], Awaitable[bytes]]) -> Rendered:
        revision, found = self._cache.get(key, (-1, None))
        if found is None or revision != self.revision:
            self.renders += 1
            data = await render()
            found = Rendered(data, str(Digest.of(data)), self.modified)
            self._cache[key] = (self.revision, found)
        return found

    async def composed(self, key: str, parts: Callable[[], AsyncGenerator[bytes]]) -> Rendered:
        async def render() -> bytes:
            return b"".join([each async for each in parts()])

        return await self.cached(key, render)

    async def listed(self, key: str, parts: Callable[[], AsyncGenerator[bytes]]) -> FakeListing:
        revision, found = self._lists.get(key, (-1, None))
        if found is None or revision != self.revision:
            self.renders += 1
            found = FakeListing(b"".join([each async for each in parts()]), self.modified)
            self._lists[key] = (self.revision, found)
        return found

    async def cached_set(
        self, key: str, build: Callable[[], Awaitable[Mapping[str, Ingested]]]
    ) -> Mapping[str, Ingested]:
        revision, found = self._sets.get(key, (-1, None))
        if found is None or revision != self.revision:
            self.renders += 1
            found = await build()
            self._sets[key] = (self.revision, found)
            self._generations.setdefault(key, []).insert(0, found)
            del self._generations[key][GENERATIONS_MIN:]
        return found

    async def generations(self, key: str) -> Sequence[Mapping[str, Ingested]]:
        return self._generations.get(key, [])

    @property
    def modified(self) -> float:
        return START + self.revision

    # -- writing
    def apply(self, publish: Publish) -> bool:
        """Commit a publish; tell whether anything was new.

        Raises VersionExistsError, PreconditionFailedError; nothing has changed then.
        """
        if not self._check(publish):
            self._consume(publish)
            return False
        self.revision += 1
        record = hashlib.sha256(self.revision.to_bytes(8, "big")).digest()
        for fact in publish.facts:
            match fact:
                case facts.Publish() | facts.Cached():
                    for file in fact.files:
                        self._put(fact, file, record)
                case facts.Point():
                    self._point(fact, record)
                case facts.Flag():
                    self._flag(fact, record)
                case facts.Delete():
                    held = self.files.get(fact.path)
                    if held is not None and held.record in fact.seen:
                        self.burnt[fact.path] = self.files.pop(fact.path).digest
                case facts.Restore():
                    self.burnt.pop(fact.path, None)
                case _:
                    raise AssertionError(f"no format may write {fact!r}")
        self._consume(publish)
        return True

    def _consume(self, publish: Publish) -> None:
        for place in publish.unstage:
            self._staged.pop(place, None)

    def _check(self, publish: Publish) -> bool:
        """Judge the facts against what is there; tell whether any of them changes anything."""
        changed = not publish.facts
        for fact in publish.facts:
            assert getattr(fact, "repository", self.key) == self.key, (
                "a fact for another repository"
            )
            if not isinstance(fact, facts.Publish):
                changed = True
                continue
            for file in fact.files:
                digest = Digest.parse(file.digest)
                assert len(self.blob(digest)) == file.size
                held = self.files.get(file.path)
                if held is not None and publish.only_if_new:
                    raise PreconditionFailedError(f"{file.path} exists")
                taken = held.digest if held is not None else self.burnt.get(file.path)
                replaceable = fact.mutable and (held is None or held.mutable)
                if taken is not None and taken != digest and not replaceable:
                    raise VersionExistsError(f"{file.path} is taken by {taken}")
                if held is not None and held.digest == digest and publish.strict:
                    raise VersionExistsError(f"{file.path} exists")
                changed = changed or held is None or held.digest != digest
        return changed

    def _put(self, fact: facts.Publish | facts.Cached, file: facts.File, record: bytes) -> None:
        digest, metadata = Digest.parse(file.digest), file.metadata
        held = self.files.get(file.path)
        if held is not None and held.digest == digest:
            return  # what is there stays, with its metadata
        metadata_digest = Digest.parse(file.metadata_digest) if file.metadata_digest else None
        if len(metadata) > facts.METADATA_INLINE_MAX:
            metadata_digest, metadata = self.add_blob(metadata).digest, b""
        mutable = isinstance(fact, facts.Publish) and fact.mutable
        self.files[file.path] = Artifact(
            repository=self.key,
            package=fact.package,
            version=fact.version,
            path=file.path,
            role=file.role,
            digest=digest,
            size=file.size,
            checksums={"sha256": digest.hex, **dict(file.checksums)},
            metadata=metadata,
            metadata_digest=metadata_digest,
            manifest_id=file.manifest_id,
            published=START + self.revision,
            record=record,
            author="fake",
            mutable=mutable,
        )

    def _point(self, fact: facts.Point, record: bytes) -> None:
        place = (fact.package, fact.name)
        held = self.tags.get(place)
        kept = tuple(r for r in held.records if r not in fact.seen) if held is not None else ()
        if fact.value is None:
            if held is not None and not kept:
                del self.tags[place]
            return
        siblings = (held.value,) if held is not None and kept else ()
        self.tags[place] = Pointer(
            self.key, *place, fact.value, START + self.revision, (*kept, record), siblings
        )

    def _flag(self, fact: facts.Flag, record: bytes) -> None:
        place = (fact.package, fact.version, fact.path, fact.name)
        held = self.marks.get(place)
        if fact.value is not None:
            kept = tuple(r for r in held.records if r not in fact.seen) if held is not None else ()
            row = FlagRow(self.key, *place, fact.value, START + self.revision, (*kept, record))
            self.marks[place] = row
        elif held is not None and set(held.records) <= set(fact.seen):
            del self.marks[place]
