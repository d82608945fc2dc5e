"""The indices of a suite, built as one set: Packages, Sources, Contents, Translation, Release.

One pass over the suite's pointers, a package at a time; every text goes straight into a blob.

Spec: Debian repository format §Packages indices, §Sources indices, §Translation indices.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import groupby, islice
from operator import itemgetter

import msgspec

from formats.contract import Repository
from formats.debian import control, pool
from formats.debian.contents import Sorter
from formats.debian.pool import Place
from formats.debian.twins import CHECKSUMS, TWINS, Text, compress
from formats.debian.versions import sort_key
from store.blobs import Ingested
from store.rows import Artifact, Pointer

FLAT = ""  # the distribution that lists every package, at the repository's root
ARCHITECTURES = ("amd64", "arm64")  # served even while nothing is published for them
SHELVES_MAX = 200  # (component, architecture) pairs of one suite; more are not listed
BATCH = 200  # rows whose metadata is in memory at once
OURS = frozenset(  # fields that the index states; what a package says of them is dropped
    [
        *("package", "source", "filename", "size", "directory", "files", "description-md5"),
        *("md5sum", "sha1", "sha256", "sha512"),
        *("checksums-sha1", "checksums-sha256", "checksums-sha512"),
    ]
)


@dataclass(frozen=True, slots=True)
class Listing:
    """A file of the suite with the place that lists it."""

    place: Place
    artifact: Artifact


async def find_shelves(repository: Repository, distribution: str) -> Mapping[str, Sequence[str]]:
    """Components of a suite and the architectures of each, in order; ``source`` among them."""

    async def render() -> bytes:
        return msgspec.json.encode(await _all_shelves(repository))

    rendered = await repository.cached("shelves", render)
    found: dict[str, list[str]] = {}
    for place in msgspec.json.decode(rendered.data, type=list[tuple[str, str, str]]):
        if distribution in {FLAT, place[0]}:
            held = found.setdefault(place[1], [])
            held += [place[2]] if place[2] not in held else []
    return {component: sorted(found[component]) for component in sorted(found)}


async def _all_shelves(repository: Repository) -> Sequence[tuple[str, str, str]]:
    """Every (distribution, component, architecture) of the repository, found in one walk."""
    found: set[tuple[str, str, str]] = set()
    async for pointer in repository.all_pointers():
        place = pool.read_place(pointer)
        if place is not None:
            found.add((place.distribution, place.component, place.architecture))
    suites = groupby(sorted(found), key=itemgetter(0))
    return [each for _, shelves in suites for each in islice(shelves, SHELVES_MAX)]


async def listings(repository: Repository, distribution: str) -> AsyncIterator[Sequence[Listing]]:
    """Files of a suite, a package at a time, oldest version first; each build once."""
    group: list[Pointer] = []
    async for pointer in repository.all_pointers():
        if group and pointer.package != group[0].package:
            yield await _resolve(repository, distribution, group)
            group = []
        place = pool.read_place(pointer)
        if place is not None and distribution in {FLAT, place.distribution}:
            group.append(pointer)
    if group:
        yield await _resolve(repository, distribution, group)


async def _resolve(
    repository: Repository, distribution: str, pointers: Sequence[Pointer]
) -> Sequence[Listing]:
    rows = {row.path: row for row in await repository.artifacts(pointers[0].package)}
    found: dict[tuple[str, ...], Listing] = {}
    for pointer in sorted(pointers, key=lambda each: (each.value, each.name)):
        place, row = pool.read_place(pointer), rows.get(pointer.value.decode("utf-8", "replace"))
        if place is None or row is None:
            continue  # its file was deleted where this pointer was not known
        component = "" if distribution == FLAT else place.component
        build = (component, row.version, place.architecture)
        found.setdefault(build, Listing(place, row))
    return sorted(
        found.values(),
        key=lambda each: (
            sort_key(each.artifact.version),
            each.place.component,
            each.place.architecture,
            each.artifact.path,
        ),
    )


# --- stanzas ------------------------------------------------------------------------------------
def description_md5(fields: Mapping[str, str]) -> str:
    """The key between a package and its translated description."""
    text = control.field(fields, "Description") + "\n"
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def package_stanza(fields: Mapping[str, str], artifact: Artifact) -> bytes:
    """A package as Packages lists it: its own fields, then where and what the file is."""
    sums = artifact.checksums
    kept = [(n, v) for n, v in fields.items() if n.lower() not in OURS or n.lower() == "source"]
    stanza = [("Package", control.field(fields, "Package"))]
    stanza += [(name, value) for name, value in kept if name.lower() != "package"]
    stanza += [("Filename", artifact.path), ("Size", str(artifact.size))]
    for name, algorithm in (("MD5sum", "md5"), ("SHA1", "sha1"), ("SHA256", "sha256")):
        if algorithm in sums:
            stanza.append((name, sums[algorithm]))
    stanza.append(("Description-md5", description_md5(fields)))
    return control.render(stanza).encode()


def translation_stanza(fields: Mapping[str, str]) -> bytes:
    """The description of a package, by its key."""
    stanza = [
        ("Package", control.field(fields, "Package")),
        ("Description-md5", description_md5(fields)),
        ("Description-en", control.field(fields, "Description")),
    ]
    return control.render(stanza).encode()


def source_stanza(fields: Mapping[str, str], dsc: Artifact, files: Sequence[Artifact]) -> bytes:
    """A source package as Sources lists it, its ``.dsc`` among its files."""
    stanza = [("Package", control.field(fields, "Source"))]
    stanza += [(name, value) for name, value in fields.items() if name.lower() not in OURS]
    stanza.append(("Directory", dsc.path.rpartition("/")[0]))
    listed = [dsc, *files]
    names = (("Files", "md5"), ("Checksums-Sha1", "sha1"), ("Checksums-Sha256", "sha256"))
    for name, algorithm in names:
        if all(algorithm in each.checksums for each in listed):
            lines = [f"\n {e.checksums[algorithm]} {e.size} {e.filename}" for e in listed]
            stanza.append((name, "".join(lines)))
    return control.render(stanza).encode()


# --- building -----------------------------------------------------------------------------------
class Builder:
    """Renders the texts of a suite side by side."""

    def __init__(self, repository: Repository, distribution: str) -> None:
        self._repository, self._distribution = repository, distribution
        self._texts: dict[str, Text] = {}
        self._sorters: dict[str, Sorter] = {}
        self._architectures: dict[str, list[str]] = {}
        self._translated: set[str] = set()  # descriptions of the package at hand

    async def build(self, shelves: Mapping[str, Sequence[str]]) -> dict[str, Ingested]:
        """Every index but the Release family, by its path below the suite."""
        async with AsyncExitStack() as stack:
            for component, architectures in shelves.items():
                await self._open(stack, component, architectures)
            async for group in listings(self._repository, self._distribution):
                self._translated.clear()
                for at in range(0, len(group), BATCH):
                    await self._add(group[at : at + BATCH])
            for path, sorter in self._sorters.items():
                await sorter.write(self._texts[path])
            for text in self._texts.values():
                await text.flush()
        found = {path: text.ingest.result for path, text in self._texts.items()}
        for path in sorted(self._texts):
            contents = path in self._sorters
            for suffix, start in TWINS.items():
                if suffix == ".gz" or not contents:
                    found[path + suffix] = await compress(self._repository, found[path], start)
        return found

    async def _open(
        self, stack: AsyncExitStack, component: str, architectures: Sequence[str]
    ) -> None:
        binary = sorted({*architectures, *ARCHITECTURES} - {pool.SOURCE, "all"})
        self._architectures[component] = binary
        paths = [self._packages(component, each) for each in binary]
        if self._distribution == FLAT:
            paths = ["Packages"]
        else:
            paths.append(f"{component}/i18n/Translation-en")
            if pool.SOURCE in architectures:
                paths.append(f"{component}/{pool.SOURCE}/Sources")
            if self._repository.options.get("contents", True):
                for each in binary:
                    path = f"{component}/Contents-{each}"
                    self._sorters[path] = Sorter(self._repository)
                    paths.append(path)
        for path in paths:
            if path not in self._texts:
                ingest = self._repository.ingest(checksums=CHECKSUMS)
                self._texts[path] = Text(await stack.enter_async_context(ingest))

    def _packages(self, component: str, architecture: str) -> str:
        if self._distribution == FLAT:
            return "Packages"
        return f"{component}/binary-{architecture}/Packages"

    async def _add(self, group: Sequence[Listing]) -> None:
        loaded = await self._repository.metadata([each.artifact for each in group])
        for listing, metadata in zip(group, loaded, strict=True):
            fields = msgspec.json.decode(metadata)["control"] if metadata else {}
            if listing.artifact.role == "deb":
                await self._add_binary(listing, fields)
            elif listing.artifact.role == "dsc":
                await self._add_source(listing, fields)

    async def _add_binary(self, listing: Listing, fields: Mapping[str, str]) -> None:
        component, architecture = listing.place.component, listing.place.architecture
        stanza = package_stanza(fields, listing.artifact)
        every = self._architectures.get(component, [])
        targets = every if architecture == "all" else [architecture]
        for path in dict.fromkeys(self._packages(component, each) for each in targets):
            if path in self._texts:
                await self._texts[path].write(stanza)
        for each in targets:
            sorter = self._sorters.get(f"{component}/Contents-{each}")
            if sorter is not None:
                await self._add_contents(sorter, listing.artifact, fields)
        await self._translate(component, fields)

    async def _translate(self, component: str, fields: Mapping[str, str]) -> None:
        text = self._texts.get(f"{component}/i18n/Translation-en")
        if text is None:
            return
        key = f"{component}/{description_md5(fields)}"
        if key not in self._translated:
            self._translated.add(key)
            await text.write(translation_stanza(fields))

    async def _add_contents(
        self, sorter: Sorter, artifact: Artifact, fields: Mapping[str, str]
    ) -> None:
        listing = await self._repository.find(pool.listing_path(artifact.path))
        if listing is not None:
            section = control.field(fields, "Section") or "misc"
            package = control.field(fields, "Package")
            await sorter.add(listing.digest, f"{section}/{package}".replace(" ", "_"))

    async def _add_source(self, listing: Listing, fields: Mapping[str, str]) -> None:
        """Add a source package whose files are all here: they may come one by one."""
        text = self._texts.get(f"{listing.place.component}/{pool.SOURCE}/Sources")
        if text is None:
            return
        folder = listing.artifact.path.rpartition("/")[0]
        files = []
        for each in control.listed_files(fields):
            found = await self._repository.find(f"{folder}/{each.name}")
            if found is None or found.digest.hex != each.sha256:
                return
            files.append(found)
        await text.write(source_stanza(fields, listing.artifact, files))
