"""Documents that clients send: POMs, repository metadata, plugin descriptors.

Read without DTD or entities, and only as far as the registry needs; the bytes are kept as sent.

Spec: Maven POM reference; maven-metadata and plugin descriptor models.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO
from xml.etree.ElementTree import Element, ParseError

import defusedxml.ElementTree
from defusedxml.common import DefusedXmlException

from formats.archives import zip_members
from formats.archives.limits import Kind
from store.errors import ManifestInvalidError

POM_MAX = 4 << 20  # bytes
DESCRIPTOR = "META-INF/maven/plugin.xml"
DEPENDENCIES_MAX = 2000
LICENCES_MAX = 50
TEXT_MAX = 4000  # characters of one value
DEPENDENCY_FIELDS = ("groupId", "artifactId", "version", "scope", "type", "classifier", "optional")
MALFORMED = (ParseError, DefusedXmlException, ValueError, LookupError)  # all that odd XML raises


@dataclass(frozen=True, slots=True)
class Plugin:
    """A Maven plugin, as its group's metadata lists it."""

    name: str
    prefix: str
    artifact: str


def parse(data: bytes, root: str) -> Element:
    """Parse XML whose root element is ``root``.  Raises ManifestInvalidError."""
    try:
        found: Element = defusedxml.ElementTree.fromstring(data, forbid_dtd=True)
    except MALFORMED as error:
        raise ManifestInvalidError(f"not well-formed XML, or with a DTD: {error}") from error
    if _local(found) != root:
        raise ManifestInvalidError(f"the document is <{_local(found)[:99]}>, not <{root}>")
    return found


def text(element: Element | None, name: str) -> str:
    """The text of a child, trimmed and bounded; namespaces do not matter."""
    found = child(element, name)
    return (found.text or "").strip()[:TEXT_MAX] if found is not None else ""


def child(element: Element | None, name: str) -> Element | None:
    """The first child of that name."""
    return next(children(element, name), None)


def children(element: Element | None, name: str) -> Iterator[Element]:
    """Children of that name."""
    return (each for each in (() if element is None else element) if _local(each) == name)


def _local(element: Element) -> str:
    return str(element.tag).rpartition("}")[2]


# --- POM ----------------------------------------------------------------------------------------
def read_pom(data: bytes) -> dict[str, object]:
    """What the catalog keeps of a POM; its own coordinates with the parent's where it inherits."""
    project = parse(data, "project")
    parent = child(project, "parent")
    found: dict[str, object] = {
        "groupId": text(project, "groupId") or text(parent, "groupId"),
        "artifactId": text(project, "artifactId"),
        "version": text(project, "version") or text(parent, "version"),
        "packaging": text(project, "packaging") or "jar",
    }
    for name in ("name", "description", "url"):
        if value := text(project, name):
            found[name] = value
    if parent is not None:
        found["parent"] = {n: text(parent, n) for n in ("groupId", "artifactId", "version")}
    licences = [
        {name: value for name in ("name", "url") if (value := text(each, name))}
        for each in children(child(project, "licenses"), "license")
    ]
    dependencies = [
        {name: value for name in DEPENDENCY_FIELDS if (value := text(each, name))}
        for each in children(child(project, "dependencies"), "dependency")
    ]
    if licences:
        found["licenses"] = licences[:LICENCES_MAX]
    if dependencies:
        found["dependencies"] = dependencies[:DEPENDENCIES_MAX]
    return found


def check_pom(pom: dict[str, object], group: str, artifact: str, versions: set[str]) -> None:
    """See that a POM is of the coordinates it is uploaded to.  Raises ManifestInvalidError.

    Placeholders (``${revision}``) cannot be judged here.  sbt plugins carry their Scala and sbt
    versions in the directory but not in the POM.
    """
    stated = str(pom["artifactId"])
    if not ("${" in stated or stated == artifact or artifact.startswith(f"{stated}_")):
        raise ManifestInvalidError(f"the POM is of artifact {stated!r}, not {artifact!r}")
    for name, accepted in (("groupId", {group}), ("version", versions)):
        value = str(pom[name])
        if value not in accepted and "${" not in value:
            raise ManifestInvalidError(
                f"the POM has {name} {value!r}, not {' or '.join(sorted(accepted))!r}"
            )


# --- plugins ------------------------------------------------------------------------------------
def read_plugins(data: bytes) -> list[Plugin]:
    """The plugins that a client's group metadata lists.  Raises ManifestInvalidError."""
    found = [
        Plugin(text(each, "name"), text(each, "prefix"), text(each, "artifactId"))
        for each in children(child(parse(data, "metadata"), "plugins"), "plugin")
    ]
    return [each for each in found if each.prefix and each.artifact]


def find_descriptor(file: BinaryIO) -> bytes | None:
    """The plugin descriptor within a jar (for ``Repository.inspect``).

    A jar that is not a zip is its owner's business: nothing is read from it.  One that is, and is
    hostile, is refused: raises ManifestInvalidError, TooLargeError.
    """
    magic = file.read(4)
    file.seek(0)
    if not magic.startswith(b"PK"):
        return None
    found = None
    for member in zip_members(file):
        if member.name == DESCRIPTOR and member.kind is Kind.FILE:
            if found is not None:
                raise ManifestInvalidError(f"{DESCRIPTOR} occurs twice in the archive")
            found = member.read()
    return found


def read_descriptor(data: bytes) -> Plugin | None:
    """What a plugin's own descriptor says.  Raises ManifestInvalidError."""
    plugin = parse(data, "plugin")
    found = Plugin(text(plugin, "name"), text(plugin, "goalPrefix"), text(plugin, "artifactId"))
    return found if found.prefix and found.artifact else None
