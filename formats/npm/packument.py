"""The packument: what npm clients read of a package.  Pure, and spliced rather than rebuilt.

Spec: npm registry "Package metadata".  A version is stored as two JSON objects, the abbreviated
manifest and the full one, each without what changes (``dist.tarball``, ``deprecated``).  Rendering
joins their bytes, so that a thousand versions cost no decoding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import msgspec

from formats.npm.names import is_prerelease, precedence

ABBREVIATED_TYPE = "application/vnd.npm.install-v1+json"
FULL_TYPE = "application/json"
ABBREVIATED = (
    "name",
    "version",
    "dependencies",
    "optionalDependencies",
    "devDependencies",
    "bundleDependencies",
    "bundledDependencies",
    "peerDependencies",
    "peerDependenciesMeta",
    "acceptDependencies",
    "bin",
    "directories",
    "engines",
    "os",
    "cpu",
    "libc",
    "funding",
)
PROMOTED = (  # the newest version speaks for the package
    "description",
    "homepage",
    "keywords",
    "repository",
    "author",
    "contributors",
    "bugs",
    "license",
    "readmeFilename",
)
encode = msgspec.json.encode


class Stored(msgspec.Struct, omit_defaults=True):
    """The metadata of a tarball."""

    abbreviated: msgspec.Raw
    dist: msgspec.Raw
    findings: list[str] = []


@dataclass(frozen=True, slots=True)
class Release:
    """One version.  ``manifest`` is b"" where the abbreviated form will do."""

    version: str
    filename: str
    stored: Stored
    published: float
    manifest: bytes = b""
    deprecated: str = ""
    attested: str = ""  # the predicate type of its attestation


@dataclass(frozen=True, slots=True)
class Package:
    """Everything the renderers see; releases come in version order."""

    name: str
    releases: Sequence[Release]
    tags: Mapping[str, str]
    modified: float
    revision: str = ""
    readme: str = ""
    maintainers: bytes = b""  # JSON
    users: bytes = b""  # JSON


@dataclass(frozen=True, slots=True)
class Tags:
    """Dist-tags as they are set, and the versions they may name."""

    pointers: Mapping[str, str]
    versions: Sequence[str] = field(default_factory=tuple[str, ...])

    def visible(self) -> dict[str, str]:
        """Tags whose version exists, with ``latest`` made up if it is not among them."""
        known = set(self.versions)
        found = {tag: v for tag, v in sorted(self.pointers.items()) if v in known}
        if "latest" not in found and known:
            found["latest"] = highest(self.versions)
        return dict(sorted(found.items()))


def highest(versions: Sequence[str]) -> str:
    """The highest release; a pre-release only if there is nothing else."""
    return max(versions, key=lambda each: (not is_prerelease(each), precedence(each)))


def iso_time(seconds: float) -> str:
    """Ledger time as JavaScript writes it."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z"


def tarball_url(base_url: str, package: str, filename: str) -> str:
    """Where a tarball is, scope unescaped as the public registry has it."""
    return f"{base_url}/{package}/-/{filename}"


# --- versions -----------------------------------------------------------------------------------
def _dist(package: str, release: Release, base_url: str) -> bytes:
    added = b'"tarball":' + encode(tarball_url(base_url, package, release.filename))
    if release.attested:
        url = f"{base_url}/-/npm/v1/attestations/{package}@{release.version}"
        told = {"url": url, "provenance": {"predicateType": release.attested}}
        added += b',"attestations":' + encode(told)
    return _join(bytes(release.stored.dist), added)


def _join(document: bytes, members: bytes) -> bytes:
    """Put members at the end of an encoded object."""
    return document[:-1] + (b"," if len(document) > 2 else b"") + members + b"}"


def version_json(package: str, release: Release, base_url: str, *, full: bool) -> bytes:
    """One version's manifest."""
    added = b'"dist":' + _dist(package, release, base_url)
    if release.deprecated:
        added += b',"deprecated":' + encode(release.deprecated)
    return _join(release.manifest if full else bytes(release.stored.abbreviated), added)


def _versions(package: Package, base_url: str, *, full: bool) -> bytes:
    rows = (
        encode(each.version) + b":" + version_json(package.name, each, base_url, full=full)
        for each in package.releases
    )
    return b"{" + b",".join(rows) + b"}"


# --- documents ----------------------------------------------------------------------------------
def abbreviated(package: Package, base_url: str) -> bytes:
    """What installers ask for."""
    head = {
        "name": package.name,
        "modified": iso_time(package.modified),
        "dist-tags": package.tags,
    }
    return _join(encode(head), b'"versions":' + _versions(package, base_url, full=False))


def full(package: Package, base_url: str) -> bytes:
    """Everything, for ``npm view`` and for changing it."""
    times = {each.version: each.published for each in package.releases}
    head: dict[str, object] = {
        "_id": package.name,
        "_rev": package.revision,
        "name": package.name,
        "dist-tags": package.tags,
        "time": {
            "created": iso_time(min(times.values())),
            "modified": iso_time(package.modified),
            **{version: iso_time(published) for version, published in times.items()},
        },
        "readme": package.readme,
        "_attachments": {},
        **promoted(package),
    }
    if package.maintainers:
        head["maintainers"] = msgspec.Raw(package.maintainers)
    if package.users:
        head["users"] = msgspec.Raw(package.users)
    head.setdefault("maintainers", [])
    return _join(encode(head), b'"versions":' + _versions(package, base_url, full=True))


def promoted(package: Package) -> dict[str, msgspec.Raw]:
    """What the newest version's manifest says for the whole package."""
    newest = next(each for each in package.releases if each.version == package.tags["latest"])
    manifest = msgspec.json.decode(newest.manifest or b"{}", type=dict[str, msgspec.Raw])
    return {name: manifest[name] for name in (*PROMOTED, "maintainers") if name in manifest}
