"""How a format answers for several repositories at once: its documents merged, its files routed.

A virtual repository asks each of its members what a client would ask it, in order, and the format
makes one answer of theirs.  A file comes from the member whose entry stands in the merged index, so
that index and download never disagree.  Who may see a member, and which names it is asked for, is
judged by the node before a format hears of it (formats.md rules 29 and 30).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, cast

import msgspec

from formats.repository import Repository
from store.blobs import Ingested
from store.errors import NotFoundError

if TYPE_CHECKING:
    from formats.contract import BlobContent, Request, Response  # which imports this module


@dataclass(frozen=True, slots=True)
class Ask:
    """What a member is asked: a path below its mount, as a client would write it."""

    path: str
    accept: str = ""
    query: Mapping[str, Sequence[str]] = field(default_factory=dict[str, Sequence[str]])


@dataclass(frozen=True, slots=True)
class Document:
    """What one member answered.  ``member`` is its place among all, the first being 0.

    ``admits`` tells whether the member may be asked for a name, by its routing rules and the names
    that are reserved; not whether another one owns it: mostly that one's entry is listed anyway
    (``Members.withheld``).
    """

    member: int
    key: str
    data: bytes
    media_type: str
    headers: Mapping[str, str]
    admits: Callable[[str], bool]
    remote: bool = False


@dataclass(frozen=True, slots=True)
class Withheld:
    """Names that a member is not asked for.  ``mark`` tells them from others, as long as they are.

    There may be very many: ``names`` reads them, only when a list is made.
    """

    mark: str
    names: Callable[[], Awaitable[Collection[str]]]


class Members(Protocol):
    """The members that this caller may read, in order."""

    @property
    def repository(self) -> Repository:
        """What is kept of all members, as one repository: the first that has a thing gives it."""
        ...

    @property
    def outside(self) -> bool:
        """Whether a member looks outside; if none does, ``repository`` knows all there is."""
        ...

    async def documents(self, name: str, ask: Ask) -> Sequence[Document]:
        """What the members that may be asked for ``name`` answer; those without are left out.

        The name "" is everybody's: then the format filters what it finds by ``admits``.  Raises
        UnavailableError when nobody has it and somebody could not be asked, or when somebody could
        not be asked who is known to have it.
        """
        ...

    async def first(self, name: str, *, addressed: bool = False) -> Response:
        """The answer of the first member that has what is asked for.

        A member that fails is passed over, unless it is known to have the name: another's bytes
        would look like its own.  What is ``addressed`` by its digest may come from anybody.
        Raises NotFoundError, UnavailableError.
        """
        ...

    async def of(self, member: int, ask: Ask | None = None) -> Response:
        """The answer of one member, to the request at hand or to another question."""
        ...

    async def named(self, key: str, name: str) -> int:
        """The member of this key that may be asked for ``name``.  Raises NotFoundError."""
        ...

    async def keeper(self, path: str) -> int | None:
        """The first member that keeps a file at a path, and may be asked for it."""
        ...

    async def may(self, member: int, name: str) -> bool:
        """Whether a member may be asked for ``name``: by its rules, and by the guard."""
        ...

    async def withheld(self, member: int) -> Withheld:
        """Names that a member may list and is not asked for: others own them, and list them not.

        Those are names of repositories that the caller may not read, and names of what was
        deleted.  They are left out of lists of names; ``Document.admits`` does not know them.
        """
        ...

    async def blob(self, member: int, ask: Ask) -> BlobContent:
        """What a member answers, whole and in the store, however large it is.

        Raises NotFoundError, UnavailableError.
        """
        ...

    async def set(
        self,
        key: str,
        documents: Sequence[Document],
        build: Callable[[], Awaitable[Mapping[str, Ingested]]],
    ) -> Sequence[Mapping[str, Ingested]]:
        """A set of generated documents made of others, and the sets before it, newest first."""
        ...

    async def load(self, response: Response) -> bytes:
        """The bytes of a small answer.  Raises TooLargeError."""
        ...

    async def merged(
        self,
        key: str,
        documents: Sequence[Document],
        build: Callable[[], Response],
        gather: Callable[[], Awaitable[None]] | None = None,
    ) -> Response:
        """An answer made of documents, kept until one of them changes.

        ``build`` is pure, and run in a worker thread where there is much to do; ``gather`` is
        awaited before, to fetch what it needs that ``key`` tells of.
        """
        ...

    @property
    def publishing(self) -> bool:
        """Whether there is a deploy target, and the caller may publish there."""
        ...

    async def target(self) -> Response:
        """What the deploy target answers, to somebody who is about to change it."""
        ...


def unchanged(name: str) -> str:
    """The normal form of names that have but one."""
    return name


async def from_what_is_kept(request: Request, members: Members) -> Response | None:
    """Leave all answers to the format's own handlers."""
    return None


@dataclass(frozen=True, slots=True)
class Virtual:
    """How a format's virtual repositories answer reads.

    ``answer`` gives None for what the format's own handlers answer from ``Members.repository``.
    ``normalize`` brings names, and the patterns of routing rules, into the form that ``answer``
    asks by.  With ``by_path``, names are those of files, not of packages.
    """

    answer: Callable[[Request, Members], Awaitable[Response | None]] = from_what_is_kept
    normalize: Callable[[str], str] = unchanged
    by_path: bool = False


async def lister(
    members: Members,
    documents: Sequence[Document],
    listed: Callable[[Document], Collection[str]],
    names: Sequence[str],
) -> int:
    """The first member whose document lists one of these names.  Raises NotFoundError.

    Who lists what is kept with the documents, so that a download does not read them all again.
    """
    from formats.contract import Response

    def build() -> Response:
        owners: dict[str, int] = {}
        for each in documents:
            for name in listed(each):
                owners.setdefault(name, each.member)
        return Response(content=msgspec.json.encode(owners))

    found = await members.merged("owners", documents, build)
    owners = msgspec.json.decode(cast("bytes", found.content), type=dict[str, int])
    for name in names:
        if name in owners:
            return owners[name]
    raise NotFoundError(f"no such file: {names[0][:300]}")
