"""Changing what is published: deprecate, star, owners, dist-tags, unpublish.

npm clients read the packument with its ``_rev``, change it and send it back; what differs from what
is there becomes facts.  A stale ``_rev`` is a conflict, so no change is made on an old view.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from formats.contract import Answer, Publish, Repository, Request, json_response
from formats.npm.body import DOCUMENT
from formats.npm.catalog import (
    DEPRECATED,
    MAINTAINERS,
    TARBALL,
    USERS,
    deprecations,
    revision,
    tags_of,
    tarball_path,
)
from formats.npm.documents import (
    MALFORMED,
    Publication,
    decode_publication,
    split_manifest,
)
from formats.npm.names import check_tag, package_of
from store.errors import ConflictError, NotFoundError, PackageUnknownError, RejectedError
from store.facts import Delete, Fact, Flag, Point
from store.rows import Artifact, FlagRow, Pointer

MAINTAINERS_MAX = 64 << 10  # bytes


@dataclass(frozen=True, slots=True)
class State:
    """A package's rows, and the ``_rev`` that stands for them."""

    name: str
    artifacts: Sequence[Artifact]
    pointers: Sequence[Pointer]
    flags: Sequence[FlagRow]

    @property
    def rev(self) -> str:
        return revision(self.artifacts, self.pointers, self.flags)

    @property
    def versions(self) -> set[str]:
        return {each.version for each in self.artifacts if each.role == TARBALL}

    def seen(self, name: str) -> tuple[bytes, ...]:
        """Records of a pointer, which the next write supersedes."""
        return next((each.records for each in self.pointers if each.name == name), ())


async def load_state(repository: Repository, name: str) -> State:
    """Read a package.  Raises PackageUnknownError."""
    artifacts = await repository.artifacts(name)
    if not artifacts:
        raise PackageUnknownError(f"no package {name} here")
    return State(name, artifacts, await repository.pointers(name), await repository.flags(name))


def _check_rev(state: State, rev: str) -> None:
    if rev != state.rev:
        raise ConflictError("the package has changed meanwhile; read it again (stale _rev)")


def _done(name: str, rev: str, facts: Iterable[Fact], status: int = 201) -> Answer:
    response = json_response({"ok": True, "id": name, "rev": rev}, status=status)
    found = tuple(facts)
    return Publish(found, response) if found else response


async def change(document: Publication, name: str, repository: Repository) -> Answer:
    """A packument without tarballs: deprecations, stars, owners.  Never removes anything."""
    state = await load_state(repository, name)
    if document.rev:
        _check_rev(state, document.rev)
    return _done(name, state.rev, _changes(document, state, repository.key))


async def put_revision(request: Request, repository: Repository) -> Answer:
    """The same against a named revision; versions that are missing are unpublished."""
    assert request.form is not None  # the route takes a form
    name = package_of(request)
    document = decode_publication("".join(request.form.fields.get(DOCUMENT, ())))
    state = await load_state(repository, name)
    _check_rev(state, request.params["rev"])
    facts = _changes(document, state, repository.key)
    if document.versions is not msgspec.UNSET:
        gone = state.versions - set(document.versions)
        kept = [each for each in state.artifacts if each.version not in gone]
        facts += _deletions(repository.key, [a for a in state.artifacts if a.version in gone])
        facts += _retagged(document.dist_tags, state, kept, repository.key)
    return _done(name, state.rev, facts)


def _changes(document: Publication, state: State, key: str) -> list[Fact]:
    facts: list[Fact] = []
    if document.versions is not msgspec.UNSET:
        facts += _deprecated(document.versions, state, key)
    documents = {each.name: each.value for each in state.pointers}
    if document.users is not msgspec.UNSET:
        stars = {name: True for name, starred in document.users.items() if starred}
        users = msgspec.json.encode(stars, order="sorted")
        if users != documents.get(USERS, b"{}"):
            facts.append(Point(key, state.name, USERS, users, state.seen(USERS)))
    if document.maintainers is not msgspec.UNSET:
        people = _people(document.maintainers)
        if people != documents.get(MAINTAINERS, b"[]"):
            facts.append(Point(key, state.name, MAINTAINERS, people, state.seen(MAINTAINERS)))
    return facts


def _people(raw: msgspec.Raw) -> bytes:
    """Check a list of maintainers, and write it in one way.  Raises RejectedError."""
    try:
        found = msgspec.json.decode(raw, type=list[dict[str, object] | str])
    except MALFORMED as error:
        raise RejectedError(f"maintainers are malformed: {error}") from error
    people = msgspec.json.encode(found, order="sorted")
    if len(people) > MAINTAINERS_MAX:
        raise RejectedError("too many maintainers")
    return people


def _deprecated(versions: Mapping[str, msgspec.Raw], state: State, key: str) -> Iterable[Fact]:
    """Flags for the messages that differ from what is set."""
    now = deprecations(state.flags)
    for version, raw in versions.items():
        if version not in state.versions:
            continue
        message = split_manifest(raw).deprecated
        if message != now.get(version, ""):
            seen = tuple(
                record
                for flag in state.flags
                if flag.name == DEPRECATED and flag.version == version
                for record in sorted(flag.records)
            )
            value = message.encode() if message else None
            yield Flag(key, state.name, version, "", DEPRECATED, value, seen)


def _deletions(key: str, artifacts: Iterable[Artifact]) -> list[Fact]:
    return [Delete(key, each.path, (each.record,), "unpublished") for each in artifacts]


def _retagged(
    wanted: Mapping[str, str], state: State, kept: Sequence[Artifact], key: str
) -> Iterable[Fact]:
    """Make the dist-tags what the document says, as far as their versions stay."""
    tags = tags_of(state.artifacts, state.pointers)
    versions = {each.version for each in kept if each.role == TARBALL}
    for tag in tags.pointers:
        if tag not in wanted:
            yield Point(key, state.name, tag, None, state.seen(tag))
    for tag, version in wanted.items():
        if version in versions and tags.visible().get(tag) != version:
            yield Point(key, state.name, check_tag(tag), version.encode(), state.seen(tag))


async def delete_package(request: Request, repository: Repository) -> Answer:
    """Unpublish everything; the versions stay taken for other bytes."""
    state = await load_state(repository, package_of(request))
    _check_rev(state, request.params["rev"])
    facts = _deletions(repository.key, state.artifacts)
    facts += [Point(repository.key, state.name, p.name, None, p.records) for p in state.pointers]
    return _done(state.name, state.rev, facts, status=200)


async def delete_tarball(request: Request, repository: Repository) -> Answer:
    """Drop a version by its tarball; one that is gone is a success: clients ask for it last."""
    name = package_of(request)
    found = await repository.find(tarball_path(name, request.params["file"]))
    if found is None or found.role != TARBALL:
        return json_response({"ok": True})
    state = await load_state(repository, name)
    _check_rev(state, request.params["rev"])
    gone = [each for each in state.artifacts if each.version == found.version]
    return _done(name, state.rev, _deletions(repository.key, gone), status=200)


# --- dist-tags ----------------------------------------------------------------------------------
async def set_tag(request: Request, repository: Repository) -> Answer:
    """Point a dist-tag at a version; the body is the version as a JSON string."""
    name, tag = package_of(request), check_tag(request.params["tag"])
    try:
        version = msgspec.json.decode(request.document, type=str)
    except MALFORMED as error:
        raise RejectedError(f"a version as a JSON string is expected: {error}") from error
    if not any(a.role == TARBALL for a in await repository.artifacts(name, version)):
        raise NotFoundError(f"version not found: {name}@{version[:256]}")
    pointer = await repository.pointer(name, tag)
    seen = pointer.records if pointer is not None else ()
    fact = Point(repository.key, name, tag, version.encode(), seen)
    return Publish((fact,), json_response({"ok": True, "id": name, tag: version}, status=201))


async def remove_tag(request: Request, repository: Repository) -> Answer:
    """Remove a dist-tag.  Raises RejectedError for ``latest``, which every package has."""
    name, tag = package_of(request), request.params["tag"]
    if tag == "latest":
        raise RejectedError("the tag latest cannot be removed, only moved")
    pointer = await repository.pointer(name, tag)
    if pointer is None or tag.startswith(":"):
        raise NotFoundError(f"{name} has no dist-tag {tag[:128]}")
    fact = Point(repository.key, name, tag, None, pointer.records)
    return Publish((fact,), json_response({"ok": True, "id": name}))
