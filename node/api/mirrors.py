"""Mirror lists: what remote repositories fetch before anybody asks."""

from __future__ import annotations

import re
from typing import Annotated

import msgspec

from node.api.contract import Access, Call, Table
from node.repositories.remote.mirroring import EVERY_MIN, KIND, MirrorList
from store.errors import NotFoundError, RejectedError
from store.facts import Setting

table = Table("mirrors")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z")
TEXT_MAX = 900_000  # characters: a JSON body is at most a MiB


class NewMirror(msgspec.Struct):
    text: Annotated[str, msgspec.Meta(max_length=TEXT_MAX)]
    every_seconds: float = 0.0


class MirrorView(msgspec.Struct):
    name: str
    every_seconds: float
    running: bool
    done: int
    failed: int
    left: int
    troubles: list[str]


class MirrorsView(msgspec.Struct):
    items: list[MirrorView]


def _view(call: Call, wanted: MirrorList) -> MirrorView:
    run = call.core.mirrors.runs.get(wanted.key)
    if run is None:
        return MirrorView(wanted.name, wanted.every, False, 0, 0, 0, [])
    return MirrorView(
        wanted.name, wanted.every, not run.ended, run.done, run.failed, run.left, run.troubles
    )


@table.route("GET", "/repositories/{key}/mirrors", Access.READ, answer=MirrorsView)
async def list_mirrors(call: Call) -> MirrorsView:
    """List what is mirrored into a remote repository, and how far this node has got."""
    found = []
    for row in await call.core.catalog.settings(KIND):
        wanted = msgspec.json.decode(row.value, type=MirrorList)
        if wanted.repository == call.repository.key:
            found.append(_view(call, wanted))
    return MirrorsView(found)


@table.route(
    "PUT",
    "/repositories/{key}/mirrors/{name}",
    Access.ADMIN,
    body=NewMirror,
    answer=MirrorView,
)
async def set_mirror(call: Call) -> MirrorView:
    """Mirror a list or lock file; it is fetched in the background, and again as it says."""
    body: NewMirror = call.body
    name = call.params["name"]
    if call.repository.repo_type != "remote":
        raise RejectedError(f"{call.repository.key} is not a remote repository")
    if not NAME.match(name):
        raise RejectedError("not a name of a list")
    if body.every_seconds and not EVERY_MIN <= body.every_seconds <= 366 * 86400:
        raise RejectedError(f"every_seconds is not between {EVERY_MIN:g} and a year")
    wanted = MirrorList(
        repository=call.repository.key, name=name, text=body.text, every=body.every_seconds
    )
    call.core.mirrors.check(wanted)
    await call.append(Setting(KIND, wanted.key, msgspec.json.encode(wanted)))
    await call.note("repository.mirror", wanted.key)
    call.core.engine.nursery.start_soon(call.core.mirrors.run, wanted)
    return _view(call, wanted)


@table.route("DELETE", "/repositories/{key}/mirrors/{name}", Access.ADMIN, status=204)
async def delete_mirror(call: Call) -> None:
    """Mirror a list no longer; what was fetched stays."""
    key = f"{call.repository.key}/{call.params['name']}"
    if await call.core.catalog.setting(KIND, key) is None:
        raise NotFoundError(f"nothing is mirrored as {call.params['name']!r}")
    await call.append(Setting(KIND, key, None))
    call.core.mirrors.runs.pop(key, None)
