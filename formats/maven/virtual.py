"""Artifacts of several members as one: metadata merged at every level, its checksums made anew.

A file, and with it its checksums, comes from the first member that has it.
Spec: Maven repository metadata model 1.1; formats.md §3.1 (virtual).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from xml.etree.ElementTree import Element

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import ParseError, fromstring

from formats.contract import Request, Response
from formats.maven.documents import XML, element
from formats.maven.layout import CATALOG, METADATA, SNAPSHOT, is_snapshot, read_path, sidecar_of
from formats.maven.reading import XML_TYPE, hash_bytes
from formats.maven.versions import ordered
from formats.virtual import Ask, Document, Members, Virtual
from store.errors import NotFoundError, PathInvalidError

TEXT = "text/plain; charset=utf-8"
SUMS = ("sha256", "sha1", "md5")


async def answer(request: Request, members: Members) -> Response | None:
    """A file, metadata, or a checksum of either; None for folders and the archetype catalog."""
    path = request.params.get("path", "")
    if not path or request.path.endswith("/"):
        return None
    sidecar = sidecar_of(path)
    base = sidecar[0] if sidecar else path
    if base == CATALOG:
        return None
    if base.rpartition("/")[2] == METADATA:
        document = await _metadata(members, base.rpartition("/")[0])
        if sidecar is None or not isinstance(document.content, bytes):
            return document
        value = hash_bytes(sidecar[1], document.content)
        return Response(content=value.encode(), media_type=TEXT)
    try:
        found = await members.first(_package(base))
    except NotFoundError:
        return None  # a folder, perhaps of several members
    return None if _is_listing(found) else found


def _package(path: str) -> str:
    try:
        return read_path(path).package
    except PathInvalidError:
        return path.rpartition("/")[0] or path


def _is_listing(response: Response) -> bool:
    """Tell a folder of one member, to be listed with the others', from a file."""
    return ("vary", "Accept") in response.headers


# --- metadata -----------------------------------------------------------------------------------
async def _metadata(members: Members, folder: str) -> Response:
    """The merged metadata of a folder.  Raises NotFoundError."""
    package, group = _owner(folder)
    documents = await members.documents(package, Ask(f"/{folder}/{METADATA}"))
    if not documents:
        raise NotFoundError(f"no metadata for {folder[:300]}")
    allowed = {
        (each.member, plugin)
        for each in documents
        for plugin in _plugins_of(each)
        if await members.may(each.member, f"{group}:{plugin}")
    }

    def build() -> Response:
        merged = Merged()
        for each in documents:
            merged.add(each, allowed)
        data = merged.render()
        headers = tuple((f"x-checksum-{name}", hash_bytes(name, data)) for name in SUMS)
        return Response(content=data, media_type=XML_TYPE, headers=headers)

    return await members.merged(f"metadata {folder} {sorted(allowed)}", documents, build)


def _owner(folder: str) -> tuple[str, str]:
    """The package that a folder is, or is a snapshot of; and the group that it may be."""
    above, _, name = folder.rpartition("/")
    if is_snapshot(name):
        above, _, name = above.rpartition("/")
    return f"{above.replace('/', '.')}:{name}", folder.replace("/", ".")


def _root(document: Document) -> Element:
    try:
        return fromstring(document.data)
    except (ParseError, DefusedXmlException, ValueError, RecursionError):
        return Element("metadata")  # what is not XML says nothing


def _plugins_of(document: Document) -> list[str]:
    found = (_text(each, "artifactId") for each in _all(_root(document), "plugins", "plugin"))
    return [each for each in found if each]


def _local(node: Element) -> str:
    return node.tag.rpartition("}")[2]


def _all(node: Element, *path: str) -> list[Element]:
    """Descendants by the names of elements, whatever their namespace."""
    found = [node]
    for name in path:
        found = [child for each in found for child in each if _local(child) == name]
    return found


def _text(node: Element, *path: str) -> str:
    found = _all(node, *path)
    return (found[0].text or "").strip() if found else ""


@dataclass(slots=True)
class Merged:
    """What several metadata documents say together; the first word on each thing counts."""

    group: str = ""
    artifact: str = ""
    version: str = ""
    updated: str = ""
    versions: set[str] = field(default_factory=set[str])
    plugins: dict[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])
    snapshots: dict[tuple[str, str], tuple[bool, str, str]] = field(
        default_factory=dict[tuple[str, str], tuple[bool, str, str]]
    )
    newest: tuple[str, int] = ("", 0)

    def add(self, document: Document, allowed: Iterable[tuple[int, str]]) -> None:
        """Take a member's document in."""
        root = _root(document)
        self.group = self.group or _text(root, "groupId")
        self.artifact = self.artifact or _text(root, "artifactId")
        self.version = self.version or _text(root, "version")
        self.updated = max(self.updated, _text(root, "versioning", "lastUpdated"))
        told = _all(root, "versioning", "versions", "version")
        names = [(each.text or "").strip() for each in told]
        names += [_text(root, "versioning", each) for each in ("latest", "release")]
        self.versions.update(each for each in names if each)
        for each in _all(root, "plugins", "plugin"):
            plugin, prefix = _text(each, "artifactId"), _text(each, "prefix")
            if prefix and (document.member, plugin) in allowed:
                self.plugins.setdefault(prefix, (plugin, _text(each, "name") or plugin))
        self._add_snapshots(root)

    def _add_snapshots(self, root: Element) -> None:
        stamp = _text(root, "versioning", "snapshot", "timestamp")
        build = _text(root, "versioning", "snapshot", "buildNumber")
        if stamp and build.isascii() and build.isdecimal() and len(build) < 10:
            self.newest = max(self.newest, (stamp, int(build)))
        for each in _all(root, "versioning", "snapshotVersions", "snapshotVersion"):
            place = (_text(each, "classifier"), _text(each, "extension"))
            value, updated = _text(each, "value"), _text(each, "updated")
            entry = (not value.endswith(SNAPSHOT), updated, value)
            if value and (place not in self.snapshots or entry[:2] > self.snapshots[place][:2]):
                self.snapshots[place] = entry

    def render(self) -> bytes:
        """The document."""
        snapshot = is_snapshot(self.version)
        lines = [XML, '<metadata modelVersion="1.1.0">' if snapshot else "<metadata>"]
        lines += self._plugin_lines()
        if self.artifact and (self.versions or snapshot):
            lines += [element("groupId", self.group, 1), element("artifactId", self.artifact, 1)]
            if snapshot:
                lines.append(element("version", self.version, 1))
            lines.append("  <versioning>")
            lines += self._snapshot_lines() if snapshot else self._version_lines()
            lines.append("  </versioning>")
        return "\n".join([*lines, "</metadata>", ""]).encode()

    def _plugin_lines(self) -> Sequence[str]:
        if not self.plugins:
            return ()
        lines = ["  <plugins>"]
        for prefix, (plugin, name) in sorted(self.plugins.items()):
            lines += ["    <plugin>", element("name", name, 3), element("prefix", prefix, 3)]
            lines += [element("artifactId", plugin, 3), "    </plugin>"]
        return [*lines, "  </plugins>"]

    def _version_lines(self) -> Sequence[str]:
        versions = ordered(self.versions)
        releases = [each for each in versions if not each.endswith(SNAPSHOT)]
        lines = [element("latest", versions[-1], 2)]
        if releases:
            lines.append(element("release", releases[-1], 2))
        lines += ["    <versions>", *(element("version", each, 3) for each in versions)]
        return [*lines, "    </versions>", element("lastUpdated", self.updated, 2)]

    def _snapshot_lines(self) -> Sequence[str]:
        lines: list[str] = []
        if self.newest[0]:
            lines += ["    <snapshot>", element("timestamp", self.newest[0], 3)]
            lines += [element("buildNumber", self.newest[1], 3), "    </snapshot>"]
        lines += [element("lastUpdated", self.updated, 2), "    <snapshotVersions>"]
        for (classifier, extension), (_, updated, value) in sorted(self.snapshots.items()):
            lines.append("      <snapshotVersion>")
            if classifier:
                lines.append(element("classifier", classifier, 4))
            lines += [element("extension", extension, 4), element("value", value, 4)]
            lines += [element("updated", updated, 4), "      </snapshotVersion>"]
        return [*lines, "    </snapshotVersions>"]


VIRTUAL = Virtual(answer)
