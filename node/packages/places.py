"""Which repository a request acts on, and who may make it: the gate before every package route."""

from __future__ import annotations

from typing import Protocol

from formats.contract import Principal, Repository, Request, Response, Scope
from node.access.gate import Caller, Gate
from node.directory import RepositoryEntry
from store.errors import DeniedError, MethodNotAllowedError, UnauthorizedError


class Targets(Protocol):
    """Knows where publishes to virtual repositories go."""

    def target(self, entry: RepositoryEntry) -> RepositoryEntry | None:
        """Where what is published to a virtual repository goes, if anywhere."""
        ...


class Repositories(Targets, Protocol):
    """Finds repositories for requests."""

    def entry(self, key: str) -> RepositoryEntry | None:
        """The configuration, or None."""
        ...

    def open(self, entry: RepositoryEntry, caller: Principal | None = None) -> Repository:
        """The repository as its format sees it, for this caller."""
        ...

    def private(self, entry: RepositoryEntry, caller: Principal) -> bool:
        """Whether what a caller gets is not for everybody."""
        ...

    async def answer(self, entry: RepositoryEntry, request: Request) -> Response | None:
        """What a repository that is more than its own facts answers; None: ask its format."""
        ...

    def changed(self, key: str) -> float:
        """When this node last saw it change, seconds since 1970 by this node's clock."""
        ...


def judge_place(
    gate: Gate, repositories: Targets, caller: Principal, scope: Scope, entry: RepositoryEntry
) -> RepositoryEntry:
    """Let the caller pass, and say which repository the request acts on.

    Whoever may read a virtual repository acts on its deploy target, with the rights held there;
    what else is known of the target stays unsaid.  Raises as ``Gate.require`` does, and
    MethodNotAllowedError where nothing can be published.
    """
    if entry.repo_type != "virtual" or scope in {Scope.READ, Scope.OPEN}:
        gate.require(caller, scope, entry)
        if entry.repo_type == "remote" and scope not in {Scope.READ, Scope.OPEN}:
            raise MethodNotAllowedError(f"{entry.key} is remote: publish elsewhere")
        return entry
    gate.require(caller, Scope.READ, entry)
    target = repositories.target(entry)
    if target is None:
        raise MethodNotAllowedError(f"{entry.key} is virtual and has no deploy target")
    if not gate.may(caller, scope.value, target):
        if not caller.name or (isinstance(caller, Caller) and caller.access is not None):
            raise UnauthorizedError(f"{scope.value} through {entry.key} needs other credentials")
        raise DeniedError(f"{caller.name} may not {scope.value} through {entry.key}")
    return target
