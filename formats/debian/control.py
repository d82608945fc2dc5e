"""Control paragraphs (deb822): control files, ``.dsc`` and ``.changes``, index stanzas.

Fields keep their order and their text; what a file says is rendered as it was sent.

Spec: Debian Policy §5.1 (syntax), §5.4 (.dsc), §5.5 (.changes); deb822(5).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from store.errors import ManifestInvalidError

CONTROL_MAX = 1 << 20  # bytes
FIELD = re.compile(r"(?P<name>[!-,.-9;-~][!-9;-~]*):[ \t]*(?P<value>.*)\Z")
FORBIDDEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
NAME = re.compile(r"[a-z0-9][a-z0-9+.-]{1,199}\Z")
ARCHITECTURE = re.compile(r"[a-z0-9][a-z0-9-]{0,63}\Z")
FILENAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+~:-]{0,250}\Z")
SIGNED = "-----BEGIN PGP SIGNED MESSAGE-----"
SIGNATURE = "-----BEGIN PGP SIGNATURE-----"
Paragraph = Mapping[str, str]


def read_paragraph(data: bytes) -> dict[str, str]:
    """Read the one paragraph of a file, clear-signed or not.  Raises ManifestInvalidError.

    Continuation lines keep their leading space, so that rendering is the inverse.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ManifestInvalidError("a control file is not UTF-8") from error
    lines = list(_payload(text.replace("\r\n", "\n").split("\n")))
    if FORBIDDEN.search("\n".join(lines)):
        raise ManifestInvalidError("a control file holds control characters")
    found: dict[str, str] = {}
    lower: set[str] = set()
    name, ended = "", False
    for line in lines:
        if not line.strip():
            ended = bool(found)
        elif ended:
            raise ManifestInvalidError("a control file has more than one paragraph")
        elif line[0] in " \t":
            if not name:
                raise ManifestInvalidError("a control file begins with a continuation line")
            found[name] += f"\n{line.rstrip()}"
        elif not line.startswith("#"):
            name = _add_field(found, lower, line)
    if not found:
        raise ManifestInvalidError("a control file is empty")
    return found


def _add_field(found: dict[str, str], lower: set[str], line: str) -> str:
    field = FIELD.match(line)
    if field is None:
        raise ManifestInvalidError(f"not a control field: {line[:200]!r}")
    name = field["name"]
    if name.lower() in lower:
        raise ManifestInvalidError(f"control field {name} occurs twice")
    lower.add(name.lower())
    found[name] = field["value"].rstrip()
    return name


def _payload(lines: list[str]) -> Iterator[str]:
    """The signed text of a clear-signed file (RFC 9580 §7); any other file whole."""
    if not lines or lines[0].rstrip() != SIGNED:
        yield from lines
        return
    body = iter(lines)
    for line in body:
        if not line.strip():
            break
    for line in body:
        if line.rstrip() == SIGNATURE:
            return
        yield line.removeprefix("- ")
    raise ManifestInvalidError("a clear-signed file has no signature")


def render(paragraph: Iterable[tuple[str, str]]) -> str:
    """One stanza, ended by a blank line."""
    lines = [f"{name}: {value}\n" if value else f"{name}:\n" for name, value in paragraph]
    return "".join(line.replace(": \n", ":\n", 1) for line in lines) + "\n"


def field(paragraph: Paragraph, name: str) -> str:
    """A field's value, whatever the case of its name."""
    if name in paragraph:
        return paragraph[name]
    return next((v for key, v in paragraph.items() if key.lower() == name.lower()), "")


def required(paragraph: Paragraph, name: str, pattern: re.Pattern[str]) -> str:
    """A field that must be there and well formed.  Raises ManifestInvalidError."""
    value = field(paragraph, name)
    if not pattern.match(value):
        raise ManifestInvalidError(f"field {name} is missing or malformed: {value[:200]!r}")
    return value


# --- lists of files -----------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Listed:
    """A file that a ``.dsc`` or ``.changes`` names."""

    name: str
    size: int
    sha256: str
    section: str = ""


def listed_files(paragraph: Paragraph) -> list[Listed]:
    """The files of a ``.dsc`` or ``.changes``.  Raises ManifestInvalidError."""
    sections = {}
    for line in field(paragraph, "Files").split("\n"):
        words = line.split()
        if len(words) == 5:  # .changes: md5 size section priority name
            sections[words[4]] = words[2]
    found: dict[str, Listed] = {}
    for line in field(paragraph, "Checksums-Sha256").split("\n"):
        words = line.split()
        if not words:
            continue
        if len(words) != 3 or not re.fullmatch("[0-9a-f]{64}", words[0]):
            raise ManifestInvalidError(f"a malformed line in Checksums-Sha256: {line[:200]!r}")
        digest, size, name = words
        if not FILENAME.match(name) or not re.fullmatch("[0-9]{1,15}", size) or name in found:
            raise ManifestInvalidError(f"a malformed line in Checksums-Sha256: {line[:200]!r}")
        found[name] = Listed(name, int(size), digest, sections.get(name, ""))
    if not found:
        raise ManifestInvalidError("Checksums-Sha256 is missing")
    return list(found.values())
