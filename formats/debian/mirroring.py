"""What a list of packages wants of a suite: their files, and those that they depend on.

The list begins with a line ``suite component architecture``; then names, one a line.  Of
alternatives the first that exists is taken, versions of dependencies are not compared.
Spec: Debian Policy §7 (relationships).
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from urllib.parse import quote

from formats.debian.upstream import unpacked
from formats.remote import Kept, Wish
from store.errors import RejectedError

WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+~_/-]{0,99}\Z")
FIELDS = ("package", "filename", "depends", "pre-depends", "provides")
TEXT_MAX = 256 << 20  # bytes of an unpacked index


def wishes(name: str, text: str) -> Sequence[Wish]:
    """The Release and the index of the suite.  Raises RejectedError."""
    lines = [line.partition("#")[0].strip() for line in text.splitlines()]
    first, *names = [line for line in lines if line] or [""]
    parts = first.split()
    if len(parts) != 3 or not all(WORD.match(each) for each in (*parts, *names)):
        raise RejectedError(f"{name}: the first line must be: suite component architecture")
    suite, component, architecture = parts
    index = f"/dists/{suite}/{component}/binary-{architecture}/Packages.xz"
    return [
        Wish(f"/dists/{suite}/InRelease"),
        Wish(index, rest=" ".join(names), reads=True),
        Wish(index.removesuffix(".xz") + ".gz", rest=" ".join(names), reads=True),
    ]


def follow(wish: Wish, kept: Kept) -> Sequence[Wish]:
    """The files of the wanted packages and of all that they need."""
    if not wish.reads or not wish.rest:
        return ()
    packages: dict[str, dict[str, str]] = {}
    providers: dict[str, str] = {}
    for stanza in _stanzas(kept.data):
        packages[stanza["package"]] = stanza  # the last one listed is the newest, as a rule
        for each in stanza.get("provides", "").split(","):
            providers.setdefault(_name(each), stanza["package"])
    chosen: dict[str, None] = {}
    waiting = wish.rest.split()
    while waiting:
        name = waiting.pop()
        name = name if name in packages else providers.get(name, "")
        if name not in packages or name in chosen:
            continue
        chosen[name] = None
        needs = f"{packages[name].get('pre-depends', '')},{packages[name].get('depends', '')}"
        for alternatives in needs.split(","):
            options = [_name(each) for each in alternatives.split("|")]
            known = [each for each in options if each in packages or each in providers]
            waiting += known[:1]
    return [Wish("/" + quote(packages[each]["filename"], safe="/+~:")) for each in sorted(chosen)]


def _stanzas(data: bytes) -> Iterator[dict[str, str]]:
    text = unpacked(io.BytesIO(data)).read(TEXT_MAX).decode("utf-8", "replace")
    for block in text.split("\n\n"):
        fields = {}
        for line in block.splitlines():
            name, _, value = line.partition(":")
            if name.lower() in FIELDS:
                fields[name.lower()] = value.strip()
        if "package" in fields and "filename" in fields:
            yield fields


def _name(text: str) -> str:
    return re.split(r"[\s(:\[]", text.strip(), maxsplit=1)[0]
