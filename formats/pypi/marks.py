"""Yanking (PEP 592) and project status (PEP 792)."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from formats.contract import Answer, Publish, Repository, Request, Response
from formats.pypi.names import known_form, parse_version
from formats.pypi.projects import STATUS, STATUSES, YANKED, Status
from store.errors import NotFoundError, PackageUnknownError, RejectedError
from store.facts import Fact, Flag

REASON_MAX = 4096  # characters


class Reason(msgspec.Struct):
    """The body of a yank; empty bodies are fine."""

    reason: str = ""


Body = TypeVar("Body", Reason, Status)


async def yank(request: Request, repository: Repository) -> Answer:
    """Mark a version, or one of its files, as yanked.  Raises NotFoundError."""
    project, version, path = await _target(request, repository)
    body = _decode(request.document or b"{}", Reason)
    _check_reason(body.reason)
    seen = await _seen(repository, project, version, path, YANKED)
    value = body.reason.encode()
    fact = Flag(repository.key, project, version, path, YANKED, value, seen)
    return Publish((fact,), Response(204))


async def unyank(request: Request, repository: Repository) -> Answer:
    """Take a yank back; a version that is not yanked is not an error."""
    project, version, path = await _target(request, repository)
    seen = await _seen(repository, project, version, path, YANKED)
    facts: tuple[Fact, ...] = ()
    if seen:
        facts = (Flag(repository.key, project, version, path, YANKED, None, seen),)
    return Publish(facts, Response(204)) if facts else Response(204)


async def set_status(request: Request, repository: Repository) -> Answer:
    """Set a project's status marker; "active" clears it.  Raises PackageUnknownError."""
    project = known_form(request.params["project"])
    if not await repository.artifacts(project):
        raise PackageUnknownError(f"no project {project} here")
    body = _decode(request.document, Status)
    if body.status not in STATUSES:
        raise RejectedError(f"status is one of {', '.join(STATUSES)}")
    _check_reason(body.reason)
    seen = await _seen(repository, project, "", "", STATUS)
    if body.status == "active" and not seen:
        return Response(204)
    value = None if body.status == "active" else msgspec.json.encode(body)
    return Publish((Flag(repository.key, project, "", "", STATUS, value, seen),), Response(204))


async def _target(request: Request, repository: Repository) -> tuple[str, str, str]:
    """The project, version and path that a route names; all must exist."""
    project = known_form(request.params["project"])
    version = str(parse_version(request.params["version"]))
    files = await repository.artifacts(project, version)
    if not files:
        raise NotFoundError(f"{project} has no version {version}")
    filename = request.params.get("file", "")
    path = f"{project}/{filename}" if filename else ""
    if path and all(each.path != path for each in files):
        raise NotFoundError(f"{project} {version} has no file {filename}")
    return project, version, path


async def _seen(
    repository: Repository, project: str, version: str, path: str, name: str
) -> tuple[bytes, ...]:
    """Ids of the records that set a flag now."""
    return tuple(
        record
        for flag in await repository.flags(project)
        if (flag.version, flag.path, flag.name) == (version, path, name)
        for record in sorted(flag.records)
    )


def _decode(document: bytes, kind: type[Body]) -> Body:
    try:
        return msgspec.json.decode(document, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RejectedError(f"the body is malformed: {error}") from error


def _check_reason(text: str) -> None:
    if len(text) > REASON_MAX or not text.isprintable():
        raise RejectedError(f"a reason is one line of at most {REASON_MAX} characters")
