"""Suites of several members as one: indices merged, and signed by the virtual repository's key.

Of equal builds (package, version, architecture) the first member's is listed.  Its file is named
below ``members/KEY/``, so that no other member's file of the same path can take its place.
Upstream's signatures are not carried over: the merged set is vouched for by this mesh alone.
Spec: Debian repository format; formats.md §4.5 (virtual).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from functools import partial
from typing import BinaryIO
from urllib.parse import quote

from formats.contract import BINARY, BlobContent, Request, Response
from formats.debian import control, index, pool, release
from formats.debian.reading import media_type
from formats.debian.stanzas import UNPACKERS, Reader, fields_of, moved
from formats.debian.twins import CHECKSUMS, TWINS, Text, compress
from formats.debian.upstream import is_file
from formats.virtual import Ask, Document, Members, Virtual
from store.blobs import Ingested
from store.errors import (
    ManifestInvalidError,
    NotFoundError,
    RegistryError,
    UnavailableError,
)

FOLDER = "members"
PACKED = (".xz", ".gz")  # twins of each merged index
SHELVES_MAX = 64  # (component, architecture) pairs of one merged suite
NO_ALL = "No-Support-for-Architecture-all"


async def answer(request: Request, members: Members) -> Response | None:
    """A document of a suite, or a file; None for the keys."""
    params = request.params
    if "dist" in params:
        if "path" not in params:
            return None
        if not pool.DISTRIBUTION.match(params["dist"]):
            raise NotFoundError(f"no distribution {params['dist'][:200]}")
        return await _document(members, params["dist"], params["path"])
    if "digest" in params:
        path = f"by-hash/{params['algorithm']}/{params['digest']}"
        return await _document(members, index.FLAT, path)
    if params.get("file", "") in release.FLAT_NAMES:
        return await _document(members, index.FLAT, params["file"])
    if "component" in params:
        return await _file(members, f"pool/{params['component']}/{params['path']}")
    if "path" in params or "file" in params:
        return await _file(members, params.get("path") or params["file"])
    return None


# --- files --------------------------------------------------------------------------------------
async def _file(members: Members, path: str) -> Response:
    """A package's file: of the member that the path names, or of the first that has it."""
    folder, _, rest = path.partition("/")
    key, _, below = rest.partition("/")
    place = below if folder == FOLDER and below else path
    if not is_file(place):
        raise NotFoundError(f"no such file: {path[:300]}")
    name = package_name(place)
    if place is not path:
        try:
            member = await members.named(key, name)
            return await members.of(member, Ask(f"/{quote(place)}"))
        except NotFoundError as error:  # in the same words whether it is guarded or not there
            raise NotFoundError(f"no such file: {path[:300]}") from error
    keeper = await members.keeper(path)
    return await (members.first(name) if keeper is None else members.of(keeper))


def package_name(path: str) -> str:
    """The package that a file's name begins with, in lower case."""
    name = path.rpartition("/")[2].lower()
    return name.partition("_")[0].removesuffix(".deb")


# --- suites -------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Suite:
    """What a member's Release says."""

    document: Document
    fields: Mapping[str, str]
    files: frozenset[str]

    @property
    def time(self) -> float:
        """When it was made, seconds since 1970."""
        try:
            return parsedate_to_datetime(self.fields.get("Date", "")).timestamp()
        except (TypeError, ValueError, OverflowError):
            return 0.0

    def words(self, name: str) -> list[str]:
        """A field's words."""
        return self.fields.get(name, "").split()

    def forms(self, path: str) -> list[str]:
        """What an index is packed by, the cheapest to fetch first."""
        return [suffix for suffix in UNPACKERS if path + suffix in self.files]


class MemberFailedError(UnavailableError):
    """A member's Release was there, and an index of it was not."""

    def __init__(self, member: int, error: RegistryError) -> None:
        super().__init__(str(error))
        self.member = member


async def _sets(members: Members, distribution: str) -> Sequence[Mapping[str, Ingested]]:
    """The suite's set and those before it; without the members whose indices cannot be had.

    What is made without a member is not kept as if it were made with it.
    """
    suites = await _suites(members, distribution)
    key = release.set_key(distribution)
    while True:
        builder = Builder(members, distribution, suites)
        try:
            return await members.set(key, [each.document for each in suites], builder.build)
        except MemberFailedError as error:
            suites = [each for each in suites if each.document.member != error.member]
            if not suites:
                raise


async def _document(members: Members, distribution: str, path: str) -> Response:
    parts = path.split("/")
    current, *before = await _sets(members, distribution)
    if len(parts) >= 3 and parts[-3] == "by-hash":
        folder = "/".join(parts[:-3])
        for each in (current, *before):
            found = release.with_hash(each, folder, parts[-2], parts[-1])
            if found is not None:
                return _blob(found, BINARY)
        raise NotFoundError(f"no document {parts[-2]}:{parts[-1][:200]} in {folder[:200]}")
    if path not in current:
        raise NotFoundError(f"no such index: {path[:300]}")
    return _blob(current[path], media_type(path))


def _blob(blob: Ingested, kind: str) -> Response:
    content = BlobContent(blob.digest, blob.size)
    return Response(content=content, media_type=kind, etag=str(blob.digest))


async def _suites(members: Members, distribution: str) -> list[Suite]:
    """Each member's Release, signed inline or not.  Raises NotFoundError when nobody has one."""
    folder = f"/dists/{distribution}" if distribution else ""
    found = {e.member: e for e in await members.documents("", Ask(f"{folder}/InRelease"))}
    for each in await members.documents("", Ask(f"{folder}/Release")):
        found.setdefault(each.member, each)
    suites = [_read(found[number]) for number in sorted(found)]
    known = [each for each in suites if each is not None]
    if not known:
        raise NotFoundError(f"no distribution {distribution}")
    return known


def _read(document: Document) -> Suite | None:
    try:
        fields = control.read_paragraph(document.data)
    except ManifestInvalidError:
        return None
    lines = fields.get("SHA256", "").split("\n")
    files = frozenset(parts[2] for line in lines if len(parts := line.split()) == 3)
    return Suite(document, fields, files)


@dataclass(slots=True)
class Builder:
    """Merges the indices of a suite, one at a time."""

    members: Members
    distribution: str
    suites: Sequence[Suite]
    found: dict[str, Ingested] = field(default_factory=dict[str, Ingested])

    async def build(self) -> Mapping[str, Ingested]:
        """Every index and the Release family, by its path below the suite."""
        shelves = self._shelves()
        if self.distribution == index.FLAT:
            await self._merge("Packages", ["Packages"])
        for component, architectures in shelves.items() if self.distribution else ():
            for each in architectures:
                kind = "source/Sources" if each == pool.SOURCE else f"binary-{each}/Packages"
                every = [] if each == pool.SOURCE else [f"{component}/binary-all/Packages"]
                await self._merge(f"{component}/{kind}", [f"{component}/{kind}", *every])
        time = max(each.time for each in self.suites)
        repository = self.members.repository
        served = () if self.distribution else index.ARCHITECTURES
        return await release.signed(
            repository, self.distribution, shelves, self.found, time, served
        )

    def _shelves(self) -> Mapping[str, Sequence[str]]:
        """Components and the architectures of each: as configured, else what is likely wanted.

        An upstream may have a dozen architectures; those that nobody asked for are not fetched.
        """
        options = self.members.repository.options
        wanted = _names(options.get("architectures"))
        if not wanted:
            local = [s for s in self.suites if not s.document.remote]
            wanted = {*index.ARCHITECTURES, *(a for s in local for a in s.words("Architectures"))}
        components = _names(options.get("components"))
        found: dict[str, list[str]] = {}
        count = 0
        for suite in self.suites:
            for component in suite.words("Components"):
                if (components and component not in components) or not pool.COMPONENT.match(
                    component.rpartition("/")[2]
                ):
                    continue
                held = found.setdefault(component, [])
                offered = [a for a in suite.words("Architectures") if a in wanted and a != "all"]
                if not suite.document.remote or options.get("sources"):
                    has = suite.forms(f"{component}/{pool.SOURCE}/Sources")
                    offered += [pool.SOURCE] if has else []
                for each in offered:
                    if each not in held and count < SHELVES_MAX:
                        held.append(each)
                        count += 1
        return {component: sorted(found[component]) for component in sorted(found)}

    async def _merge(self, path: str, sources: Sequence[str]) -> None:
        """One merged index and its twins."""
        repository = self.members.repository
        seen: set[bytes] = set()
        async with AsyncExitStack() as stack:
            ingest = repository.ingest(checksums=CHECKSUMS)
            text = Text(await stack.enter_async_context(ingest))
            for suite in self.suites:
                for source in sources:
                    if source != path and NO_ALL in suite.fields:
                        continue
                    await self._add(suite, source, text, seen)
            await text.flush()
        self.found[path] = text.ingest.result
        for suffix in PACKED:
            packed = await compress(repository, self.found[path], TWINS[suffix])
            self.found[path + suffix] = packed

    async def _add(self, suite: Suite, path: str, text: Text, seen: set[bytes]) -> None:
        forms = suite.forms(path)
        if not forms:
            return
        member = suite.document.member
        where = "Directory" if path.endswith("/Sources") else "Filename"
        blob, suffix = await self._blob(suite, path, forms)
        read = partial(_read_stanzas, Reader(suffix), where, f"{FOLDER}/{suite.document.key}/")
        ended = False
        while not ended:
            rows, ended = await self.members.repository.inspect(blob.digest, read)
            for told, stanza in rows:
                package = told.get("package", "").lower()  # as apt and dpkg read it
                build = _build(package, told.get("version", ""), told.get("architecture", ""))
                place = told.get(where.lower(), "")
                if build not in seen and await self._lists(member, package, place):
                    seen.add(build)
                    await text.write(stanza + b"\n")

    async def _blob(self, suite: Suite, path: str, forms: Sequence[str]) -> tuple[BlobContent, str]:
        """An index in the first form that there is: not all that Release lists is served."""
        folder = f"/dists/{self.distribution}" if self.distribution else ""
        failed: RegistryError = NotFoundError(f"no {path}")
        for suffix in forms:
            ask = Ask(f"{folder}/{path}{suffix}")
            try:
                return await self.members.blob(suite.document.member, ask), suffix
            except RegistryError as error:
                failed = error
        raise MemberFailedError(suite.document.member, failed)

    async def _lists(self, member: int, package: str, place: str) -> bool:
        """Whether a member may be asked for a package, and for its file by the file's name."""
        if not package or not place or ".." in place.split("/"):
            return False
        if not await self.members.may(member, package):
            return False
        if not place.endswith(".deb"):
            return True
        name = package_name(place)
        return name == package or await self.members.may(member, name)


def _read_stanzas(
    reader: Reader, where: str, prefix: str, file: BinaryIO
) -> tuple[Sequence[tuple[Mapping[str, str], bytes]], bool]:
    """The next stanzas, with their files in another folder, and whether those were the last."""
    rows = [(fields_of(each), moved(each, where, prefix)) for each in reader(file)]
    return rows, reader.ended


def _build(*parts: str) -> bytes:
    """What tells a build from others: main has 60,000, and as texts each took 300 bytes."""
    return hashlib.sha256("\0".join(parts).encode("utf-8", "replace")).digest()[:16]


def _names(value: object) -> set[str]:
    return {each for each in value if isinstance(each, str)} if isinstance(value, list) else set()


VIRTUAL = Virtual(answer, str.lower)
