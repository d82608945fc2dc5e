"""What the mesh agrees on about itself, in memory: repositories, users, groups, tokens, grants.

It follows the ledger: whenever settings change, here or on a peer, the affected entries are read
again.  Hot paths (every request) look here and never in the database.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import msgspec
import sqlalchemy as sa
import structlog

from node.promotion.rules import Rules
from node.repositories.virtual.settings import Composition
from node.retention.policy import Policy
from node.upstream.settings import Upstream
from store.errors import ConflictError
from store.facts import Setting
from store.rows import SettingRow
from store.schema import settings

log = structlog.get_logger(__name__)
Value = TypeVar("Value", bound="Entry")


class Entry(msgspec.Struct, kw_only=True):
    """What every shared setting has; unknown fields of newer nodes are kept out of the way."""

    created_at: float = 0.0
    created_by: str = ""

    @property
    def named(self) -> str:
        """The key that the entry itself states; it counts only under that one."""
        raise NotImplementedError


class RepositoryEntry(Entry, kw_only=True):
    """A repository, as configured.  ``options`` belong to its format."""

    key: str
    name: str = ""
    format: str
    repo_type: str = "local"
    is_public: bool = True
    description: str = ""
    home: str = ""  # node id or site; empty: rivals are ordered without a home (ruling 9)
    quota_bytes: int = 0
    quota_files: int = 0
    options: dict[str, Any] = {}
    labels: dict[str, str] = {}
    placement: str = ""  # where its blobs belong unless a rule says so (mesh.placement)
    write_concern: str = ""  # what a publish waits for by default (node.placement.concern)
    upstream: Upstream | None = None  # of a remote repository
    virtual: Composition | None = None  # of a virtual repository
    promotion: Rules = Rules()  # what is asked of promotions into it
    promotion_only: bool = False  # nothing else may be published here
    release_target: str = ""  # where promotions go that do not say it

    @property
    def named(self) -> str:
        """The entry's key."""
        return self.key


class UserEntry(Entry, kw_only=True):
    """A person or service account.  ``password`` is an Argon2 hash; "" forbids password logins."""

    username: str
    password: str = ""
    password_changed_at: float = 0.0
    email: str = ""
    display_name: str = ""
    is_admin: bool = False
    disabled: bool = False

    @property
    def named(self) -> str:
        """The entry's key."""
        return self.username


class GroupEntry(Entry, kw_only=True):
    """Users under one name."""

    name: str
    description: str = ""
    members: tuple[str, ...] = ()

    @property
    def named(self) -> str:
        """The entry's key."""
        return self.name


class TokenEntry(Entry, kw_only=True):
    """An API token: its SHA-256, whose it is, and how far it reaches."""

    id: str
    name: str
    username: str
    sha256: str
    scopes: tuple[str, ...]
    repositories: tuple[str, ...] = ()  # key patterns; empty: all that the user may reach
    expires_at: float = 0.0  # 0: never
    disabled: bool = False

    @property
    def named(self) -> str:
        """The entry's key."""
        return self.id


class GrantEntry(Entry, kw_only=True):
    """Actions that a user or group may take on repositories matching a key pattern."""

    id: str
    principal_type: str  # user | group
    principal: str
    repository: str  # a key or a glob
    actions: tuple[str, ...]  # read | write | delete | admin

    @property
    def named(self) -> str:
        """The entry's key."""
        return self.id


class PlacementEntry(Entry, kw_only=True):
    """A placement rule; the smallest (order, id) that matches decides (mesh.placement.Rule)."""

    id: str
    target: str
    order: int = 0
    repositories: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    size_min: int = 0
    size_max: int = 0
    older_than: float = 0.0
    younger_than: float = 0.0
    reads_min: int = 0

    @property
    def named(self) -> str:
        """The entry's key."""
        return self.id


class PinEntry(Entry, kw_only=True):
    """Content that a node, or one node of a site, keeps (mesh.placement.Pin)."""

    id: str
    repository: str
    path: str = ""
    digest: str = ""
    node: str = ""
    site: str = ""

    @property
    def named(self) -> str:
        """The entry's key."""
        return self.id


class CarriageEntry(Entry, kw_only=True):
    """Which repositories a member carries: patterns; without an entry, all."""

    node: str
    repositories: tuple[str, ...] = ()

    @property
    def named(self) -> str:
        """The entry's key."""
        return self.node


class WebhookEntry(Entry, kw_only=True):
    """Where events are sent, and by which node; secret and address are sealed to that one.

    ``url`` is what may be shown of the address: paths and queries of webhooks are passwords,
    mostly.  Where ``address`` is "", an older node wrote the entry and ``url`` is all of it.
    """

    id: str
    name: str = ""
    url: str
    node: str
    events: tuple[str, ...] = ()  # patterns of types; empty: all
    repositories: tuple[str, ...] = ()  # patterns; empty: all, and what is about none
    sealed: str = ""
    disabled: bool = False
    address: str = ""

    @property
    def named(self) -> str:
        """The entry's key."""
        return self.id


class RetentionEntry(Entry, kw_only=True):
    """A retention policy (node.retention.policy)."""

    id: str
    policy: Policy
    disabled: bool = False

    @property
    def named(self) -> str:
        """The entry's key."""
        return self.id


KINDS: Mapping[str, type[Entry]] = {
    "repository": RepositoryEntry,
    "user": UserEntry,
    "group": GroupEntry,
    "token": TokenEntry,
    "grant": GrantEntry,
    "placement": PlacementEntry,
    "pin": PinEntry,
    "carriage": CarriageEntry,
    "webhook": WebhookEntry,
    "retention": RetentionEntry,
}


class SettingReader(Protocol):
    """What the directory needs of the catalog."""

    async def settings(self, kind: str) -> Iterable[SettingRow]: ...

    async def setting(self, kind: str, key: str) -> SettingRow | None: ...


class Directory:
    """The shared settings, typed and indexed."""

    def __init__(self, catalog: SettingReader) -> None:
        self._catalog = catalog
        self._entries: dict[str, dict[str, Entry]] = {kind: {} for kind in KINDS}
        self._seen: dict[tuple[str, str], tuple[bytes, ...]] = {}
        self._grants: dict[str, tuple[GrantEntry, ...]] = {}  # by user, until any right changes
        self.tokens_by_hash: dict[str, TokenEntry] = {}

    async def load(self) -> None:
        """Read everything, at start."""
        for kind in KINDS:
            for row in await self._catalog.settings(kind):
                self._put(kind, row.key, row)

    async def refresh(self, kind: str, key: str) -> None:
        """Read one setting again, because the ledger changed it."""
        if kind in KINDS:
            self._put(kind, key, await self._catalog.setting(kind, key))

    def _put(self, kind: str, key: str, row: SettingRow | None) -> None:
        old = self._entries[kind].pop(key, None)
        self._seen.pop((kind, key), None)
        if isinstance(old, TokenEntry):
            self.tokens_by_hash.pop(old.sha256, None)
        if kind in {"group", "grant"}:
            self._grants.clear()
        if row is None:
            return
        self._seen[kind, key] = row.records
        entry = _read(kind, key, row.value)
        if entry is None:
            return
        self._entries[kind][key] = entry
        if isinstance(entry, TokenEntry):
            self.tokens_by_hash[entry.sha256] = entry

    def get(self, model: type[Value], key: str) -> Value | None:
        """One entry, or None."""
        entry = self._entries[kind_of(model)].get(key)
        return entry if isinstance(entry, model) else None

    def all(self, model: type[Value]) -> list[Value]:
        """Every entry of a kind, in key order."""
        entries = self._entries[kind_of(model)]
        return [each for _, each in sorted(entries.items()) if isinstance(each, model)]

    def standing(self, *models: type[Entry]) -> Mapping[tuple[str, str], tuple[bytes, ...]]:
        """The records that entries stand on, by (kind, key): what a decision was made on."""
        kinds = {kind_of(model) for model in models}
        return {place: records for place, records in self._seen.items() if place[0] in kinds}

    def groups_of(self, username: str) -> frozenset[str]:
        """The groups a user belongs to."""
        return frozenset(g.name for g in self.all(GroupEntry) if username in g.members)

    def grants_of(self, username: str) -> Sequence[GrantEntry]:
        """What a user was granted, directly or through groups."""
        found = self._grants.get(username)
        if found is None:
            groups = self.groups_of(username)
            found = tuple(
                grant
                for grant in self.all(GrantEntry)
                if (grant.principal_type == "user" and grant.principal == username)
                or (grant.principal_type == "group" and grant.principal in groups)
            )
            self._grants[username] = found
        return found

    def change(self, key: str, entry: Entry) -> Setting:
        """The fact that stores an entry, superseding what this node has seen of it."""
        kind = kind_of(type(entry))
        return Setting(kind, key, msgspec.json.encode(entry), self._seen.get((kind, key), ()))

    def absent(self, entry: Entry) -> Callable[[sa.Connection], None]:
        """A check for the transaction that creates an entry.  It raises ConflictError."""
        kind = kind_of(type(entry))
        query = sa.select(settings.c.key).where(
            settings.c.kind == kind, settings.c.key == entry.named
        )

        def check(connection: sa.Connection) -> None:
            if connection.execute(query).first() is not None:
                raise ConflictError(f"{kind} {entry.named!r} exists")

        return check

    def remove(self, model: type[Entry], key: str) -> Setting:
        """The fact that removes an entry."""
        kind = kind_of(model)
        return Setting(kind, key, None, self._seen.get((kind, key), ()))


def _read(kind: str, key: str, value: bytes) -> Entry | None:
    """Read an entry.  One that this version cannot read grants nothing, and stops no node."""
    try:
        entry = msgspec.json.decode(value, type=KINDS[kind])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        log.warning("unreadable setting", kind=kind, key=key[:80], error=str(error))
        return None
    if entry.named != key:
        log.warning("a setting under a key that is not its own", kind=kind, key=key[:80])
        return None
    return entry


def kind_of(model: type[Entry]) -> str:
    """The kind of setting that a model is stored as."""
    return next(kind for kind, each in KINDS.items() if each is model)
