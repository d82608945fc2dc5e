"""Bundles: records and blobs in a file, for sticks and one-way links.  Docs: docs/bundles.md."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import msgspec

from mesh.shell.exporting import Wish
from mesh.shell.importing import Report
from node.api.contract import Access, Call, Long, Raw, Short, Table
from node.bundles.service import Bundles
from store.digest import Digest
from store.errors import NotFoundError, RangeInvalidError, RejectedError
from store.root import Member

table = Table("bundles")
MEDIA_TYPE = "application/vnd.atoll.bundle"
RANGE = re.compile(r"bytes (\d{1,18})-(?:\d{1,18})?/(?:\d{1,18}|\*)\Z", re.ASCII)


class Chain(msgspec.Struct):
    author: Short
    incarnation: int
    seq: int


class Standing(msgspec.Struct):
    """How far a node's chains reach, and what it lacks: what an export for it begins after."""

    node: Short = ""
    root_version: int = 0
    chains: list[Chain] = []
    lacking: list[Short] = []  # digests that its records name and that are not there
    more: bool = False  # lacking is not complete


class NewBundle(msgspec.Struct):
    repositories: list[Short] = []  # globs; of these come blobs, records always of all
    blobs: bool = True
    target: Long = ""  # id, or its beginning, or name of the member it is for
    since: Standing | None = None
    previous: Short = ""  # id of the bundle that this one continues


class Progress(msgspec.Struct):
    bundle: str
    offset: int


def _bundles(call: Call) -> Bundles:
    if call.core.bundles is None:
        call.core.bundles = Bundles(call.core)
    return call.core.bundles


def member(call: Call, text: str) -> Member:
    """The one member that a text names.  Raises NotFoundError."""
    members = call.core.ledger.authority.members()
    found = [m for m in members.values() if text == m.name]
    found = found or [m for id_, m in members.items() if id_.startswith(text)]
    if len(found) != 1:
        raise NotFoundError(f"{len(found)} members are called {text!r}")
    return found[0]


def wish(call: Call, body: NewBundle) -> Wish:
    """What is to be exported.  Raises RejectedError, NotFoundError."""
    target = member(call, body.target).node if body.target else ""
    since = body.since or Standing()
    try:
        lacking = tuple(Digest.parse(text).raw for text in since.lacking)
        previous = bytes.fromhex(body.previous)
    except ValueError as error:
        raise RejectedError(f"not an id: {error}") from error
    if len(previous) not in (0, 32):
        raise RejectedError("a bundle's id has 64 digits")
    return Wish(
        repositories=tuple(body.repositories) or ("*",),
        blobs=body.blobs,
        since={(each.author, each.incarnation): each.seq for each in since.chains},
        every=not since.chains or since.more,
        lacking=lacking,
        root_version=since.root_version,
        previous=previous,
        target=target,
    )


async def _export(call: Call, body: NewBundle) -> Raw:
    wanted = wish(call, body)
    await call.note("bundle.export", body.target or "anybody")
    headers = {"content-disposition": 'attachment; filename="atoll.bundle"'}
    stream = _bundles(call).export(wanted)
    return Raw(media_type=MEDIA_TYPE, headers=headers, stream=stream)


@table.route("GET", "/mesh/bundles", Access.MANAGE, parameters=("for", "repositories", "blobs"))
async def export_everything(call: Call) -> Raw:
    """Stream a bundle of all records, and the blobs of repositories that match a glob."""
    globs = [text for text in call.query.get("repositories", "").split(",") if text]
    blobs = call.query.get("blobs", "yes") != "no"
    return await _export(call, NewBundle(globs, blobs, call.query.get("for", "")))


@table.route("POST", "/mesh/bundles/exports", Access.MANAGE, body=NewBundle)
async def export_since(call: Call) -> Raw:
    """Stream a bundle of what a node lacks that stands as the body says."""
    return await _export(call, call.body)


@table.route("POST", "/mesh/bundles", Access.MANAGE, answer=Report, streams=True)
async def import_bundle(call: Call) -> Report:
    """Import a bundle; with Content-Range and ``bundle=ID`` from where it was interrupted."""
    offset, bundle = 0, call.query.get("bundle", "")
    if "content-range" in call.headers:
        found = RANGE.match(call.headers["content-range"])
        if found is None:
            raise RangeInvalidError("the rest of a bundle needs Content-Range: bytes FIRST-/TOTAL")
        offset = int(found[1])
    await call.note("bundle.import", bundle)
    report = await _bundles(call).take(call.chunks or Nothing(), bundle, offset)
    await call.note("bundle.import", report.bundle, outcome=_outcome(report))
    return report


def _outcome(report: Report) -> str:
    state = "complete" if report.complete else "truncated"
    return f"{state}: {report.records} records, {report.blobs} blobs"


class Nothing(AsyncIterator[bytes]):
    """No body."""

    async def __anext__(self) -> bytes:
        raise StopAsyncIteration


@table.route("GET", "/mesh/bundles/{id}", Access.MANAGE, answer=Progress)
async def bundle_progress(call: Call) -> Progress:
    """Tell at which byte an interrupted import goes on; 0 is its beginning."""
    bundle = call.params["id"]
    return Progress(bundle, await _bundles(call).offset(bundle))


@table.route("GET", "/mesh/standing", Access.MANAGE, answer=Standing)
async def show_standing(call: Call) -> Standing:
    """Tell how far this node's chains reach and what it lacks: take it to who exports for it."""
    ledger = call.core.ledger
    heads = await ledger.heads()
    chains = [Chain(author, life, seq) for (author, life), (seq, _) in sorted(heads.items())]
    lacking, more = await _bundles(call).lacking()
    return Standing(ledger.node, ledger.authority.version, chains, lacking, more)
