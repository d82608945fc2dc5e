"""Retention policies, what they would remove and did, restoring it, and garbage collection."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated

import msgspec

from node.api.contract import Access, Call, Raw, Short, Table
from node.directory import RetentionEntry
from node.garbage import RESTORABLE, Freed
from node.retention.planning import Planned
from node.retention.policy import Policy
from node.retention.service import Done
from store import hlc
from store.errors import ConflictError, NameInvalidError, NotFoundError, RejectedError
from store.facts import Restore

table = Table("retention")
ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}\Z")
Patterns = Annotated[tuple[Short, ...], msgspec.Meta(max_length=100)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=100 * 366 * 86400)]
LISTED_MAX = 1000
LINES = "application/x-ndjson"
LINES_SIZE = 64 << 10  # bytes gathered before they are sent
TOLD_SECONDS = 1.0  # between two lines of progress


class NewPolicy(msgspec.Struct):
    id: Short
    repositories: Patterns
    include: Patterns = ()
    exclude: Patterns = ()
    prereleases: bool = False
    keep: bool = False
    max_age: Seconds = 0.0
    keep_last: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 0
    unused_for: Seconds = 0.0
    downloads_below: Annotated[int, msgspec.Meta(ge=0, le=1_000_000_000)] = 0
    placed: bool = False
    disabled: bool = False


class PolicyView(msgspec.Struct):
    id: str
    policy: Policy
    disabled: bool
    created_at: float
    created_by: str


class PolicyList(msgspec.Struct):
    items: list[PolicyView]


class PlanWish(msgspec.Struct, forbid_unknown_fields=True):
    """One policy, or all; and how many versions to list, if not all."""

    policy: Short = ""
    listed: Annotated[int, msgspec.Meta(ge=0)] | None = None


class ApplyWish(msgspec.Struct, forbid_unknown_fields=True):
    policy: Short = ""


class Removing(msgspec.Struct, tag="removing", tag_field="type"):
    """How far a run is."""

    removed: int
    size_bytes: int


class PlannedView(msgspec.Struct, tag="planned", tag_field="type"):
    repository_key: str
    package: str
    version: str
    names: tuple[str, ...]
    size_bytes: int
    published_at: float
    policy: str
    why: str
    kept: str


class Sums(msgspec.Struct, tag="sums", tag_field="type"):
    """What a plan comes to: the versions that would go, their bytes, and how many are saved."""

    versions: int = 0
    size_bytes: int = 0
    kept: int = 0


class Plan(msgspec.Struct):
    """What would go, and what is saved from it; at most 1,000 versions are listed."""

    versions: int
    size_bytes: int
    kept: int
    items: list[PlannedView]


class Applied(msgspec.Struct, tag="applied", tag_field="type"):
    removed: int
    size_bytes: int
    kept: int
    missed: int
    by_policy: dict[str, int]


class Restored(msgspec.Struct):
    path: str


class Collection(msgspec.Struct):
    dry_run: bool = False


class Collecting(msgspec.Struct):
    running: bool
    last: Freed


def _view(entry: RetentionEntry) -> PolicyView:
    return PolicyView(entry.id, entry.policy, entry.disabled, entry.created_at, entry.created_by)


def _named(call: Call, name: str = "") -> RetentionEntry:
    wanted = name or call.params["id"]
    found = call.core.directory.get(RetentionEntry, wanted)
    if found is None:
        raise NotFoundError(f"no retention policy {wanted[:80]!r}")
    return found


@table.route("GET", "/admin/lifecycle", Access.MANAGE, answer=PolicyList)
async def list_retention(call: Call) -> PolicyList:
    """List the retention policies."""
    return PolicyList([_view(each) for each in call.core.directory.all(RetentionEntry)])


@table.route("POST", "/admin/lifecycle", Access.MANAGE, body=NewPolicy, answer=PolicyView)
async def set_retention(call: Call) -> PolicyView:
    """Make a retention policy, or replace the one with this id.

    ``downloads_below`` needs ``max_age`` or ``unused_for`` of a day or more, unless the policy
    keeps: other nodes' downloads are heard of later.
    """
    body: NewPolicy = call.body
    if not ID.match(body.id):
        raise NameInvalidError("an id is lower-case letters, digits, '.', '_' and '-'")
    if not body.repositories:
        raise RejectedError("name repositories: a policy for all of them says '*'")
    if not (body.keep or body.max_age or body.keep_last or body.unused_for):
        raise RejectedError("one of max_age, keep_last and unused_for says what goes")
    fields = msgspec.structs.asdict(body)
    disabled = fields.pop("disabled")
    now, name = time.time(), call.caller.name
    policy = Policy(**fields)
    if not policy.guarded:
        raise RejectedError("downloads_below needs max_age or unused_for of a day or more")
    entry = RetentionEntry(
        id=body.id, policy=policy, disabled=disabled, created_at=now, created_by=name
    )
    await call.append(call.core.directory.change(entry.id, entry))
    await call.note("retention.set", entry.id)
    return _view(entry)


@table.route("GET", "/admin/lifecycle/{id}", Access.MANAGE, answer=PolicyView)
async def get_retention(call: Call) -> PolicyView:
    """Show one retention policy."""
    return _view(_named(call))


@table.route("DELETE", "/admin/lifecycle/{id}", Access.MANAGE, status=204)
async def delete_retention(call: Call) -> None:
    """Remove a retention policy; what it removed stays removed."""
    entry = _named(call)
    await call.append(call.core.directory.remove(RetentionEntry, entry.id))
    await call.note("retention.delete", entry.id)


# --- planning and applying ----------------------------------------------------------------------
def _planned(each: Planned) -> PlannedView:
    edition, verdict = each.verdict.edition, each.verdict
    return PlannedView(
        each.repository,
        each.package,
        edition.version,
        edition.names,
        edition.size,
        edition.published,
        verdict.policy,
        verdict.why,
        verdict.kept,
    )


async def _walk(call: Call, only: str, sums: Sums) -> AsyncGenerator[Planned]:
    """Everything that is planned, added up as it comes."""
    async with aclosing(call.core.retention.plan(only=only)) as planned:
        async for each in planned:
            if each.verdict.kept:
                sums.kept += 1
            else:
                sums.versions += 1
                sums.size_bytes += each.verdict.edition.size
            yield each


async def _plan(call: Call, only: str = "") -> Plan:
    sums, items = Sums(), list[PlannedView]()
    async with aclosing(_walk(call, only, sums)) as planned:
        async for each in planned:
            if len(items) < LISTED_MAX:
                items.append(_planned(each))
    return Plan(sums.versions, sums.size_bytes, sums.kept, items)


async def _apply(call: Call, only: str = "") -> Applied:
    await call.note("retention.apply", only or "all")
    return _applied(await call.core.retention.apply(call.caller.name, only=only))


def _applied(done: Done) -> Applied:
    return Applied(done.removed, done.bytes, done.kept, done.missed, done.by_policy)


@table.route("POST", "/admin/lifecycle/plan", Access.MANAGE, body=PlanWish)
async def stream_retention_plan(call: Call) -> Raw:
    """List every version that would go and why, a JSON object a line; the sums last."""
    wish: PlanWish = call.body
    only = _named(call, wish.policy).id if wish.policy else ""

    async def lines() -> AsyncGenerator[bytes]:
        sums, listed, text = Sums(), 0, bytearray()
        async with aclosing(_walk(call, only, sums)) as planned:
            async for each in planned:
                if wish.listed is None or listed < wish.listed:
                    listed += 1
                    text += msgspec.json.encode(_planned(each)) + b"\n"
                if len(text) >= LINES_SIZE:
                    yield bytes(text)
                    text.clear()
        yield bytes(text) + msgspec.json.encode(sums) + b"\n"

    return Raw(media_type=LINES, stream=lines())


@table.route("POST", "/admin/lifecycle/apply", Access.MANAGE, body=ApplyWish)
async def stream_retention(call: Call) -> Raw:
    """Remove what policies say; what was done so far, a JSON object a line, and the end last.

    Whoever hangs up stops it; what has gone is gone.
    """
    wish: ApplyWish = call.body
    only = _named(call, wish.policy).id if wish.policy else ""
    await call.note("retention.apply", only or "all")
    return Raw(media_type=LINES, stream=_applying(call, only))


async def _applying(call: Call, only: str) -> AsyncGenerator[bytes]:
    """Lines of progress, one a second at most, and the last."""
    done = Done()
    told = time.monotonic()
    async with aclosing(call.core.retention.applying(call.caller.name, only=only)) as steps:
        async for done in steps:
            if time.monotonic() >= told + TOLD_SECONDS:
                told = time.monotonic()
                so_far = Removing(done.removed, done.bytes)
                yield msgspec.json.encode(so_far) + b"\n"
    yield msgspec.json.encode(_applied(done)) + b"\n"


@table.route("POST", "/admin/lifecycle/preview-all", Access.MANAGE, answer=Plan)
async def preview_all_retention(call: Call) -> Plan:
    """List what all policies would remove and why; nothing is removed."""
    return await _plan(call)


@table.route("POST", "/admin/lifecycle/execute-all", Access.MANAGE, answer=Applied)
async def apply_all_retention(call: Call) -> Applied:
    """Remove what all policies say."""
    return await _apply(call)


@table.route("POST", "/admin/lifecycle/{id}/preview", Access.MANAGE, answer=Plan)
async def preview_retention(call: Call) -> Plan:
    """List what one policy would remove and why, given all the others; nothing is removed."""
    return await _plan(call, _named(call).id)


@table.route("POST", "/admin/lifecycle/{id}/execute", Access.MANAGE, answer=Applied)
async def apply_retention(call: Call) -> Applied:
    """Remove what one policy says, unless another keeps it."""
    return await _apply(call, _named(call).id)


@table.route(
    "POST",
    "/repositories/{key}/artifacts/{path:path}/restore",
    Access.DELETE,
    answer=Restored,
)
async def restore_artifact(call: Call) -> Restored:
    """Bring a deleted file back, within the grace period."""
    key, path = call.repository.key, call.params["path"]
    deleted = await call.core.conflicts.deleted(key, path)
    if deleted is None:
        raise NotFoundError(f"{key} has no deleted {path}")
    if hlc.seconds(deleted) < time.time() - RESTORABLE:
        raise ConflictError(f"{path} was deleted too long ago: its bytes may be gone")
    await call.append(Restore(key, path, ()))
    await call.note("artifact.restore", f"{key}/{path}")
    return Restored(path)


# --- garbage ------------------------------------------------------------------------------------
@table.route("GET", "/admin/storage-gc", Access.MANAGE, answer=Collecting)
async def show_collection(call: Call) -> Collecting:
    """Show what this node's last garbage collection did."""
    return Collecting(call.core.collector.running, call.core.collector.last)


@table.route("POST", "/admin/storage-gc", Access.MANAGE, body=Collection, answer=Freed)
async def collect_garbage(call: Call) -> Freed:
    """Collect this node's garbage now, or say what that would free."""
    freed = await call.core.collector.collect(dry_run=call.body.dry_run)
    await call.note("gc.dry_run" if freed.dry_run else "gc.run", str(freed.blobs))
    return freed
