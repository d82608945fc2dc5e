"""What a pom.xml wants of a repository: its dependencies, and theirs, as far as poms say.

Versions that only a parent or an import manages are not resolved: list those artifacts by name.
Spec: POM reference §Dependencies.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from xml.etree.ElementTree import Element

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import ParseError, fromstring

from formats.remote import Kept, Wish
from store.errors import RejectedError

UNWANTED = frozenset({"test", "provided", "system", "import"})
PLACE = re.compile(r"\$\{([^}]{1,200})\}")
PART = re.compile(r"[A-Za-z0-9_.+~-]{1,200}\Z")


def wishes(name: str, text: str) -> Sequence[Wish]:
    """The poms that a pom.xml, or lines ``group:artifact:version``, lead to."""
    if text.lstrip().startswith("<"):
        return _of(_parse(text.encode(), name))
    found = []
    for raw in text.splitlines():
        line = raw.partition("#")[0].strip()
        if line:
            parts = line.split(":")
            if len(parts) != 3 or not all(PART.match(each) for each in parts):
                raise RejectedError(f"{name}: not group:artifact:version: {line[:200]!r}")
            found.append(_pom(*parts))
    return found


def follow(wish: Wish, kept: Kept) -> Sequence[Wish]:
    """A pom's artifact, parent and dependencies."""
    if not wish.reads:
        return ()
    try:
        project = _parse(kept.data, wish.path)
    except RejectedError:
        return ()
    packaging = _text(project, "packaging") or "jar"
    kinds = {"pom": "", "bundle": "jar", "maven-plugin": "jar", "ejb": "jar"}
    extension = kinds.get(packaging, packaging)
    own = [Wish(f"{wish.path.removesuffix('.pom')}.{extension}")] if PART.match(extension) else []
    return [*own, *_of(project)]


def _parse(data: bytes, name: str) -> Element:
    try:
        project: Element = fromstring(data)
    except (ParseError, DefusedXmlException, ValueError, RecursionError) as error:
        raise RejectedError(f"{name[:200]}: not a pom: {error}"[:300]) from None
    for each in project.iter():
        each.tag = str(each.tag).rpartition("}")[2]
    return project


def _of(project: Element) -> list[Wish]:
    """The parent and the dependencies whose version is said."""
    values = {each.tag: (each.text or "").strip() for each in project.findall("properties/*")}
    parent = project.find("parent")
    for name in ("groupId", "version"):
        own = _text(project, name) or (_text(parent, name) if parent is not None else "")
        values |= {f"project.{name}": own, f"pom.{name}": own}
    found = [parent] if parent is not None else []
    for each in project.findall("dependencies/dependency"):
        optional = _text(each, "optional") == "true"
        if not optional and _text(each, "scope") not in UNWANTED:
            found.append(each)
    wanted = []
    for each in found:
        parts = [_filled(_text(each, n), values) for n in ("groupId", "artifactId", "version")]
        if all(PART.match(part) for part in parts):
            wanted.append(_pom(*parts))
    return wanted


def _filled(text: str, values: Mapping[str, str]) -> str:
    for _ in range(5):  # properties of properties
        text = PLACE.sub(lambda found: values.get(found[1], ""), text)
    return text


def _text(element: Element, name: str) -> str:
    found = element.find(name)
    return (found.text or "").strip() if found is not None else ""


def _pom(group: str, artifact: str, version: str) -> Wish:
    folder = f"/{group.replace('.', '/')}/{artifact}/{version}"
    return Wish(f"{folder}/{artifact}-{version}.pom", reads=True)
