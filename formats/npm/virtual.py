"""Packages of several members as one: the first that has a version, or a tag, gives it.

Spec: npm registry "Package metadata"; formats.md §3.2 (virtual).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from formats.contract import Request, Response
from formats.npm.names import base_name, package_of, tarball_name
from formats.npm.packument import ABBREVIATED_TYPE, FULL_TYPE
from formats.npm.upstream import Members as Object
from formats.npm.upstream import one_version, version_asked, wants_short
from formats.virtual import Ask, Document, Members, Virtual, lister
from store.errors import NotFoundError, PackageUnknownError

KEYS, ATTESTATIONS = "/-/npm/v1/keys", "/-/npm/v1/attestations/"
SHORT_ACCEPT = f"{ABBREVIATED_TYPE}; q=1.0, application/json; q=0.8"
decode, encode = msgspec.json.decode, msgspec.json.encode


async def answer(request: Request, members: Members) -> Response | None:
    """A packument, a tarball, or what can be read off a packument."""
    if request.path.startswith("/-/") and not request.path.startswith("/-/package/"):
        return await _other(request, members)
    params = request.params
    if "file" in params:
        return await _tarball(members, package_of(request), request)
    first, second = params.get("package", ""), params.get("version", "")
    name = f"{first}/{second}" if first.startswith("@") and second else package_of(request)
    if "/" in first:
        name = package_of(request)
    if request.path.startswith("/-/package/"):
        return await _merged(members, name, "tags", _tags)
    wanted = version_asked(request)
    if wanted:
        return await _version(request, members, name, wanted)
    if request.argument("write") and members.publishing:
        return await members.target()  # whose ``_rev`` the change that follows must name
    short = wants_short(request)
    return await _merged(members, name, "short" if short else "full", _packument, short=short)


async def _other(request: Request, members: Members) -> Response | None:
    if request.path.rstrip("/") == KEYS:
        documents = await members.documents("", Ask(KEYS))
        return await members.merged("keys", documents, lambda: _keys(documents))
    if not request.path.startswith(ATTESTATIONS):
        return None
    params = request.params
    text = params.get("scope", "") + ("/" if "scope" in params else "") + params["spec"]
    name, _, version = text.rpartition("@")
    if not name:
        raise PackageUnknownError(f"no package {text[:200]!r} here")
    return await members.of(await _giver(members, name, tarball_name(name, version)))


async def _tarball(members: Members, name: str, request: Request) -> Response:
    repeated = request.params.get("repeated", "")
    if repeated and f"{repeated}/{base_name(name)}" != name:
        raise NotFoundError("no such tarball")
    return await members.of(await _giver(members, name, request.params["file"]))


async def _giver(members: Members, name: str, filename: str) -> int:
    """The first member that has the version of a tarball."""
    documents = await _packuments(members, name, short=True)

    def listed(document: Document) -> list[str]:
        return [tarball_name(name, each) for each in _versions(document)]

    return await lister(members, documents, listed, [filename])


# --- packuments ---------------------------------------------------------------------------------
async def _packuments(members: Members, name: str, *, short: bool) -> Sequence[Document]:
    """Each member's packument.  Raises PackageUnknownError."""
    accept = SHORT_ACCEPT if short else FULL_TYPE
    found = await members.documents(name, Ask(f"/{name}", accept))
    if not found:
        raise PackageUnknownError(f"no package {name} here")
    return found


async def _merged(
    members: Members,
    name: str,
    kind: str,
    build: Callable[[Sequence[Document], str], Response],
    *,
    short: bool = False,
) -> Response:
    documents = await _packuments(members, name, short=short)
    media_type = ABBREVIATED_TYPE if short else FULL_TYPE
    return await members.merged(f"{kind} {name}", documents, lambda: build(documents, media_type))


def _versions(document: Document) -> Object:
    return decode(decode(document.data, type=Object).get("versions", b"{}"), type=Object)


def merge(documents: Sequence[Document]) -> Object:
    """The union of versions and tags; what is said of the whole package, the first says."""
    found: Object = {}
    versions: Object = {}
    tags: dict[str, str] = {}
    times: dict[str, str] = {}
    for each in documents:
        packument = decode(each.data, type=Object)
        theirs = decode(packument.get("versions", b"{}"), type=Object)
        told = decode(packument.get("time", b"{}"), type=dict[str, object])
        for version, manifest in theirs.items():
            if version not in versions:
                versions[version] = manifest
                if isinstance(told.get(version), str):
                    times[version] = str(told[version])
        for tag, version in decode(packument.get("dist-tags", b"{}"), type=dict[str, str]).items():
            if version in theirs:
                tags.setdefault(tag, version)
        for name, value in packument.items():
            found.setdefault(name, value)
        _spread(times, told)
    found["versions"], found["dist-tags"] = _raw(versions), _raw(tags)
    if "time" in found:
        found["time"] = _raw(times)
    return found


def _spread(times: dict[str, str], told: dict[str, object]) -> None:
    """Keep when the package was first made, and last changed, by anybody."""
    created, modified = told.get("created"), told.get("modified")
    if isinstance(created, str):
        times["created"] = min(times.get("created", created), created)
    if isinstance(modified, str):
        times["modified"] = max(times.get("modified", modified), modified)


def _raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(encode(value))


def _packument(documents: Sequence[Document], media_type: str) -> Response:
    vary = (("vary", "Accept"),)
    found = merge(documents)
    moments = [decode(each.data, type=_Modified).modified for each in documents]
    if "modified" in found:
        found["modified"] = _raw(max(moments))
    return Response(content=encode(found), media_type=media_type, headers=vary)


class _Modified(msgspec.Struct):
    modified: str = ""


def _tags(documents: Sequence[Document], media_type: str) -> Response:
    return Response(content=bytes(merge(documents)["dist-tags"]), media_type=media_type)


async def _version(request: Request, members: Members, name: str, wanted: str) -> Response:
    documents = await _packuments(members, name, short=False)

    def build() -> Response:
        data = one_version(merge(documents), name, wanted, request.base_url)
        return Response(content=data, media_type=FULL_TYPE)

    return await members.merged(f"version {name} {wanted}", documents, build)


class _Keys(msgspec.Struct):
    keys: list[dict[str, object]] = []


def _keys(documents: Sequence[Document]) -> Response:
    """The keys that any member's signatures are checked by."""
    found: dict[str, dict[str, object]] = {}
    for each in documents:
        for key in decode(each.data, type=_Keys).keys:
            found.setdefault(str(key.get("keyid")), key)
    return Response(content=encode({"keys": list(found.values())}), media_type=FULL_TYPE)


VIRTUAL = Virtual(answer)
