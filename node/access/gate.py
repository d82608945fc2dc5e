"""The one gate: every route of every format and of the management API asks here.

Reads of public repositories are open where configured; everything else is denied unless a grant,
ownership or the admin flag allows it, and never beyond the scopes of the token that was shown.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from formats.contract import Principal, Scope
from node.directory import Directory, RepositoryEntry
from store.errors import DeniedError, RepositoryUnknownError, UnauthorizedError

ACTIONS = ("read", "write", "delete", "admin")
# The reference registry's scope names, and what each allows here.
SCOPES: dict[str, frozenset[str]] = {
    "read": frozenset({"read"}),
    "write": frozenset({"read", "write"}),
    "delete": frozenset({"read", "delete"}),
    "admin": frozenset({*ACTIONS, "manage"}),
    "*": frozenset({*ACTIONS, "manage"}),
    "read:artifacts": frozenset({"read"}),
    "write:artifacts": frozenset({"read", "write"}),
    "delete:artifacts": frozenset({"read", "delete"}),
    "promote:artifacts": frozenset({"read", "write"}),
    "read:repositories": frozenset({"read"}),
    "write:repositories": frozenset({"read", "manage"}),
    "delete:repositories": frozenset({"read", "manage"}),
    "read:users": frozenset({"read"}),
    "write:users": frozenset({"manage"}),
}
EVERY = "*"  # in a bearer token's pairs: every repository that the caller may see otherwise
EVERYTHING = frozenset({*ACTIONS, "manage"})


@dataclass(frozen=True, slots=True)
class Caller(Principal):
    """A principal with what its credentials allow at most."""

    allowed: frozenset[str] = EVERYTHING
    repositories: tuple[str, ...] = ()  # key patterns the token is limited to; empty: no limit
    access: tuple[tuple[str, frozenset[str]], ...] | None = None  # a bearer token's exact pairs
    address: str = ""
    expires_at: float = 0.0  # of an API token, or a bearer token for some pairs; else 0
    token: str = ""  # id of the API token that was shown, or that a bearer token was minted for


ANONYMOUS = Caller(allowed=frozenset({"read"}))


def allowed_by(scopes: Iterable[str]) -> frozenset[str]:
    """The actions that a token's scopes allow at most; unknown scopes allow nothing."""
    return frozenset().union(*(SCOPES.get(each, frozenset()) for each in scopes))


class Gate:
    """Judges (caller, action, repository)."""

    def __init__(self, directory: Directory, *, anonymous_read: bool) -> None:
        self._directory = directory
        self._anonymous_read = anonymous_read

    def may(self, caller: Principal, action: str, repository: RepositoryEntry) -> bool:
        """Tell whether the caller may take the action; never raises."""
        if isinstance(caller, Caller) and not self._within(caller, action, repository.key):
            return False
        if caller.admin:
            return True
        if action == "read" and repository.is_public and (caller.name or self._anonymous_read):
            return True
        return bool(caller.name) and self._granted(caller.name, action, repository.key)

    def require(self, caller: Principal, scope: Scope, repository: RepositoryEntry) -> None:
        """Let the caller pass a route of this scope, or raise as ``require_action`` does."""
        if scope is not Scope.OPEN:
            self.require_action(caller, scope.value, repository)

    def require_action(self, caller: Principal, action: str, repository: RepositoryEntry) -> None:
        """Let the caller pass, or raise what tells it what would help.

        Raises UnauthorizedError (credentials could help, or an OCI token of wider scope, which the
        challenge tells its client to fetch), DeniedError (these do not suffice),
        RepositoryUnknownError (an authenticated caller who may not even see it).
        """
        if self.may(caller, action, repository):
            return
        if not caller.name:
            raise UnauthorizedError("authentication required")
        if isinstance(caller, Caller) and caller.access is not None:
            raise UnauthorizedError(f"the token does not let {caller.name} {action} here")
        if not self.may(caller, "read", repository):
            raise RepositoryUnknownError(f"no repository {repository.key!r}")
        raise DeniedError(f"{caller.name} may not {action} in {repository.key}")

    def require_management(self, caller: Principal) -> None:
        """Let only administrators pass, with credentials that allow management."""
        if not caller.name:
            raise UnauthorizedError("authentication required")
        if not self.manages(caller):
            raise DeniedError(f"{caller.name} may not manage this node with these credentials")

    def manages(self, caller: Principal) -> bool:
        """Tell whether the caller administers the node, by credentials that reach all of it."""
        if not caller.admin or not isinstance(caller, Caller):
            return caller.admin
        whole = not caller.repositories and caller.access is None
        return whole and "manage" in caller.allowed

    def reach(self, caller: Principal, actions: Iterable[str]) -> list[str]:
        """Those of the actions that the caller's credentials allow on *every* repository.

        Only what the credentials say; each repository still judges who is behind them.
        """
        if not isinstance(caller, Caller):
            return list(actions)
        pairs = caller.access
        return [
            action
            for action in actions
            if action in caller.allowed
            and (pairs is None or any(k == EVERY and action in held for k, held in pairs))
        ]

    def _within(self, caller: Caller, action: str, key: str) -> bool:
        if action not in caller.allowed:
            return False
        if caller.repositories and not any(fnmatchcase(key, p) for p in caller.repositories):
            return False
        if caller.access is None or (action == "read" and not caller.name and self._anonymous_read):
            return True
        return any(action in actions and name in {key, EVERY} for name, actions in caller.access)

    def _granted(self, username: str, action: str, key: str) -> bool:
        return any(
            (action in grant.actions or "admin" in grant.actions)
            and fnmatchcase(key, grant.repository)
            for grant in self._directory.grants_of(username)
        )
