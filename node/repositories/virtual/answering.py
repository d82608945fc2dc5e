"""A virtual repository's answer to a read: its members asked, their answers merged or passed on."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import msgspec
import structlog
import trio

from formats.contract import BlobContent, Format, Publish, Repository, Request, Response, Route
from formats.remote import DOCUMENT_MAX
from formats.virtual import Ask, Document, Virtual, Withheld
from node.directory import RepositoryEntry
from node.metrics import Metrics
from node.repositories.local import LocalRepository, Services
from node.repositories.rendered import Numbers, Shelf
from node.repositories.virtual.members import Crew, Leaf
from node.repositories.virtual.owned import Owned
from node.repositories.virtual.view import VirtualRepository
from node.routing import RouteTable
from store.blobs import Ingested
from store.digest import Digest
from store.errors import (
    MethodNotAllowedError,
    NotFoundError,
    RegistryError,
    TooLargeError,
    UnavailableError,
)

log = structlog.get_logger(__name__)
ASKED_MAX = 8  # members asked at a time for one request
DOCUMENTS_MAX = 128 << 20  # bytes of documents that are merged into one
SHELF_MAX = 16 << 20  # bytes of merged documents that are kept in memory
THREAD_FROM = 256 << 10  # bytes of documents whose merging is left to a thread
PARTIAL = ("warning", '199 - "A member did not answer"')


class Remote(Protocol):
    """A remote member's own answers."""

    async def answer(self, request: Request) -> Response | None: ...


class Counts:
    """What virtual repositories answered, for metrics."""

    def __init__(self, metrics: Metrics) -> None:
        self._answers = metrics.counter(
            "virtual_answers", "Answers of virtual repositories", ("repository", "outcome")
        )
        self._guarded = metrics.counter(
            "virtual_guarded", "Requests for names kept from remote members", ("repository",)
        )

    def answer(self, repository: str, outcome: str, *, guarded: bool) -> None:
        """Count a request: whole, partial (a member did not answer), missing or failed."""
        self._answers.labels(repository, outcome).inc()
        if guarded:
            self._guarded.labels(repository).inc()


@dataclass(slots=True)
class Merger:
    """What the virtual repositories of a node share."""

    services: Services
    remote: Callable[[RepositoryEntry], Remote | None]
    counts: Counts
    shelf: Shelf[Response] = field(default_factory=lambda: Shelf(SHELF_MAX, _weigh))
    numbers: Numbers = field(default_factory=Numbers)
    tables: dict[str, RouteTable[Route]] = field(default_factory=dict[str, RouteTable[Route]])
    owned: Owned = field(init=False)

    def __post_init__(self) -> None:
        self.owned = Owned(self.services.catalog)

    def routes(self, served: Format) -> RouteTable[Route]:
        """The format's routes, compiled once."""
        return self.tables.setdefault(served.name, RouteTable(served.routes))

    def open(self, crew: Crew, served: Format) -> VirtualRepository:
        """What is kept of all members, as the format's handlers see it."""
        by_path = served.virtual is not None and served.virtual.by_path
        return VirtualRepository(crew, crew.leaves, self.services, by_path=by_path)


def _weigh(response: Response) -> int:
    return 1024 + (len(response.content) if isinstance(response.content, bytes) else 0)


def _kept_by(leaf: Leaf, owner: str, names: Collection[str]) -> set[str]:
    """Those names of an owner that a member is not asked for."""
    return {each for each in names if owner in leaf.owners(each)}


class VirtualAnswers:
    """Answers one request: the ``Members`` of the format contract."""

    def __init__(
        self,
        merger: Merger,
        crew: Crew,
        served: Format,
        request: Request,
        target: RepositoryEntry | None,
    ) -> None:
        self._merger, self._crew, self._format = merger, crew, served
        self._request, self._target = request, target
        self._view = merger.open(crew, served)
        self._failed = False

    async def answer(self) -> Response:
        """Answer, or let the format's own handler answer from what is kept.

        No answer has a date: it would not show that the members are others now.
        """
        outcome = "failed"
        try:
            response = await self._answer()
            outcome = "partial" if self._failed else "whole"
        except RegistryError as error:
            outcome = "failed" if error.status >= 500 else "missing"
            raise
        finally:
            key, guarded = self._crew.entry.key, self._view.guarded
            self._merger.counts.answer(key, outcome, guarded=guarded)
        headers = (*response.headers, PARTIAL) if self._failed else response.headers
        return replace(response, headers=headers, modified=None)

    async def _answer(self) -> Response:
        virtual = self._format.virtual or Virtual()
        try:
            response = await virtual.answer(self._request, self)
        except msgspec.DecodeError as error:  # an upstream's document that is none
            log.warning("virtual.unreadable", repository=self._crew.entry.key, why=str(error))
            told = f"a member of {self._crew.entry.key} answers what cannot be read"
            raise UnavailableError(told) from error
        if response is None:
            response = replace(await self._handled(self._request, self._view), immutable=False)
        return response

    @property
    def repository(self) -> Repository:
        """What is kept of all members, as one repository."""
        return self._view

    @property
    def outside(self) -> bool:
        """Whether a member looks outside."""
        return any(leaf.remote for leaf in self._crew.leaves)

    # --- documents -------------------------------------------------------------------------------
    async def documents(self, name: str, ask: Ask) -> Sequence[Document]:
        """What the members that may be asked for ``name`` answer, in order."""
        found: dict[int, Document] = {}
        errors: dict[int, RegistryError] = {}
        limiter, size = trio.CapacityLimiter(ASKED_MAX), 0

        async def collect(number: int) -> None:
            nonlocal size
            async with limiter:
                try:
                    document = await self._document(number, ask)
                except NotFoundError:
                    return
                except RegistryError as error:
                    if error.status < 500:
                        raise
                    errors[number] = error
                    self._note(number, error)
                    return
            size += len(document.data)
            if size > DOCUMENTS_MAX:
                raise UnavailableError(f"what {self._crew.entry.key} would list is too large")
            found[number] = document

        async with trio.open_nursery() as nursery:
            for number, leaf in enumerate(self._crew.leaves):
                if not name or await self._view.admits(leaf, name):
                    nursery.start_soon(collect, number)
        for number, error in sorted(errors.items()):
            # Of a name that it is known to have, another's list would show what it then gives.
            if not found or await self._known(self._crew.leaves[number], name):
                raise error
        return [found[number] for number in sorted(found)]

    async def _document(self, number: int, ask: Ask) -> Document:
        response = await self.of(number, ask)
        if response.status != 200:
            raise NotFoundError(f"no {ask.path[:300]}")
        leaf = self._crew.leaves[number]
        return Document(
            number,
            leaf.entry.key,
            await self.load(response),
            response.media_type,
            {key.lower(): value for key, value in response.headers},
            leaf.admits,
            leaf.remote,
        )

    async def named(self, key: str, name: str) -> int:
        """The member of this key that may be asked for ``name``.  Raises NotFoundError."""
        for number, leaf in enumerate(self._crew.leaves):
            if leaf.entry.key == key and await self._view.admits(leaf, name):
                return number
        raise NotFoundError(f"{self._crew.entry.key} has no {self._request.path[:300]}")

    async def keeper(self, path: str) -> int | None:
        """The first member that keeps a file at a path, and may be asked for it."""
        for number, leaf in enumerate(self._crew.leaves):
            if await self._alone(leaf).find(path) is not None:
                return number
        return None

    async def may(self, member: int, name: str) -> bool:
        """Whether a member may be asked for ``name``: by its rules, and by the guard."""
        return await self._view.admits(self._crew.leaves[member], name)

    async def withheld(self, member: int) -> Withheld:
        """Names that a member may list and is not asked for; their owners do not list them."""
        leaf, owned = self._crew.leaves[member], self._merger.owned
        owners = self._crew.owners(leaf)

        async def names() -> set[str]:
            found: set[str] = set()
            for key, hidden in owners.items():
                held = (await (owned.all(key) if hidden else owned.former(key))).held
                found |= await trio.to_thread.run_sync(_kept_by, leaf, key, held)
            return found

        told = (f"{owned.mark(key)} {'all' if hidden else ''}" for key, hidden in owners.items())
        return Withheld(" ".join(told), names)

    async def blob(self, member: int, ask: Ask) -> BlobContent:
        """What a member answers, whole and in the store, however large it is."""
        for _ in range(2):
            try:
                content = (await self.of(member, ask)).content
            except RegistryError as error:
                if error.status >= 500:
                    self._note(member, error)
                raise
            if isinstance(content, BlobContent):
                return content
            if isinstance(content, bytes):
                break
            async with content.spans(0, None) as (_, parts):  # read away: then it is kept
                async for _ in parts:
                    pass
        raise UnavailableError(f"{ask.path[:300]} was not kept")

    async def set(
        self,
        key: str,
        documents: Sequence[Document],
        build: Callable[[], Awaitable[Mapping[str, Ingested]]],
    ) -> Sequence[Mapping[str, Ingested]]:
        """A set of generated documents made of others, and the sets before it, newest first."""
        cache, place = self._merger.services.cache, (self._crew.entry.key, self._mark(key))
        made_of = hashlib.sha256()
        for each in documents:
            made_of.update(f"{each.key} {Digest.of(each.data)}\n".encode())
        for owner in self._crew.guarding:  # whose names decide what is listed, in any suite
            made_of.update(f"{self._merger.owned.mark(owner)}\n".encode())
        revision = self._merger.numbers.of(place, made_of.digest())
        current = await cache.document_set(place, lambda: revision, build)
        return [current, *cache.generations(place)]

    def _mark(self, key: str) -> str:
        return f"{self._crew.mark} {key}"

    async def load(self, response: Response) -> bytes:
        """The bytes of a small answer.  Raises TooLargeError."""
        content = response.content
        if isinstance(content, bytes):
            return content
        if isinstance(content, BlobContent):
            return await self._view.load(content.digest, limit=DOCUMENT_MAX)
        data = bytearray()
        async with content.spans(0, None) as (file, parts):
            async for offset, count in parts:
                if offset + count > DOCUMENT_MAX:
                    raise TooLargeError(f"a document of more than {DOCUMENT_MAX} bytes")
                data += os.pread(file, count, offset)
        return bytes(data)

    async def merged(
        self,
        key: str,
        documents: Sequence[Document],
        build: Callable[[], Response],
        gather: Callable[[], Awaitable[None]] | None = None,
    ) -> Response:
        """An answer made of documents, kept until one of them changes."""
        size = sum(len(each.data) for each in documents)
        threaded = size > THREAD_FROM
        in_thread, told = trio.to_thread.run_sync, ""
        for each in documents:
            digest = await in_thread(Digest.of, each.data) if threaded else Digest.of(each.data)
            told += f"{each.key}={digest} "
        place = f"{self._mark(key)} {self._request.base_url} {told}"

        async def make() -> Response:
            if gather is not None:
                await gather()
            far = threaded or gather is not None
            return await trio.to_thread.run_sync(build) if far else build()

        return await self._merger.shelf.get((self._crew.entry.key, place), lambda: 0, make)

    # --- single answers --------------------------------------------------------------------------
    async def first(self, name: str, *, addressed: bool = False) -> Response:
        """The answer of the first member that has what is asked for."""
        failed: RegistryError | None = None
        for number, leaf in enumerate(self._crew.leaves):
            if name and not await self._view.admits(leaf, name):
                continue
            try:
                response = await self.of(number)
            except NotFoundError:
                continue
            except RegistryError as error:
                if error.status < 500 or (not addressed and await self._known(leaf, name)):
                    raise
                self._note(number, error)
                failed = failed or error
                continue
            return response if addressed else replace(response, immutable=False)
        if failed is not None:
            raise failed
        raise NotFoundError(f"{self._crew.entry.key} has no {self._request.path[:300]}")

    async def _known(self, leaf: Leaf, name: str) -> bool:
        """Whether a member that failed is known to have the name."""
        return bool(name) and await self._view.owns(leaf.entry.key, name)

    async def of(self, member: int, ask: Ask | None = None) -> Response:
        """The answer of one member, to the request at hand or to another question."""
        leaf = self._crew.leaves[member]
        request = self._request if ask is None else self._asking(ask)
        remote = self._merger.remote(leaf.entry)
        answered = await remote.answer(request) if remote is not None else None
        if answered is None:
            answered = await self._handled(request, self._alone(leaf))
        return answered if ask is not None else replace(answered, immutable=False)

    def _alone(self, leaf: Leaf) -> VirtualRepository:
        """What is kept of one member."""
        by_path = self._format.virtual is not None and self._format.virtual.by_path
        return VirtualRepository(self._crew, [leaf], self._merger.services, by_path=by_path)

    def _asking(self, ask: Ask) -> Request:
        """A member's question: nothing of the client's own but who it is and where it asked."""
        match = self._merger.routes(self._format).match("GET", ask.path)
        return replace(
            self._request,
            method="GET",
            path=ask.path,
            params=match.params,
            query=ask.query,
            headers={"accept": ask.accept} if ask.accept else {},
        )

    async def _handled(self, request: Request, repository: Repository) -> Response:
        match = self._merger.routes(self._format).match(request.method, request.path)
        answer = await match.route.handler(request, repository)
        if isinstance(answer, Publish):
            raise MethodNotAllowedError(f"{self._crew.entry.key} is virtual")
        return answer

    def _note(self, number: int, error: RegistryError) -> None:
        self._failed = True
        key, member = self._crew.entry.key, self._crew.leaves[number].entry.key
        log.info("a member did not answer", repository=key, member=member, why=str(error))

    # --- publishing ------------------------------------------------------------------------------
    @property
    def publishing(self) -> bool:
        """Whether the caller may publish to the deploy target, and there is one."""
        return self._target is not None

    async def target(self) -> Response:
        """What the deploy target answers, to somebody who is about to change it.

        Also of what waits there for its commit point: a client looks whether its layers arrived.
        """
        target = self._target
        if target is not None and any(e.entry.key == target.key for e in self._crew.leaves):
            services, checksums = self._merger.services, self._format.checksums
            repository = LocalRepository(target, services, checksums)
            return replace(await self._handled(self._request, repository), immutable=False)
        raise NotFoundError(f"{self._crew.entry.key} has no deploy target")
