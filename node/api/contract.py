"""The management API's contract: one table of endpoints for routing, the gate and OpenAPI."""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

import msgspec

from node.access.gate import Caller
from node.core import Core
from node.directory import RepositoryEntry
from store.appending import Check
from store.errors import RejectedError, RepositoryUnknownError, UnavailableError
from store.facts import Fact

Model = TypeVar("Model")
T = TypeVar("T")
PREFIX = "/api/v1"
PAGE_MAX = 1000
DIGITS_MAX = 18  # of a number in a query
# What people type.  All of it travels to every node, so none of it is unbounded.
Short = Annotated[str, msgspec.Meta(max_length=255)]
Long = Annotated[str, msgspec.Meta(max_length=4096)]
Names = Annotated[list[Short], msgspec.Meta(max_length=1000)]


class Access(enum.Enum):
    """Who may call an endpoint; the gate judges it before the body is read."""

    OPEN = "anyone"
    USER = "any authenticated caller"
    READ = "readers of the repository"
    WRITE = "writers of the repository"
    DELETE = "those who may delete in the repository"
    ADMIN = "administrators of the repository"
    MANAGE = "administrators of the node"


class Raw(msgspec.Struct):
    """An answer that is not JSON, or that carries headers of its own."""

    status: int = 200
    body: bytes = b""
    media_type: str = "application/octet-stream"
    headers: dict[str, str] = {}
    stream: Any = None  # an async iterator of bytes


@dataclass(slots=True)
class Call:
    """One request to an endpoint."""

    core: Core
    caller: Caller
    params: Mapping[str, str]
    query: Mapping[str, str]
    headers: Mapping[str, str]
    root_url: str
    body: Any = None
    chunks: AsyncIterator[bytes] | None = None
    entry: RepositoryEntry | None = None
    address: str = ""  # of the client

    @property
    def repository(self) -> RepositoryEntry:
        """The repository of a repository endpoint."""
        if self.entry is None:
            raise RepositoryUnknownError(f"no repository {self.params.get('key')!r}")
        return self.entry

    @property
    def mesh(self) -> Any:
        """The running mesh.  Raises UnavailableError."""
        if self.core.mesh is None:
            raise UnavailableError("the mesh is not running on this node")
        return self.core.mesh

    async def note(self, action: str, target: str, *, outcome: str = "allowed") -> None:
        """Write an audit entry for this call."""
        await self.core.audit.write(
            self.caller.name, action, target, outcome, address=self.caller.address
        )

    def number(self, name: str, default: int, maximum: int = PAGE_MAX) -> int:
        """A non-negative integer of the query.  Raises RejectedError."""
        text = self.query.get(name, str(default))
        if not text.isascii() or not text.isdecimal() or len(text) > DIGITS_MAX:
            raise RejectedError(f"{name} is not a number")
        return min(int(text), maximum)

    async def append(self, *facts: Fact, check: Check | None = None) -> None:
        """Write facts in the caller's name."""
        await self.core.ledger.append(list(facts), actor=self.caller.name, check=check)


Handler = Callable[[Call], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One row of the API.  ``{name}`` in a path is a segment, ``{name:path}`` the rest."""

    method: str
    path: str
    handler: Handler
    access: Access
    body: type | None = None
    answer: Any = None
    status: int = 200
    streams: bool = False  # the body is bytes, handed on as they arrive
    tag: str = ""
    parameters: tuple[str, ...] = ()  # names of query parameters
    searches: bool = False  # may look at much for one answer: bounded in number per caller

    @property
    def summary(self) -> str:
        """The handler's first docstring line."""
        return (self.handler.__doc__ or "").strip().split("\n")[0].rstrip(".")


@dataclass(slots=True)
class Table:
    """Collects the endpoints of one module."""

    tag: str
    searches: bool = False
    endpoints: list[Endpoint] = field(default_factory=list[Endpoint])

    def route(
        self, method: str, path: str, access: Access, **extra: Any
    ) -> Callable[[Handler], Handler]:
        """Register a handler."""

        def register(handler: Handler) -> Handler:
            more: dict[str, Any] = {"tag": self.tag, "searches": self.searches, **extra}
            self.endpoints.append(Endpoint(method, path, handler, access, **more))
            return handler

        return register


def decode(data: bytes, model: type[Model]) -> Model:
    """Read a JSON body.  Raises RejectedError with the place of the fault."""
    try:
        return msgspec.json.decode(data or b"{}", type=model)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RejectedError(f"invalid JSON body: {error}") from error
    except RecursionError:
        raise RejectedError("invalid JSON body: nested too deeply") from None


def cut(found: Sequence[T], limit: int, key: Callable[[T], str]) -> tuple[Sequence[T], str | None]:
    """A page of ``limit`` out of one row more, and the ``after`` of the next page, if any."""
    return found[:limit], key(found[limit - 1]) if len(found) > limit else None


def pagination(page: int, size: int, total: int) -> dict[str, int]:
    """The reference's pagination block."""
    pages = max(1, -(-total // size)) if size else 1
    return {"page": page, "per_page": size, "total": total, "total_pages": pages}
