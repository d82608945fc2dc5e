"""What a requirements file wants of an index.  Spec: pip "Requirements File Format"; PEP 508.

Requirements are taken as they stand: a lock file names its dependencies itself.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import quote

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from formats.pypi.names import parse_filename
from formats.pypi.simple import JSON
from formats.pypi.upstream_page import File, read_page
from formats.remote import Kept, Wish
from store.errors import NameInvalidError, RejectedError

HASH = re.compile(r"--hash[= ]sha256:([0-9a-f]{64})")


def wishes(name: str, text: str) -> Sequence[Wish]:
    """The project pages that a requirements file leads to.  Raises RejectedError."""
    found = []
    for raw in text.replace("\\\n", " ").splitlines():
        line = re.split(r"\s#|^#", raw, maxsplit=1)[0].strip()
        if not line or line.startswith("-"):
            continue
        hashes = HASH.findall(line)
        try:
            wanted = Requirement(line.partition(" --")[0].strip())
        except InvalidRequirement as error:
            raise RejectedError(f"{name}: not a requirement: {line[:200]!r}: {error}") from None
        rest = " ".join([str(wanted.specifier), *hashes])
        found.append(Wish(f"/simple/{canonicalize_name(wanted.name)}/", JSON, rest))
    return found


def follow(wish: Wish, kept: Kept) -> Sequence[Wish]:
    """The newest version's files that the requirement allows, or those with its hashes."""
    if not wish.rest and "/" in wish.path.removeprefix("/simple/").strip("/"):
        return ()
    specifier, *hashes = wish.rest.split(" ") if wish.rest else [""]
    files = [(each, _version(each)) for each in read_page(kept.data, kept.origin.media_type).files]
    if hashes:
        chosen = [each for each, _ in files if each.hashes.get("sha256") in hashes]
    else:
        chosen = _newest(files, specifier)
    found = []
    for each in chosen:
        path = f"{wish.path}{quote(each.filename)}"
        found.append(Wish(path))
        if each.metadata is not None:
            found.append(Wish(f"{path}.metadata"))
    return found


def _newest(files: Sequence[tuple[File, Version | None]], specifier: str) -> list[File]:
    try:
        allowed = SpecifierSet(specifier)
    except InvalidSpecifier:
        return []
    versions = {v for f, v in files if v is not None and f.yanked is False}
    newest = max(allowed.filter(versions), default=None)
    return [each for each, version in files if newest is not None and version == newest]


def _version(file: File) -> Version | None:
    try:
        return parse_filename(file.filename).version
    except NameInvalidError:
        return None
