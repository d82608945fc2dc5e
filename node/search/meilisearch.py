"""Meilisearch beside the local index: asked first where it is configured, missed where it is away.

The official client is synchronous, so its calls run in threads; it is imported when first used.
The index is fed from the local one, in the order of its changes, and begun anew when it is empty.
Whose hits may be seen is decided here: the repositories that the caller may read are part of every
query, and hits are taken from the local index again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import structlog
import trio

from store.errors import UnavailableError
from store.followers import Followers
from store.search import SearchIndex
from store.search_query import Query
from store.search_writing import DocumentKey

if TYPE_CHECKING:
    from meilisearch import Client

T = TypeVar("T")
NAME = "meilisearch"
PAGE = 500  # documents sent at once
TIMEOUT = 5.0  # seconds for an answer
TASK_TIMEOUT = 60.0  # seconds for it to take in a page
AWAY = 15.0  # seconds after a failure during which it is not asked
HITS_MAX = 10_000
VERSION = 1  # of what is sent; raising it begins anew
FACETS = ("repository", "format", "license")
SETTINGS: Mapping[str, Any] = {
    "searchableAttributes": ["names", "words", "filenames"],
    "filterableAttributes": ["id", *FACETS, "latest", "version", "package", "tags"],
    "sortableAttributes": ["updated"],
    "pagination": {"maxTotalHits": HITS_MAX},
}
log = structlog.get_logger(__name__)


class Fed(msgspec.Struct):
    """How far the local index was sent, and to where."""

    url: str = ""
    index: str = ""
    stamp: int = 0
    version: int = 0


class Hits(msgspec.Struct):
    """What it answers."""

    keys: list[tuple[str, str, str, str]]
    total: int
    facets: dict[str, dict[str, int]]


class Meilisearch:
    """One index on one server."""

    def __init__(
        self, local: SearchIndex, followers: Followers, *, url: str, key: str, index: str
    ) -> None:
        self._local, self._followers = local, followers
        self._url, self._key, self._name = url, key, index
        self._client: Client | None = None
        self._threads = trio.CapacityLimiter(4)
        self._away_until = 0.0
        self.fed: Fed | None = None
        self.trouble = ""

    # --- asking ----------------------------------------------------------------------------------
    @property
    def ready(self) -> bool:
        """Whether it can be asked: fed once, and not away a moment ago."""
        return self.fed is not None and trio.current_time() >= self._away_until

    async def search(self, query: Query, limit: int, offset: int) -> Hits:
        """Ask for a page of hits.  Raises UnavailableError."""
        text = " ".join(
            f'"{" ".join(term.words)}"' if term.whole else " ".join(term.words)
            for term in query.terms
        )
        options: dict[str, Any] = {
            "filter": filters(query),
            "facets": list(FACETS),
            "limit": limit,
            "offset": offset,
            "attributesToRetrieve": ["key"],
            "matchingStrategy": "all",
        }
        columns = {term.column for term in query.terms} - {""}
        if columns:
            options["attributesToSearchOn"] = sorted(columns)
        if not query.terms:
            options["sort"] = ["updated:desc"]
        found = await self._call(lambda client: client.index(self._name).search(text, options))
        try:
            return read_hits(found)
        except (TypeError, KeyError, ValueError, msgspec.ValidationError) as error:
            raise UnavailableError(f"meilisearch answers what it should not: {error}") from error

    def can(self, query: Query) -> bool:
        """Whether it can be asked this: it restricts all words to one column, or none."""
        columns = {term.column for term in query.terms}
        return len(columns) <= 1 and not query.version.endswith("*")

    # --- feeding ---------------------------------------------------------------------------------
    async def feed(self) -> int:
        """Send the next changes of the local index; how many.  Raises UnavailableError."""
        fed = await self._begin()
        rows = await self._local.changed(fed.stamp, PAGE)
        if rows:
            await self._send(rows)
            fed.stamp = rows[-1]["stamp"]
            await self._followers.keep(NAME, fed)
            await self._local.forget_gone(fed.stamp)
        self.fed = fed
        return len(rows)

    async def forget(self) -> None:
        """Send everything again."""
        self.fed = None
        await self._followers.keep(NAME, Fed())

    async def _begin(self) -> Fed:
        if self.fed is not None:
            return self.fed
        fed = await self._followers.load(NAME, Fed) or Fed()
        same = (fed.url, fed.index, fed.version) == (self._url, self._name, VERSION)
        if same and await self._call(lambda client: has_index(client, self._name)):
            return fed

        def create(client: Client) -> None:
            index = client.index(self._name)
            if has_index(client, self._name):
                done(client, index.delete_all_documents())
            else:
                done(client, client.create_index(self._name, {"primaryKey": "id"}))
            done(client, index.update_settings(dict(SETTINGS)))

        await self._call(create, TASK_TIMEOUT)
        return Fed(self._url, self._name, 0, VERSION)

    async def _send(self, rows: Sequence[Mapping[str, Any]]) -> None:
        there = [document(row) for row in rows if not row["gone"]]
        gone = [identifier(key_of(row)) for row in rows if row["gone"]]

        def send(client: Client) -> None:
            index = client.index(self._name)
            if there:
                done(client, index.add_documents(there))
            if gone:
                done(client, index.delete_documents(filter=one_of("id", gone)))

        await self._call(send, TASK_TIMEOUT)

    async def _call(self, work: Callable[[Client], T], seconds: float = TIMEOUT) -> T:
        """Run a call of the client in a thread.  Raises UnavailableError, and then rests."""
        try:
            with trio.fail_after(seconds + TIMEOUT):
                found = await trio.to_thread.run_sync(
                    lambda: work(self._made()), abandon_on_cancel=True, limiter=self._threads
                )
        except trio.TooSlowError:
            raise self._failed("it does not answer in time") from None
        except Exception as error:  # whatever the library or its transport raises
            raise self._failed(f"{type(error).__name__}: {error}"[:300]) from error
        self.trouble = ""
        return found

    def _failed(self, why: str) -> UnavailableError:
        if not self.trouble:
            log.warning("meilisearch.away", error=why)
        self.trouble = why
        self._away_until = trio.current_time() + AWAY
        return UnavailableError(f"meilisearch: {why}")

    def _made(self) -> Client:
        if self._client is None:
            from meilisearch import Client  # two thirds of a second

            self._client = Client(self._url, self._key or None, timeout=int(TIMEOUT))
        return self._client


# --- documents ----------------------------------------------------------------------------------
def key_of(row: Mapping[str, Any]) -> DocumentKey:
    """The key of a row of ``search_documents``."""
    return DocumentKey(row["repository"], row["package"], row["version"], row["path"])


def identifier(key: DocumentKey) -> str:
    """A document's id there: only letters, digits, - and _ are allowed."""
    return hashlib.sha256(json.dumps(key).encode()).hexdigest()


def document(row: Mapping[str, Any]) -> dict[str, Any]:
    """What is sent of a row."""
    key = key_of(row)
    names = ("repository", "package", "version", "format", "license", "updated")
    return {
        "id": identifier(key),
        "key": list(key),
        **{name: row[name] for name in names},
        "latest": bool(row["latest"]),
        "tags": row["tags"].split(),
        "names": row["names"],
        "words": row["words"],
        "filenames": row["filenames"],
    }


def quote(text: str) -> str:
    """A string of the filter language."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def one_of(name: str, values: Sequence[str]) -> str:
    """A condition of the filter language."""
    return f"{name} IN [{', '.join(map(quote, values))}]"


def filters(query: Query) -> list[str]:
    """Everything that must hold beside the words."""
    found = [one_of("repository", query.repositories)]
    if query.latest:
        found.append("latest = true")
    for name, values in (("format", query.formats), ("license", query.licenses)):
        if values:
            found.append(one_of(name, values))
    for name, value in (
        ("version", query.version),
        ("package", query.package),
        ("tags", query.tag),
    ):
        if value:
            found.append(f"{name} = {quote(value)}")
    return found


def read_hits(found: Any) -> Hits:
    """Judge an answer: it comes from another program."""
    keys = [tuple(each["key"]) for each in found["hits"]]
    facets = found.get("facetDistribution") or {}
    counted = {"keys": keys, "total": found["estimatedTotalHits"], "facets": facets}
    return msgspec.convert(counted, Hits)


def has_index(client: Client, name: str) -> bool:
    """Whether the index is there."""
    from meilisearch.errors import MeilisearchApiError

    try:
        client.get_index(name)
    except MeilisearchApiError as error:
        if error.code == "index_not_found":
            return False
        raise
    return True


def done(client: Client, task: Any) -> None:
    """Wait until a task has ended well; raises UnavailableError otherwise."""
    ended = client.wait_for_task(task.task_uid, timeout_in_ms=int(TASK_TIMEOUT * 1000))
    if ended.status != "succeeded":
        raise UnavailableError(f"a task {ended.status}: {ended.error}")
