"""Generated documents: repository metadata, the archetype catalog, directory listings.  Pure.

Spec: Maven repository metadata model 1.1.0; archetype catalog model 1.0.0.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime

from formats.maven.layout import SNAPSHOT, Parts, split_filename
from formats.maven.pom import Plugin
from formats.maven.versions import ordered
from store.rows import Artifact

XML = '<?xml version="1.0" encoding="UTF-8"?>'


def stamp(time: float) -> str:
    """Ledger time as Maven writes it: 14 digits, UTC."""
    return datetime.fromtimestamp(time, UTC).strftime("%Y%m%d%H%M%S")


def element(name: str, value: object, depth: int) -> str:
    """One line of XML."""
    return f"{'  ' * depth}<{name}>{html.escape(str(value), quote=False)}</{name}>"


def listed_versions(artifacts: Iterable[Artifact]) -> list[str]:
    """Versions whose POM is here, oldest first."""
    return ordered({each.version for each in artifacts if each.role == "pom"})


def metadata(
    group: str, artifact: str, artifacts: Sequence[Artifact], plugins: Sequence[Plugin]
) -> bytes:
    """The document of a directory that is an artifact's, a group's with plugins, or both."""
    versions = listed_versions(artifacts)
    lines = [XML, "<metadata>"]
    if plugins:
        lines.append("  <plugins>")
        for plugin in sorted(plugins, key=lambda each: (each.artifact, each.prefix, each.name)):
            lines.append("    <plugin>")
            lines.append(element("name", plugin.name or plugin.artifact, 3))
            lines.append(element("prefix", plugin.prefix, 3))
            lines.append(element("artifactId", plugin.artifact, 3))
            lines.append("    </plugin>")
        lines.append("  </plugins>")
    if versions:
        lines += [element("groupId", group, 1), element("artifactId", artifact, 1)]
        lines += ["  <versioning>", element("latest", versions[-1], 2)]
        releases = [each for each in versions if not each.endswith(SNAPSHOT)]
        if releases:
            lines.append(element("release", releases[-1], 2))
        lines.append("    <versions>")
        lines += [element("version", each, 3) for each in versions]
        updated = stamp(max(each.published for each in artifacts))
        lines += ["    </versions>", element("lastUpdated", updated, 2), "  </versioning>"]
    return "\n".join([*lines, "</metadata>", ""]).encode()


def snapshot_metadata(
    group: str, artifact: str, version: str, artifacts: Sequence[Artifact]
) -> bytes:
    """The document of a snapshot's directory: the newest file per classifier and extension."""
    newest = newest_files(artifact, version, artifacts)
    lines = [XML, '<metadata modelVersion="1.1.0">']
    lines += [element("groupId", group, 1), element("artifactId", artifact, 1)]
    lines += [element("version", version, 1), "  <versioning>"]
    unique = [parts for parts, _ in newest.values() if parts.stamp]
    if unique:
        last = max(unique, key=lambda each: (each.stamp, each.build))
        lines += ["    <snapshot>", element("timestamp", last.stamp, 3)]
        lines += [element("buildNumber", last.build, 3), "    </snapshot>"]
    updated = stamp(max(each.published for each in artifacts))
    lines += [element("lastUpdated", updated, 2), "    <snapshotVersions>"]
    for (classifier, extension), (parts, found) in sorted(newest.items()):
        lines.append("      <snapshotVersion>")
        if classifier:
            lines.append(element("classifier", classifier, 4))
        lines += [element("extension", extension, 4), element("value", parts.value, 4)]
        updated = parts.stamp.replace(".", "") or stamp(found.published)
        lines += [element("updated", updated, 4), "      </snapshotVersion>"]
    return "\n".join(
        [*lines, "    </snapshotVersions>", "  </versioning>", "</metadata>", ""]
    ).encode()


def newest_files(
    artifact: str, version: str, artifacts: Iterable[Artifact]
) -> Mapping[tuple[str, str], tuple[Parts, Artifact]]:
    """The newest file of each classifier and extension; timestamped ones before plain ones."""
    newest: dict[tuple[str, str], tuple[Parts, Artifact]] = {}

    def age(entry: tuple[Parts, Artifact]) -> tuple[str, int, float, str]:
        parts, found = entry
        return parts.stamp, parts.build, found.published, found.path

    for each in artifacts:
        parts = split_filename(artifact, version, each.filename)
        if parts is not None:
            place, entry = (parts.classifier, parts.extension), (parts, each)
            newest[place] = max(newest.get(place, entry), entry, key=age)
    return newest


# --- archetypes ---------------------------------------------------------------------------------
def archetype_catalog(archetypes: Iterable[tuple[str, str, str, str]]) -> bytes:
    """A catalog of (group, artifact, version, description)."""
    lines = [XML, "<archetype-catalog>", "  <archetypes>"]
    for values in sorted(archetypes):
        lines.append("    <archetype>")
        for name, value in zip(("groupId", "artifactId", "version"), values, strict=False):
            lines.append(element(name, value, 3))
        if values[3]:
            lines.append(element("description", values[3], 3))
        lines.append("    </archetype>")
    return "\n".join([*lines, "  </archetypes>", "</archetype-catalog>", ""]).encode()


# --- listings -----------------------------------------------------------------------------------
def listing_html(path: str, names: Iterable[str]) -> bytes:
    """A folder for people; also read by build tools that scrape for versions."""
    title = html.escape(f"/{path}")
    return "".join(_listing_lines(title, path, names)).encode()


def _listing_lines(title: str, path: str, names: Iterable[str]) -> Iterator[str]:
    yield f'<!DOCTYPE html>\n<html><head><meta charset="utf-8"><title>{title}</title></head>\n'
    yield f"<body><h1>{title}</h1>\n<pre>\n"
    if path:
        yield '<a href="../">../</a>\n'
    for name in names:
        quoted = html.escape(name)
        yield f'<a href="{quote_name(name)}">{quoted}</a>\n'
    yield "</pre></body></html>\n"


def quote_name(name: str) -> str:
    """A relative reference: a leading ``./`` keeps a colon from looking like a scheme."""
    quoted = "".join(
        c if (c.isalnum() and c.isascii()) or c in "-._~/+" else _percent(c) for c in name
    )
    return f"./{quoted}"


def _percent(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode())
