"""Repositories: create, list, change, delete."""

from __future__ import annotations

import re
import time
import uuid
from typing import Annotated, Any

import msgspec

from formats.contract import Format
from mesh.concern import read_concern
from mesh.placement import read_target
from node.api import upstreams, virtuals
from node.api.contract import Access, Call, Long, Short, Table, pagination
from node.directory import RepositoryEntry
from node.repositories.removal import empty
from node.upstream.settings import Secrets
from store.errors import (
    ConflictError,
    NameInvalidError,
    NotFoundError,
    RejectedError,
    UnsupportedError,
)
from store.facts import Fact

table = Table("repositories")
Label = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
Labels = Annotated[dict[Label, Label], msgspec.Meta(max_length=64)]
KEY = re.compile(r"[a-z0-9][a-z0-9._-]{0,127}\Z")
TYPES = ("local", "remote", "virtual", "staging")
NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "atoll:repository")


class NewRepository(msgspec.Struct):
    key: Short
    format: Short
    name: Short = ""
    repo_type: Short = "local"
    is_public: bool = False
    description: Long = ""
    quota_bytes: int | None = None
    home: Short = ""
    options: dict[str, Any] = {}
    upstream_url: Short = ""
    upstream_auth_type: Short = "none"
    upstream_username: Short = ""
    upstream_password: Long = ""
    member_repos: virtuals.NewMembers = []
    deploy_repo: Short = ""
    labels: Labels = {}
    placement: Short = ""
    write_concern: Short = ""
    promotion_only: bool = False
    release_target: Short = ""
    quota_files: int | None = None


class RepositoryChange(msgspec.Struct):
    name: Short | None = None
    is_public: bool | None = None
    description: Long | None = None
    quota_bytes: int | None = None
    home: Short | None = None
    options: dict[str, Any] | None = None
    upstream_url: Short | None = None
    labels: Labels | None = None
    placement: Short | None = None
    write_concern: Short | None = None
    promotion_only: bool | None = None
    release_target: Short | None = None
    quota_files: int | None = None


class RepositoryView(msgspec.Struct):
    id: str
    key: str
    name: str
    format: str
    repo_type: str
    is_public: bool
    description: str
    quota_bytes: int | None
    storage_used_bytes: int
    artifact_count: int
    home: str
    options: dict[str, Any]
    labels: dict[str, str]
    placement: str
    write_concern: str
    created_at: float
    url: str
    upstream_url: str | None = None
    upstream_auth_type: str | None = None
    promotion_only: bool = False
    release_target: str = ""
    quota_files: int | None = None


class RepositoryList(msgspec.Struct):
    items: list[RepositoryView]
    pagination: dict[str, int]


async def view(call: Call, entry: RepositoryEntry) -> RepositoryView:
    """A repository with what it holds."""
    found = await call.core.catalog.statistics(entry.key)
    served = call.core.format_of(entry.format)
    mount = served.mounts[0] if served else ""
    return RepositoryView(
        str(uuid.uuid5(NAMESPACE, entry.key)),
        entry.key,
        entry.name or entry.key,
        entry.format,
        entry.repo_type,
        entry.is_public,
        entry.description,
        entry.quota_bytes or None,
        found.size,
        found.files,
        entry.home,
        entry.options,
        entry.labels,
        entry.placement,
        entry.write_concern,
        entry.created_at,
        f"{call.root_url}{mount}/{entry.key}/",
        entry.upstream.url if entry.upstream else None,
        entry.upstream.auth_type if entry.upstream else None,
        entry.promotion_only,
        entry.release_target,
        entry.quota_files or None,
    )


@table.route(
    "GET",
    "/repositories",
    Access.OPEN,
    answer=RepositoryList,
    parameters=("page", "per_page", "format", "type", "q"),
)
async def list_repositories(call: Call) -> RepositoryList:
    """List the repositories that the caller may read."""
    page, size = max(1, call.number("page", 1, 1 << 31)), max(1, call.number("per_page", 100))
    wanted = call.query.get("format", "")
    text = call.query.get("q", "").lower()
    found = [
        each
        for each in call.core.directory.all(RepositoryEntry)
        if call.core.gate.may(call.caller, "read", each)
        and (not wanted or each.format == wanted)
        and (text in each.key.lower() or text in each.name.lower())
    ]
    shown = found[(page - 1) * size : page * size]
    return RepositoryList(
        [await view(call, each) for each in shown], pagination(page, size, len(found))
    )


@table.route(
    "POST",
    "/repositories",
    Access.MANAGE,
    body=NewRepository,
    answer=RepositoryView,
    status=201,
)
async def create_repository(call: Call) -> RepositoryView:
    """Create a repository."""
    body: NewRepository = call.body
    _judge_new(call, body)
    entry = RepositoryEntry(
        key=body.key,
        name=body.name,
        format=body.format,
        repo_type=body.repo_type,
        is_public=body.is_public,
        description=body.description,
        home=_home(call, body.home),
        quota_bytes=body.quota_bytes or 0,
        quota_files=body.quota_files or 0,
        options=body.options,
        labels=body.labels,
        placement=body.placement,
        write_concern=body.write_concern,
        promotion_only=body.promotion_only,
        release_target=body.release_target,
        created_at=time.time(),
        created_by=call.caller.name,
        upstream=upstreams.first(call, body),
        virtual=virtuals.first(body),
    )
    virtuals.judge_entry(call, entry)
    facts: list[Fact] = [call.core.directory.change(entry.key, entry)]
    if body.upstream_password:
        secrets = Secrets(password=body.upstream_password)
        facts.insert(0, call.core.engine.parts.vault.change(entry.key, secrets))
    await call.append(*facts, check=call.core.directory.absent(entry))
    await call.note("repository.create", entry.key)
    return await view(call, entry)


def _judge_new(call: Call, body: NewRepository) -> None:
    """Refuse what cannot be a repository, before anything is made of it."""
    if not KEY.match(body.key):
        raise NameInvalidError("a key is lower-case letters, digits, '.', '_' and '-'")
    if call.core.format_of(body.format) is None:
        known = sorted(key for each in call.core.formats for key in each.keys)
        raise NameInvalidError(f"unknown format {body.format!r}; known: {', '.join(known)}")
    if body.repo_type not in TYPES:
        raise UnsupportedError(f"repo_type {body.repo_type!r} is not one of {', '.join(TYPES)}")
    _judge_quota(body.quota_bytes)
    _judge_quota(body.quota_files)
    _judge_replication(body.placement, body.write_concern)
    served = call.core.format_of(body.format)
    if served is not None and body.key in _reserved(served):
        raise NameInvalidError(f"{body.key!r} is a path of {served.name}'s own")


def _reserved(served: Format) -> set[str]:
    """Keys that the format's own routes at the root would hide (``/v2/token``)."""
    paths = [(route.path, mount) for route in served.root_routes for mount in served.mounts]
    return {path.removeprefix(f"{mount}/").split("/")[0] for path, mount in paths}


def _judge_quota(quota: int | None) -> None:
    if quota is not None and not 0 <= quota < 1 << 63:
        raise RejectedError("a quota is negative, or beyond all measure")


def _judge_replication(placement: str | None, concern: str | None) -> None:
    if placement:
        read_target(placement)
    if concern:
        read_concern(concern)


def _home(call: Call, wanted: str) -> str:
    """Where rival publishes are ordered: by default the site where the repository is made."""
    return "" if wanted == "none" else wanted or call.core.site


@table.route("GET", "/repositories/{key}", Access.READ, answer=RepositoryView)
async def get_repository(call: Call) -> RepositoryView:
    """Show one repository."""
    return await view(call, call.repository)


@table.route(
    "PATCH", "/repositories/{key}", Access.ADMIN, body=RepositoryChange, answer=RepositoryView
)
async def change_repository(call: Call) -> RepositoryView:
    """Change a repository's settings; fields left out stay as they are.

    Quota, home, placement and labels are the node administrators' to set.
    """
    body: RepositoryChange = call.body
    _judge_quota(body.quota_bytes)
    _judge_quota(body.quota_files)
    _judge_replication(body.placement, body.write_concern)
    managed = (body.quota_bytes, body.quota_files, body.home, body.placement, body.labels)
    if any(each is not None for each in managed):
        call.core.gate.require_management(call.caller)
    entry = msgspec.structs.replace(call.repository)
    for name, value in msgspec.structs.asdict(call.body).items():
        if value is not None and name != "upstream_url":
            setattr(entry, name, value)
    if body.upstream_url is not None:
        call.core.gate.require_management(call.caller)
        await upstreams.move(call, entry, body.upstream_url)
    await call.append(call.core.directory.change(entry.key, entry))
    await call.note("repository.change", entry.key)
    return await view(call, entry)


@table.route("DELETE", "/repositories/{key}", Access.MANAGE, status=204)
async def delete_repository(call: Call) -> None:
    """Delete an empty repository, or with ``?force=true`` one that is not, with its content."""
    entry = call.core.entry(call.params["key"])
    if entry is None:
        raise NotFoundError(f"no repository {call.params['key']!r}")
    found = await call.core.catalog.statistics(entry.key)
    if found.files and call.query.get("force") != "true":
        raise ConflictError(f"{entry.key} holds {found.files} files; ?force=true deletes it anyway")
    await empty(call.core.catalog, call.core.ledger, entry.key, actor=call.caller.name)
    vault = call.core.engine.parts.vault
    gone: list[Fact] = [call.core.directory.remove(RepositoryEntry, entry.key)]
    await call.append(*gone, vault.change(entry.key, Secrets()))
    await call.core.engine.forget(entry.key)
    await call.note("repository.delete", entry.key)
