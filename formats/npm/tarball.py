"""What an npm tarball says about itself, read within bounds."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import BinaryIO

import msgspec

from formats.archives import Kind, members
from store.errors import ManifestInvalidError

TOP = re.compile(r"[^/]+/(package\.json|npm-shrinkwrap\.json|binding\.gyp)\Z")


@dataclass(frozen=True, slots=True)
class Tarball:
    """One reading of a tarball.  ``package_json`` is what the package says of itself."""

    package_json: dict[str, object]
    files: int
    unpacked_size: int
    shrinkwrap: bool


def read_tarball(file: BinaryIO) -> Tarball:
    """Walk a tarball.  Raises ManifestInvalidError, TooLargeError.

    The first path component varies between packers and is stripped by every installer, so two
    ``package.json`` under different ones would overwrite each other: refused.
    """
    found: bytes | None = None
    files = size = 0
    shrinkwrap = False
    for member in members(file):
        if member.kind in {Kind.SYMLINK, Kind.HARDLINK}:
            continue  # installers leave links out
        if member.kind is not Kind.FILE:
            continue
        files, size = files + 1, size + member.size
        top = TOP.match(member.name)
        if top is None:
            continue
        shrinkwrap = shrinkwrap or top[1] == "npm-shrinkwrap.json"
        if top[1] == "package.json":
            if found is not None:
                raise ManifestInvalidError("the tarball holds two package.json")
            found = member.read()
    if found is None:
        raise ManifestInvalidError("the tarball holds no package.json")
    return Tarball(_parse(found), files, size, shrinkwrap)


def _parse(data: bytes) -> dict[str, object]:
    try:
        text = data.decode("utf-8-sig")  # some editors leave a mark
        return msgspec.json.decode(text, type=dict[str, object])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ManifestInvalidError(f"package.json is malformed: {error}") from error
