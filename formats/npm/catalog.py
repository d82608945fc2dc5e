"""Reading a package's rows into the values that the renderers take."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import msgspec

from formats.contract import Repository
from formats.npm.names import precedence
from formats.npm.packument import Package, Release, Stored, Tags
from store.errors import PackageUnknownError
from store.rows import Artifact, FlagRow, Pointer

TARBALL, MANIFEST, ATTESTATION = "tarball", "manifest", "attestation"
DEPRECATED = "deprecated"
MAINTAINERS, USERS = ":maintainers", ":users"  # pointers that are documents; no tag has a colon


def tarball_path(package: str, filename: str) -> str:
    """The coordinate of a tarball; what else belongs to a version lies under its version."""
    return f"{package}/-/{filename}"


def beside(package: str, version: str, name: str) -> str:
    """The coordinate of a version's manifest or attestation."""
    return f"{package}/{version}/{name}"


def revision(
    artifacts: Iterable[Artifact], pointers: Iterable[Pointer], flags: Iterable[FlagRow]
) -> str:
    """CouchDB's ``_rev``: derived from the records that made the package what it is."""
    records = {each.record for each in artifacts}
    records.update(record for each in pointers for record in each.records)
    records.update(record for each in flags for record in each.records)
    digest = hashlib.sha256(b"".join(sorted(records))).hexdigest()[:32]
    return f"{len(records)}-{digest}"


def tags_of(artifacts: Iterable[Artifact], pointers: Iterable[Pointer]) -> Tags:
    """Dist-tags of a package."""
    values = {p.name: p.value.decode() for p in pointers if not p.name.startswith(":")}
    return Tags(values, sorted({a.version for a in artifacts if a.role == TARBALL}, key=precedence))


def deprecations(flags: Iterable[FlagRow]) -> dict[str, str]:
    """Deprecation messages by version; of rival ones the greatest, whatever their order."""
    found: dict[str, str] = {}
    for flag in flags:
        if flag.name == DEPRECATED:
            found[flag.version] = max(found.get(flag.version, ""), flag.value.decode())
    return found


async def load_package(repository: Repository, name: str, *, full: bool) -> Package:
    """Read a package.  Raises PackageUnknownError when no version of it is here."""
    artifacts = await repository.artifacts(name)
    tarballs = [each for each in artifacts if each.role == TARBALL]
    if not tarballs:
        raise PackageUnknownError(f"no package {name} here")
    pointers, flags = await repository.pointers(name), await repository.flags(name)
    tags = tags_of(tarballs, pointers).visible()
    documents = {each.name: each.value for each in pointers if each.name.startswith(":")}
    updated = [each.updated for each in pointers] + [each.updated for each in flags]
    return Package(
        name=name,
        releases=await _releases(repository, artifacts, tarballs, flags, full=full),
        tags=tags,
        modified=max([*updated, *(each.published for each in tarballs)]),
        revision=revision(artifacts, pointers, flags),
        readme=await _readme(repository, artifacts, tags["latest"]) if full else "",
        maintainers=documents.get(MAINTAINERS, b""),
        users=documents.get(USERS, b""),
    )


async def _releases(
    repository: Repository,
    artifacts: Sequence[Artifact],
    tarballs: Sequence[Artifact],
    flags: Sequence[FlagRow],
    *,
    full: bool,
) -> list[Release]:
    manifests: dict[str, bytes] = {}
    if full:
        found = [each for each in artifacts if each.role == MANIFEST]
        texts = await repository.metadata(found)
        manifests = {a.version: text for a, text in zip(found, texts, strict=True)}
    marks = deprecations(flags)
    attested = {a.version: a.metadata.decode() for a in artifacts if a.role == ATTESTATION}
    decode = msgspec.json.Decoder(Stored).decode
    releases = [
        Release(
            version=each.version,
            filename=each.filename,
            stored=decode(text),
            published=each.published,
            manifest=manifests.get(each.version, b""),
            deprecated=marks.get(each.version, ""),
            attested=msgspec.json.decode(attested.get(each.version, '""'), type=str),
        )
        for each, text in zip(tarballs, await repository.metadata(tarballs), strict=True)
    ]
    return sorted(releases, key=lambda each: precedence(each.version))


class _Readme(msgspec.Struct):
    readme: str = ""


async def _readme(repository: Repository, artifacts: Iterable[Artifact], version: str) -> str:
    for each in artifacts:
        if each.role == MANIFEST and each.version == version:
            return msgspec.json.decode(await repository.load(each.digest), type=_Readme).readme
    return ""
