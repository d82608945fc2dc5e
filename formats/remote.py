"""What a format knows of its upstreams: pure functions that the node's proxy engine calls.

A request becomes an ``Aim`` (what of the upstream answers it), the engine fetches or finds that,
and ``respond`` turns what is kept into an answer.  Formats neither fetch nor decide about time;
they say what can change, where things are, what they must hash to, and which URLs to rewrite.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import quote, unquote

import msgspec

from store.facts import Cached, Fact, File
from store.rows import Artifact

if TYPE_CHECKING:
    from formats.contract import Request, Response  # which imports this module


DOCUMENT_MAX = 48 << 20  # bytes of an upstream document that is rewritten: some list everything


class Freshness(enum.Enum):
    """What an upstream path is to time."""

    IMMUTABLE = "immutable"  # one content for ever: asked for once
    INDEX = "index"  # changes with every publish: asked for again soon
    MUTABLE = "mutable"  # may change: asked for again as the repository says


@dataclass(frozen=True, slots=True)
class Promise:
    """What the upstream says of a file before it sends it.

    ``digests`` is algorithm → lower-case hex; every one is enforced.  ``url`` is relative to the
    document it stood in, or absolute; "" leaves the aim's own.  ``metadata`` is the format's JSON
    for the file, as a publish of it would have had.
    """

    url: str = ""
    digests: Mapping[str, str] = field(default_factory=dict[str, str])
    size: int | None = None
    version: str = ""
    metadata: bytes = b""


NOTHING_PROMISED = Promise()


@dataclass(frozen=True, slots=True)
class Aim:
    """What of the upstream answers a request, and where it is kept.

    ``path`` is its coordinate in the repository, ``url`` where it is, relative to the upstream's.
    With ``index``, that document says where the file is and what it hashes to; a file it does not
    list does not exist.  ``sidecars`` are (algorithm, url) of checksum files beside it.  When this
    document changes, ``siblings`` (paths) are asked for again as well: they belong to one set.
    """

    path: str
    url: str = ""
    package: str = ""
    version: str = ""
    role: str = "file"
    accept: str = ""
    scope: str = ""  # what an upstream token is good for
    document: bool = False  # small, and answered from its bytes
    whole: bool = False  # answered from what is known of it once it is here, without its bytes
    optional: bool = False  # without it the format's own handler answers, from what is kept
    index: Aim | None = None
    promise: Promise = NOTHING_PROMISED  # what the path itself says
    sidecars: Sequence[tuple[str, str]] = ()
    siblings: Sequence[str] = ()


class Origin(msgspec.Struct, omit_defaults=True):
    """Where kept bytes came from: the metadata of what has none of its format's."""

    url: str = ""
    media_type: str = ""
    etag: str = ""
    last_modified: str = ""
    link: str = ""


@dataclass(frozen=True, slots=True)
class Kept:
    """What there is for an aim: a document's bytes, or only what is known about a file.

    ``artifact`` is None while a file is still arriving.
    """

    origin: Origin
    data: bytes = b""
    artifact: Artifact | None = None


@dataclass(frozen=True, slots=True)
class Wish:
    """Something to have here before anybody asks: a path as a client would ask for it.

    ``rest`` tells ``follow`` what of its content is wanted as well; with ``reads``, it gets the
    bytes of a file, not only of documents.
    """

    path: str
    accept: str = ""
    rest: str = ""
    reads: bool = False


def paths_only(name: str, text: str) -> Sequence[Wish]:
    """Read a list of paths, one a line: what every format understands."""
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return [Wish("/" + quote(unquote(line.strip("/")), safe="/@:+~%")) for line in lines if line]


def no_more(wish: Wish, kept: Kept) -> Sequence[Wish]:
    """What follows from files that name no others."""
    return ()


def nothing_listed(aim: Aim, kept: Kept, path: str) -> Promise | None:
    """What a document that lists nothing says of a path."""
    return None


def accept_all(aim: Aim, kept: Kept) -> None:
    """The check of documents that may hold anything."""


def as_given(upstream_url: str) -> str:
    """The base of a format whose paths begin at the configured URL."""
    return upstream_url


def cached(repository: str, aim: Aim, file: File, kept: Kept) -> Sequence[Fact]:
    """The record of one fetched file, under its own path."""
    return (Cached(repository, aim.package, aim.version, (file,)),)


@dataclass(frozen=True, slots=True)
class Remote:
    """How a format is proxied.

    ``aim`` gives None for a request that what is kept answers (searches, listings).  ``read`` says
    what a document lists, ``scan`` the same for documents too large for memory, as they are read.
    ``check`` refuses a document that is not what it should be.  Raises ManifestInvalidError.
    ``respond`` answers: for a document with its bytes rewritten, else with headers alone, and the
    engine adds the bytes.  ``wishes`` reads a lock file or list, by its name and text; ``follow``
    says what else belongs to something that is here now.  ``facts`` are what a fetched file
    becomes in the ledger.
    """

    aim: Callable[[Request, str, Mapping[str, object]], Aim | None]
    classify: Callable[[str], Freshness]
    respond: Callable[[Request, Aim, Kept], Response]
    find: Callable[[Aim, Kept, str], Promise | None] = nothing_listed
    check: Callable[[Aim, Kept], None] = accept_all
    scan: Callable[[Aim, BinaryIO], Iterator[tuple[str, Promise]]] | None = None
    facts: Callable[[str, Aim, File, Kept], Sequence[Fact]] = cached
    base: Callable[[str], str] = as_given
    wishes: Callable[[str, str], Sequence[Wish]] = paths_only
    follow: Callable[[Wish, Kept], Sequence[Wish]] = no_more
