"""What a running node is made of, for those who serve it: the API, the services, the CLI."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from formats.contract import Format, Principal, Repository, Request, Response
from node.access.accounts import Accounts
from node.access.gate import EVERY, Caller, Gate
from node.blobs import Blobs
from node.config import Config
from node.control import Control
from node.directory import Directory, RepositoryEntry, UserEntry
from node.events.stream import Streams
from node.events.webhooks import Webhooks
from node.garbage import Collector
from node.keys import NodeKeys
from node.metrics import Metrics
from node.promotion.service import Promotions
from node.repositories.local import LocalRepository, Services
from node.repositories.publishing import Publisher
from node.repositories.remote.answering import RemoteAnswers
from node.repositories.remote.engine import Engine
from node.repositories.remote.mirroring import Mirrors
from node.repositories.sessions import Sessions
from node.repositories.virtual.answering import Counts, Merger, VirtualAnswers
from node.repositories.virtual.members import OUTSIDE, Crew, gather
from node.retention.service import Retention
from node.retention.use import last_read, told
from node.search.service import Search
from node.signing import Keyring
from node.usage import UsageCounter
from store import hlc
from store.audit import AuditLog
from store.catalog import Catalog
from store.conflicts import Conflicts
from store.digest import Digest
from store.identity import Identity
from store.journal import Journal
from store.ledger import Ledger
from store.partials import Partials
from store.references import References
from store.siblings import Siblings
from store.staging import Staging
from store.usage import Usage

if TYPE_CHECKING:
    from mesh.service import Mesh  # started only with the network
    from node.bundles.service import Bundles
    from node.placement.service import Placer

VERSION = "0.1.0"


@dataclass(slots=True)
class Core:
    """The parts, wired.  Built by ``node.service.open_core``."""

    config: Config
    ledger: Ledger
    catalog: Catalog
    references: References
    siblings: Siblings
    conflicts: Conflicts
    blobs: Blobs
    staging: Staging
    audit: AuditLog
    directory: Directory
    gate: Gate
    accounts: Accounts
    sessions: Sessions
    publisher: Publisher
    keyring: Keyring
    services: Services
    engine: Engine
    formats: Sequence[Format]
    placer: Placer
    partials: Partials
    journal: Journal = field(init=False)  # these by ``node.service``, once the core stands
    search: Search = field(init=False)
    usage: UsageCounter = field(init=False)
    streams: Streams = field(init=False)
    webhooks: Webhooks = field(init=False)
    keys: NodeKeys = field(init=False)
    mirrors: Mirrors = field(init=False)
    merger: Merger = field(init=False)
    promotions: Promotions = field(init=False)
    retention: Retention = field(init=False)
    collector: Collector = field(init=False)
    metrics: Metrics = field(default_factory=Metrics)
    control: Control = field(default_factory=Control)
    mesh: Mesh | None = None
    bundles: Bundles | None = None  # made when first asked for
    http_urls: list[str] = field(default_factory=list[str])
    http_stopped: trio.Event = field(default_factory=trio.Event)

    def __post_init__(self) -> None:
        """What looks into the rest of the core."""
        self.mirrors = Mirrors(lambda key: self.remote(self.entry(key)))
        self.merger = Merger(self.services, self.remote, Counts(self.metrics))
        self.promotions = Promotions(self, self.ledger)
        read = partial(last_read, self.placer.inventory)
        self.retention = Retention(self, self.ledger, read, told=self._told)
        self.collector = Collector(self)

    async def _told(
        self, repository: str, packages: Sequence[str], versions: Sequence[str]
    ) -> Mapping[tuple[str, str], Usage]:
        return await told(self.usage, repository, packages, versions)

    @property
    def identity(self) -> Identity:
        """The node, with the key that it has now."""
        return self.ledger.identity

    def format_of(self, key: str) -> Format | None:
        """The format that serves a format key."""
        return next((each for each in self.formats if key in each.keys), None)

    # --- node.packages.app.Repositories ---------------------------------------------------------
    def entry(self, key: str) -> RepositoryEntry | None:
        """A repository's configuration."""
        return self.directory.get(RepositoryEntry, key)

    def open(self, entry: RepositoryEntry, caller: Principal | None = None) -> Repository:
        """The repository as its format sees it; of a virtual one, what this caller may read."""
        found = self.format_of(entry.format)
        if entry.repo_type == "virtual" and found is not None:
            return self.merger.open(self.crew(entry, caller), found)
        return LocalRepository(entry, self.services, found.checksums if found else ())

    async def answer(self, entry: RepositoryEntry, request: Request) -> Response | None:
        """What a repository answers to a read itself; None where its format's handler does."""
        found = self.format_of(entry.format)
        if entry.repo_type == "virtual" and found is not None:
            caller, target = request.principal, self.target(entry)
            if target is not None and not self.gate.may(caller, "write", target):
                target = None
            crew = self.crew(entry, caller)
            return await VirtualAnswers(self.merger, crew, found, request, target).answer()
        remote = self.remote(entry)
        return await remote.answer(request) if remote is not None else None

    def remote(self, entry: RepositoryEntry | None) -> RemoteAnswers | None:
        """A remote repository, by its configuration; None for any other."""
        found = self.format_of(entry.format) if entry is not None else None
        if entry is None or found is None or entry.repo_type != "remote":
            return None
        if entry.upstream is None or found.remote is None:
            return None
        return RemoteAnswers(self.engine, entry, found)

    def crew(self, entry: RepositoryEntry, caller: Principal | None) -> Crew:
        """The members of a virtual repository that a caller may read; nobody may read none."""
        found = self.format_of(entry.format)
        if caller is None or found is None:
            return Crew(entry, ())
        return gather(entry, self.entry, self.gate, caller, found)

    def target(self, entry: RepositoryEntry) -> RepositoryEntry | None:
        """Where what is published to a virtual repository goes, if anywhere."""
        composition = entry.virtual
        if entry.repo_type != "virtual" or composition is None:
            return None
        target = self.entry(composition.deploy)
        found = self.format_of(entry.format)
        if target is None or found is None or target.format not in found.keys:
            return None
        named = any(each.key == target.key for each in composition.members)
        return target if named and target.repo_type not in OUTSIDE else None

    def private(self, entry: RepositoryEntry, caller: Principal) -> bool:
        """Whether what a caller gets of a repository is not for everybody."""
        if entry.repo_type == "virtual":
            return self.crew(entry, caller).private
        return not entry.is_public

    async def errand(self, key: str, path: str, accept: str) -> bool:
        """Have what a neighbour lacks fetched from upstream; whether it is here then."""
        remote = self.remote(self.entry(key))
        return await remote.errand(path, accept) if remote is not None else False

    def changed(self, key: str) -> float:
        """When this node last saw a repository change, by its own clock."""
        return hlc.seconds(self.catalog.revision(key))

    @property
    def site(self) -> str:
        """The site this node stands at, as the root document has it."""
        member = self.ledger.authority.members().get(self.ledger.node)
        return member.site if member is not None else self.config.mesh.site

    def directory_repositories(self) -> list[RepositoryEntry]:
        """Every repository, in key order."""
        return self.directory.all(RepositoryEntry)

    # --- formats.contract.Registry --------------------------------------------------------------
    async def repositories(self, format_name: str, principal: Principal) -> Sequence[Repository]:
        """Repositories of a format that the caller may read, in key order."""
        keys = next((each.keys for each in self.formats if each.name == format_name), ())
        return [
            self.open(entry, principal)
            for entry in self.directory.all(RepositoryEntry)
            if entry.format in keys and self.gate.may(principal, "read", entry)
        ]

    async def issue_token(
        self, principal: Principal, access: Sequence[tuple[str, Sequence[str]]]
    ) -> tuple[str, int]:
        """A bearer token for the pairs that the caller does hold."""
        held: list[tuple[str, list[str]]] = []
        for key, actions in access:
            entry = self.entry(key)
            may = [a for a in actions if entry and self.gate.may(principal, a, entry)]
            if key == EVERY:  # judged again for each repository when the token is shown
                may = self.gate.reach(principal, actions)
            if may:
                held.append((key, may))
            if entry is not None and entry.repo_type == "virtual":
                held += self._behind(entry, principal, actions)
        return self.accounts.bearer(principal, held)

    def _behind(
        self, entry: RepositoryEntry, principal: Principal, actions: Sequence[str]
    ) -> list[tuple[str, list[str]]]:
        """What a token for a virtual repository needs of its members: each is judged by itself."""
        crew, target = self.crew(entry, principal), self.target(entry)
        keys = dict.fromkeys([*crew.keys, *(k for each in crew.leaves for k in each.through)])
        keys.pop(entry.key, None)
        held = [(key, ["read"]) for key in keys if "read" in actions]
        if target is not None:
            may = [a for a in actions if a != "read" and self.gate.may(principal, a, target)]
            held += [(target.key, may)] if may else []
        return held

    async def authenticate(self, username: str, password: str) -> Principal:
        """Who these credentials name; a token passes as any user's password."""
        return await self.accounts.by_credentials(username, password, "")

    # --- the operator's own caller --------------------------------------------------------------
    def operator(self) -> Caller:
        """The caller behind the control connection: whoever can read the data directory."""
        admins = [u for u in self.directory.all(UserEntry) if u.is_admin and not u.disabled]
        name = admins[0].username if admins else "operator"
        return Caller(name, "operator", admin=True)

    async def holds(self, digest: Digest) -> bool:
        """Tell whether a blob's bytes are on this node."""
        return await self.blobs.store.has(digest)

    def details(self) -> dict[str, Any]:
        """Who this node is."""
        return {
            "node_id": self.identity.node,
            "name": self.config.mesh.name,
            "site": self.config.mesh.site,
            "version": VERSION,
            "urls": [url for url in (self.config.http.external_url, *self.http_urls) if url],
        }
