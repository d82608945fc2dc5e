"""What concurrent writes left to be decided, and the operator's decisions."""

from __future__ import annotations

from urllib.parse import quote

import msgspec

from node.api.contract import Access, Call, Long, Table, cut
from store.conflicts import Disputed, Rival
from store.errors import ConflictError, NotFoundError, RejectedError
from store.facts import Point, Resolve
from store.rows import Artifact, Pointer

table = Table("conflicts")
SEPARATOR = "\n"  # between the parts of a page's key; in no package or tag name


class CountView(msgspec.Struct):
    repository_key: str
    files: int
    pointers: int
    pending: int


class Counts(msgspec.Struct):
    items: list[CountView]


class RivalView(msgspec.Struct):
    digest: str
    size_bytes: int
    author: str
    site: str
    published_at: float
    winner: bool
    deleted: bool
    local: bool
    download_url: str


class DisputedView(msgspec.Struct):
    path: str
    name: str
    version: str
    rivals: list[RivalView]


class PointerView(msgspec.Struct):
    name: str
    tag: str
    value: str
    siblings: list[str]
    updated_at: float


class PendingView(msgspec.Struct):
    path: str
    name: str
    version: str
    digest: str
    author: str
    published_at: float


class DisputedList(msgspec.Struct):
    items: list[DisputedView]
    next: str | None


class PointerList(msgspec.Struct):
    items: list[PointerView]
    next: str | None


class PendingList(msgspec.Struct):
    items: list[PendingView]
    next: str | None


class Decision(msgspec.Struct, forbid_unknown_fields=True):
    """Either ``path`` and ``digest``, or ``package``, ``tag`` and ``value``."""

    path: Long = ""
    digest: Long = ""
    package: Long = ""
    tag: Long = ""
    value: Long = ""


@table.route("GET", "/conflicts", Access.USER, answer=Counts)
async def count(call: Call) -> Counts:
    """Count what is disputed or pending in each repository that the caller may read."""
    found: list[CountView] = []
    for each in await call.core.conflicts.counts():
        entry = call.core.entry(each.repository)
        if entry is not None and call.core.gate.may(call.caller, "read", entry):
            found.append(CountView(each.repository, each.files, each.pointers, each.pending))
    return Counts(found)


@table.route(
    "GET",
    "/repositories/{key}/conflicts",
    Access.READ,
    answer=DisputedList,
    parameters=("after", "limit"),
)
async def list_conflicts(call: Call) -> DisputedList:
    """List coordinates with rival bytes, and every content that was published there."""
    limit = max(1, call.number("limit", 100))
    found = await call.core.conflicts.files(
        call.repository.key, after=call.query.get("after", ""), limit=limit + 1
    )
    page, more = cut(found, limit, lambda each: each.winner.path)
    return DisputedList([await _disputed(call, each) for each in page], more)


@table.route(
    "GET",
    "/repositories/{key}/conflicts/tags",
    Access.READ,
    answer=PointerList,
    parameters=("after", "limit"),
)
async def list_tags(call: Call) -> PointerList:
    """List tags that were moved concurrently, with every value."""
    limit = max(1, call.number("limit", 100))
    package, _, name = call.query.get("after", "").partition(SEPARATOR)
    found = await call.core.conflicts.pointers(
        call.repository.key, after=(package, name), limit=limit + 1
    )
    page, more = cut(found, limit, lambda each: f"{each.package}{SEPARATOR}{each.name}")
    return PointerList([_pointer(each) for each in page], more)


@table.route(
    "GET",
    "/repositories/{key}/pending",
    Access.READ,
    answer=PendingList,
    parameters=("after", "limit"),
)
async def list_pending(call: Call) -> PendingList:
    """List files that were published away from the repository's home and wait for its word."""
    limit = max(1, call.number("limit", 100))
    found = await call.core.conflicts.pending(
        call.repository.key, after=call.query.get("after", ""), limit=limit + 1
    )
    page, more = cut(found, limit, lambda each: each.path)
    return PendingList([_pending(each) for each in page], more)


@table.route(
    "POST", "/repositories/{key}/conflicts/resolve", Access.ADMIN, body=Decision, status=204
)
async def resolve(call: Call) -> None:
    """Decide which of the rival bytes a coordinate has, or which of its values a tag."""
    asked: Decision = call.body
    if asked.path and asked.digest and not (asked.package or asked.tag or asked.value):
        await _resolve_file(call, asked)
        target = asked.path
    elif asked.tag and asked.value and not (asked.path or asked.digest):
        await _resolve_tag(call, asked)
        target = f"{asked.package} {asked.tag}"
    else:
        raise RejectedError("give either path and digest, or package, tag and value")
    await call.note("conflict.resolve", f"{call.repository.key} {target}")


async def _resolve_file(call: Call, asked: Decision) -> None:
    key = call.repository.key
    found = await call.core.catalog.find(key, asked.path)
    if found is None:
        raise NotFoundError(f"{key} has no {asked.path}")
    if not found.conflicted:
        raise ConflictError(f"nothing is disputed about {asked.path}")
    rivals = await call.core.conflicts.rivals(key, asked.path)
    choices = [str(each.digest) for each in rivals if not each.deleted]
    if asked.digest not in choices:
        raise RejectedError(f"no rival has this digest; choose among {', '.join(choices)}")
    await call.append(Resolve(key, asked.path, asked.digest))


async def _resolve_tag(call: Call, asked: Decision) -> None:
    key = call.repository.key
    found = await call.core.catalog.pointer(key, asked.package, asked.tag)
    if found is None:
        raise NotFoundError(f"{key} has no tag {asked.tag} of {asked.package}")
    if not found.siblings:
        raise ConflictError(f"nothing is disputed about {asked.package} {asked.tag}")
    values = {_text(value): value for value in (found.value, *found.siblings)}
    if asked.value not in values:
        raise RejectedError(f"it was never moved there; choose among {', '.join(values)}")
    await call.append(Point(key, asked.package, asked.tag, values[asked.value]))


async def _disputed(call: Call, found: Disputed) -> DisputedView:
    winner = found.winner
    views = [await _rival(call, winner, each) for each in found.rivals]
    return DisputedView(winner.path, winner.package, winner.version, views)


async def _rival(call: Call, winner: Artifact, rival: Rival) -> RivalView:
    member = call.core.ledger.authority.members().get(rival.author)
    base = f"{call.root_url}/api/v1/repositories/{winner.repository}/download"
    return RivalView(
        str(rival.digest),
        rival.size,
        rival.author,
        member.site if member is not None else "",
        rival.published,
        rival.digest == winner.digest,
        rival.deleted,
        await call.core.holds(rival.digest),
        f"{base}/{quote(winner.path)}?digest={rival.digest}",
    )


def _pointer(found: Pointer) -> PointerView:
    siblings = [_text(value) for value in found.siblings]
    return PointerView(found.package, found.name, _text(found.value), siblings, found.updated)


def _pending(found: Artifact) -> PendingView:
    return PendingView(
        found.path,
        found.package,
        found.version,
        str(found.digest),
        found.author,
        found.published,
    )


def _text(value: bytes) -> str:
    """A tag's value for people: a digest or a version; what is neither is shown escaped."""
    return value.decode("utf-8", "backslashreplace")
