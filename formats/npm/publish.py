"""Publishing: the document, its tarball, and whether they say the same."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence

import msgspec

from formats.contract import Answer, FormFile, Publish, Repository, Request, Response, json_response
from formats.digests import hex_digest, verify
from formats.npm import bundle, update
from formats.npm.body import ATTACHMENT, DOCUMENT
from formats.npm.catalog import (
    DEPRECATED,
    MANIFEST,
    TARBALL,
    beside,
    tarball_path,
)
from formats.npm.documents import (
    Attachment,
    Manifest,
    Publication,
    decode_publication,
    split_manifest,
)
from formats.npm.names import check_name, check_tag, check_version, package_of, tarball_name
from formats.npm.packument import ABBREVIATED, Stored
from formats.npm.tarball import Tarball, read_tarball
from store.blobs import Ingested
from store.errors import DigestInvalidError, ManifestInvalidError, VersionExistsError
from store.facts import Fact, File, Flag, Point
from store.facts import Publish as PublishFact

INTEGRITY = re.compile(r"(sha1|sha256|sha384|sha512)-([A-Za-z0-9+/]+=*)(?:\?\S*)?\Z")
INSTALL_SCRIPTS = ("preinstall", "install", "postinstall")
COMPARED = (
    "dependencies",
    "optionalDependencies",
    "peerDependencies",
    "bundleDependencies",
    "scripts",
    "bin",
)


async def put_package(request: Request, repository: Repository) -> Answer:
    """Take a publish, or a change of what is published: the same URL carries both."""
    assert request.form is not None  # the route takes a form
    name = package_of(request)
    document = decode_publication("".join(request.form.fields.get(DOCUMENT, ())))
    if document.name not in {"", name} or document.id not in {"", name}:
        raise ManifestInvalidError("the document is of another package than the URL")
    tarballs = request.form.files.get(ATTACHMENT, ())
    if not tarballs:
        return await update.change(document, name, repository)
    return await publish(document, name, tarballs, repository)


async def publish(
    document: Publication, name: str, tarballs: Sequence[FormFile], repository: Repository
) -> Answer:
    """Publish one version.  Raises RejectedError, VersionExistsError.

    The same tarball again is a success that changes nothing but missing tags, so that a lost
    answer can be asked for again.
    """
    check_name(name)
    versions = {} if document.versions is msgspec.UNSET else document.versions
    if len(versions) != 1 or len(tarballs) != 1:
        raise ManifestInvalidError("one version with one tarball is expected")
    [(version, raw)] = versions.items()
    check_version(version)
    manifest = split_manifest(raw)
    if manifest.name != name or manifest.version != version:
        raise ManifestInvalidError("the manifest is of another name or version")
    tags = _check_tags(document.dist_tags, version)
    blob = tarballs[0].blob
    _check_length(document.attachments, tarballs[0].filename, blob)
    await _check_dist(manifest.dist, blob, repository)
    path = tarball_path(name, tarball_name(name, version))
    held = await repository.find(path)
    if held is not None and held.digest != blob.digest:
        raise VersionExistsError(f"cannot publish over the existing version {name}@{version}")
    facts: list[Fact] = []
    if held is None:
        readme = manifest.readme or document.readme or ""
        files = await _files(manifest, readme, blob, repository)
        files += await bundle.files(document.attachments, name, version, blob, repository)
        facts.append(PublishFact(repository.key, name, version, tuple(files)))
        if manifest.deprecated:
            value = manifest.deprecated.encode()
            facts.append(Flag(repository.key, name, version, "", DEPRECATED, value))
    facts += await _tag_facts(repository, name, tags, new=held is None)
    response = answer(name, blob.digest.hex)
    return Publish(tuple(facts), response) if facts else response


def answer(name: str, state: str) -> Response:
    """What CouchDB would say after a write."""
    return json_response({"ok": True, "id": name, "rev": f"1-{state[:32]}"}, status=201)


# --- checks -------------------------------------------------------------------------------------
def _check_tags(tags: Mapping[str, str], version: str) -> dict[str, str]:
    for tag, target in tags.items():
        check_tag(tag)
        if target != version:
            raise ManifestInvalidError(f"dist-tag {tag} names a version that is not published here")
    return dict(tags)


def _check_length(attachments: Mapping[str, Attachment], filename: str, blob: Ingested) -> None:
    attachment = attachments.get(filename)
    if attachment is None or attachment.length not in {None, blob.size}:
        raise ManifestInvalidError("the attachment's length is not the tarball's")


async def _check_dist(
    dist: Mapping[str, msgspec.Raw], blob: Ingested, repository: Repository
) -> None:
    """Verify ``dist.integrity`` (SRI) and ``dist.shasum`` where they are given."""
    expected = []
    for text in _string(dist.get("integrity")).split():
        found = INTEGRITY.match(text)
        if found is None:
            raise DigestInvalidError(f"not an integrity: {text[:200]!r}")
        try:
            value = base64.b64decode(found[2], validate=True).hex()
        except binascii.Error as error:
            raise DigestInvalidError(f"not an integrity: {text[:200]!r}") from error
        expected.append((found[1], value))
    shasum = _string(dist.get("shasum"))
    if shasum:
        expected.append(("sha1", hex_digest("sha1", shasum)))
    await verify(expected, blob, repository)


def _string(raw: msgspec.Raw | None) -> str:
    if raw is None:
        return ""
    try:
        return msgspec.json.decode(raw, type=str)
    except msgspec.ValidationError as error:
        raise ManifestInvalidError("dist holds something that is not text") from error


def _compare(
    rest: Mapping[str, msgspec.Raw], tarball: Tarball, name: str, version: str
) -> list[str]:
    """Refuse a tarball of another name or version; list the lesser differences as findings."""
    inside = tarball.package_json
    inner_name, inner_version = str(inside.get("name", "")), str(inside.get("version", ""))
    cleaned = inner_version.strip().lstrip("v=").strip()
    same_version = version in {cleaned, cleaned.partition("+")[0]}
    if inner_name.strip() != name or not same_version:
        what = f"{inner_name[:214]}@{inner_version[:256]}"
        raise ManifestInvalidError(f"the tarball's package.json is {what}, not {name}@{version}")
    findings = []
    for key in COMPARED:
        outer = msgspec.json.decode(rest[key]) if key in rest else None
        if (outer or None) != (inside.get(key) or None):
            findings.append(key)
    return findings


# --- what is stored -----------------------------------------------------------------------------
async def _files(
    manifest: Manifest, readme: str, blob: Ingested, repository: Repository
) -> list[File]:
    """The tarball and the full manifest.

    The manifest is kept whole as a file; that file's metadata is the same without the readme, which
    would weigh down every packument.
    """
    name, version = manifest.name, manifest.version
    tarball = await repository.inspect(blob.digest, read_tarball)
    findings = _compare(manifest.rest, tarball, name, version)
    stored = _stored(manifest.rest, manifest.dist, blob, tarball, findings)
    path = tarball_path(name, tarball_name(name, version))
    files = [_file(path, TARBALL, blob, msgspec.json.encode(stored))]
    short = msgspec.json.encode(manifest.rest)
    whole = msgspec.json.encode({**manifest.rest, "readme": readme}) if readme else short
    place = beside(name, version, "package.json")
    return [*files, _file(place, MANIFEST, await _store(repository, whole), short)]


def _stored(
    rest: Mapping[str, msgspec.Raw],
    dist: Mapping[str, msgspec.Raw],
    blob: Ingested,
    tarball: Tarball,
    findings: list[str],
) -> Stored:
    short: dict[str, object] = {key: rest[key] for key in ABBREVIATED if key in rest}
    scripts = msgspec.json.decode(rest["scripts"]) if "scripts" in rest else {}
    if isinstance(scripts, dict) and any(scripts.get(each) for each in INSTALL_SCRIPTS):
        short["hasInstallScript"] = True
    if tarball.shrinkwrap:
        short["_hasShrinkwrap"] = True
    sha512 = base64.b64encode(bytes.fromhex(blob.checksums["sha512"])).decode()
    computed = {
        "integrity": f"sha512-{sha512}",
        "shasum": blob.checksums["sha1"],
        "fileCount": tarball.files,
        "unpackedSize": tarball.unpacked_size,
    }
    kept = {k: v for k, v in dist.items() if k not in {"tarball", "attestations", *computed}}
    return Stored(
        msgspec.Raw(msgspec.json.encode(short)),
        msgspec.Raw(msgspec.json.encode({**kept, **computed})),
        findings,
    )


async def _store(repository: Repository, data: bytes) -> Ingested:
    async with repository.ingest() as sink:
        await sink.write(data)
    return sink.result


def _file(path: str, role: str, blob: Ingested, metadata: bytes = b"") -> File:
    sums = tuple(sorted(blob.checksums.items()))
    return File(path, role, str(blob.digest), blob.size, checksums=sums, metadata=metadata)


async def _tag_facts(
    repository: Repository, name: str, tags: Mapping[str, str], *, new: bool
) -> list[Fact]:
    """Set the tags of a publish; a repeated one only sets what is missing."""
    facts: list[Fact] = []
    for tag, version in sorted(tags.items()):
        pointer = await repository.pointer(name, tag)
        if pointer is None or (new and pointer.value != version.encode()):
            seen = pointer.records if pointer is not None else ()
            facts.append(Point(repository.key, name, tag, version.encode(), seen))
    return facts
