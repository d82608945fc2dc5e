"""The composition root: everything a node is, opened in order and closed in reverse."""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import structlog
import trio

from formats import discover
from formats.contract import Format
from node import control, reserve
from node.access.accounts import Accounts, Writer
from node.access.gate import Gate
from node.blobs import Blobs, Store
from node.config import Config
from node.core import Core
from node.directory import Directory, RepositoryEntry, UserEntry
from node.events.sender import GuardedSender
from node.events.stream import Streams
from node.events.webhooks import Webhooks
from node.garbage import in_use
from node.keys import NodeKeys
from node.metrics import Metrics
from node.placement.service import Placer
from node.repositories.local import Services
from node.repositories.publishing import Publisher
from node.repositories.quota import Quota
from node.repositories.remote.counting import Counts
from node.repositories.remote.engine import Parts as RemoteParts
from node.repositories.remote.engine import open_engine
from node.repositories.remote.promises import Promises
from node.repositories.remote.vault import Vault
from node.repositories.rendered import RenderCache
from node.repositories.sessions import Sessions
from node.search.documents import Source
from node.search.service import open_search
from node.settled import settle
from node.signing import Keyring
from node.upstream.guard import Guard
from node.usage import UsageCounter
from store import schema
from store.audit import AuditLog
from store.catalog import Catalog
from store.chunkindex import ChunkIndex
from store.conflicts import Conflicts
from store.database import Database, open_database
from store.deliveries import Deliveries
from store.facts import Fact
from store.files import FileStore
from store.followers import Followers
from store.journal import Journal
from store.ledger import Change, Ledger
from store.partials import Partials
from store.projection import Touched
from store.references import References
from store.siblings import Siblings
from store.staging import Staging
from store.usage import UsageLog

log = structlog.get_logger(__name__)
SWITCH_INTERVAL = 1e-4  # seconds: with the default, a busy trio loop starves worker threads
ADMIN = "admin"


class Databases(NamedTuple):
    """What replicas agree on, and what is this node's own."""

    facts: Database
    local: Database


@asynccontextmanager
async def open_core(config: Config, *, joining: bool = False) -> AsyncGenerator[Core]:
    """Open a node's stores and services, without any network.

    At the very first start this makes the node's key, a mesh of one, an administrator and a public
    repository per format; with ``joining`` the last two come from the mesh instead.  Raises
    DirectoryBusyError when another process owns the data directory.
    """
    sys.setswitchinterval(SWITCH_INTERVAL)
    async with AsyncExitStack() as stack:
        stack.enter_context(control.locked(config.path))
        reserve.spend(config.path)
        settle(config)
        databases = facts, local = await _databases(stack, config)
        ledger = await Ledger.open(facts, config.path, site=config.mesh.site, name=config.mesh.name)
        store = await _blob_store(config)
        blobs = Blobs(store, ChunkIndex(local, store))
        core = await _assemble(stack, config, ledger, databases, blobs)
        _add_followers(core, facts, local)
        _add_events(core, local, stack)
        ledger.observe(partial(_follow, core))
        ledger.observe(core.placer.follow)
        core.placer.in_use = partial(in_use, core)
        await core.catalog.load()
        await core.directory.load()
        if not joining:
            await provision(core)
        reserve.keep(config.path)
        yield core


async def _assemble(
    stack: AsyncExitStack, config: Config, ledger: Ledger, databases: Databases, blobs: Blobs
) -> Core:
    """Wire the services over the stores."""
    facts, local = databases
    catalog, staging, keys = Catalog(facts), Staging(local), NodeKeys(ledger)
    directory, write, access = Directory(catalog), ledger.append, config.access
    accounts, path = _accounts(config, directory, write, keys), config.path
    keyring = await stack.enter_async_context(Keyring(catalog, keys, write, path / "gnupg.home"))
    quota = Quota(config.blobs.quota_bytes, config.blobs.quota_files)
    publisher, metrics = Publisher(ledger, catalog, blobs, quota=quota), Metrics()
    vault, sessions = Vault(catalog, keys, write), Sessions(path / "sessions", blobs)
    parts = RemoteParts(catalog, blobs, publisher, Promises(local), vault, Counts(metrics))
    engine = await stack.enter_async_context(open_engine(parts, path, config.upstream))
    return Core(
        config=config,
        ledger=ledger,
        catalog=catalog,
        references=References(facts),
        siblings=Siblings(facts),
        conflicts=Conflicts(facts),
        blobs=blobs,
        staging=staging,
        audit=AuditLog(local),
        directory=directory,
        gate=Gate(directory, anonymous_read=access.anonymous_read),
        accounts=accounts,
        sessions=sessions,
        publisher=publisher,
        metrics=metrics,
        engine=engine,
        keyring=keyring,
        services=_services(catalog, blobs, staging, accounts, sessions, keyring, path / "tmp"),
        formats=discover(),
        placer=Placer(config, ledger, directory, blobs, facts, local),
        partials=Partials(path / "partial"),
    )


def _add_followers(core: Core, facts: Database, local: Database) -> None:
    """Wire what follows the catalog, and counts what is read of it."""
    ledger = core.ledger
    core.journal, forms = Journal(facts), partial(_form, core.directory, core.formats)
    source = Source(core.catalog, core.blobs, forms)
    core.search = open_search(core.config.search, local, ledger, core.journal, source)
    kept = UsageLog(facts, local, ledger.node)
    core.usage = UsageCounter(kept, ledger, partial(_is_primary, forms))


def _add_events(core: Core, local: Database, stack: AsyncExitStack) -> None:
    """Wire the event stream and the webhooks."""
    config, ledger, directory = core.config, core.ledger, core.directory
    core.keys = NodeKeys(ledger)
    core.streams = Streams(core.journal, ledger, directory, core.gate)
    guard = Guard(config.webhooks.allow)
    proxy, ca_file = config.upstream.proxy, config.upstream.ca_file
    sender = GuardedSender(guard, proxy=proxy, ca_file=ca_file)
    stack.push_async_callback(sender.close)
    core.webhooks = Webhooks(
        core.journal,
        ledger,
        directory,
        Followers(local),
        Deliveries(local),
        core.keys.unseal,
        sender,
        core.metrics,
    )
    open_streams = core.metrics.gauge("event_streams", "Event streams that are open")
    open_streams.set_function(lambda: core.streams.count)


def _form(
    directory: Directory, formats: Sequence[Format], repository: str
) -> tuple[str, Format | None]:
    """The format key of a repository, and its format."""
    entry = directory.get(RepositoryEntry, repository)
    key = entry.format if entry is not None else ""
    return key, next((each for each in formats if key in each.keys), None)


def _is_primary(
    forms: Callable[[str], tuple[str, Format | None]], repository: str, role: str
) -> bool:
    """Whether a file of this role is what people download, not what belongs to it."""
    _, found = forms(repository)
    return found is None or not found.primary or role in found.primary


def _services(
    catalog: Catalog,
    blobs: Blobs,
    staging: Staging,
    accounts: Accounts,
    sessions: Sessions,
    keyring: Keyring,
    temporary: Path,
) -> Services:
    cache = RenderCache(temporary)
    return Services(catalog, blobs, staging, cache, accounts, sessions.of, keyring.signer)


def _accounts(config: Config, directory: Directory, write: Writer, keys: NodeKeys) -> Accounts:
    life, tries = config.access.token_minutes, config.access.login_attempts
    return Accounts(directory, write, keys, token_minutes=life, login_attempts=tries)


async def _databases(stack: AsyncExitStack, config: Config) -> Databases:
    url = config.database.url
    facts_url = url or f"sqlite+aiosqlite:///{config.path / 'facts.db'}"
    local_url = url or f"sqlite+aiosqlite:///{config.path / 'local.db'}"
    facts = await stack.enter_async_context(open_database(facts_url, schema.facts))
    local = await stack.enter_async_context(
        open_database(local_url, schema.local, synchronous="NORMAL")
    )
    return Databases(facts, local)


async def _blob_store(config: Config) -> Store:
    if config.blobs.backend == "s3":
        from store.s3 import S3Store  # boto3 is heavy: only nodes that use it pay

        return await S3Store.open(
            bucket=config.blobs.bucket,
            prefix=config.blobs.prefix,
            endpoint=config.blobs.endpoint or None,
        )
    store = FileStore(config.path)
    await store.open()
    return store


async def _follow(core: Core, change: Change) -> None:
    """Keep what is held in memory in step with every commit, own or a peer's."""
    core.catalog.touched(change.packages, change.hlc, named=change.named)
    for kind, key in change.settings:
        await core.directory.refresh(kind, key)
    for kind, number in change.counts.items():
        core.metrics.fact(kind, number)
    for cell in change.touched:
        if cell.lost:
            await _alert(core, cell)


async def _alert(core: Core, cell: Touched) -> None:
    """Clients of this node may hold bytes that lost to a rival's: somebody must hear of it."""
    core.metrics.replaced()
    log.warning("conflict.lost", repository=cell.repository, path=cell.name, digest=cell.lost)
    target = f"{cell.repository} {cell.name}"
    await core.audit.write("node", "conflict.lost", target, "noticed", detail=cell.lost)


async def provision(core: Core) -> None:
    """Give a new node an administrator and a public repository per format."""
    facts: list[Fact] = []
    if not core.directory.all(UserEntry):
        facts.append(await _administrator(core))
    marker = core.config.path / "provisioned"
    known = marker.read_text().split() if marker.exists() else []
    facts += _default_repositories(core, known)
    if facts:
        await core.ledger.append(facts, actor="node")
    # Only now: whoever is killed before has it all done again at the next start.
    keys = list(dict.fromkeys([*known, *(each.keys[0] for each in core.formats)]))
    if keys != known:
        marker.write_text("\n".join(keys) + "\n")


async def _administrator(core: Core) -> Fact:
    chosen = core.config.access.admin_password
    password = chosen or secrets.token_urlsafe(18)
    user = UserEntry(username=ADMIN, is_admin=True, created_at=time.time(), created_by="node")
    fact = await core.accounts.user_fact(user, password)
    if not chosen:
        file = core.config.path / "admin.password"
        await trio.to_thread.run_sync(_write_secret, file, password)
        sys.stderr.write(f"atoll: administrator 'admin', password {password} (kept in {file})\n")
        sys.stderr.flush()
    return fact


def _default_repositories(core: Core, known: Sequence[str]) -> Iterable[Fact]:
    """A public repository for each format that had none before; deleted ones do not come back."""
    for key in (each.keys[0] for each in core.formats):
        if key not in known and core.entry(key) is None:
            entry = RepositoryEntry(
                key=key,
                name=key,
                format=key,
                is_public=True,
                home=core.site,
                created_at=time.time(),
                created_by="node",
            )
            yield core.directory.change(key, entry)


def _write_secret(file: Path, text: str) -> None:
    file.touch(mode=0o600, exist_ok=True)
    file.chmod(0o600)
    file.write_text(text + "\n")
