"""Where files lie, and how suites point at them.

A file is in the pool once; a suite lists it through a pointer of its package, named
``distribution/component/architecture/filename``, whose value is the pool path.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from formats.contract import Request
from store.errors import NameInvalidError
from store.rows import Pointer

DISTRIBUTION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+~_-]{0,99}\Z")
COMPONENT = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}\Z")
DEFAULT_DISTRIBUTION, DEFAULT_COMPONENT = "stable", "main"
SOURCE = "source"  # stands where binary packages have their architecture
CONTENTS = "contents"  # folder of the file lists, beside the pool
DISTRIBUTIONS_MAX = 50


@dataclass(frozen=True, slots=True)
class Place:
    """One listing of one file in one suite."""

    distribution: str
    component: str
    architecture: str
    filename: str

    @property
    def name(self) -> str:
        """The pointer's name."""
        return f"{self.distribution}/{self.component}/{self.architecture}/{self.filename}"


def read_place(pointer: Pointer) -> Place | None:
    """What a pointer says; None for one that is no listing."""
    parts = pointer.name.split("/")
    return Place(*parts) if len(parts) == 4 else None


def default_folder(component: str, source: str) -> str:
    """The pool folder of a source package: ``pool/main/libf/libfoo``."""
    prefix = source[:4] if source.startswith("lib") and len(source) > 3 else source[0]
    return f"pool/{component}/{prefix}/{source}"


def listing_path(path: str) -> str:
    """Where the file list of a package is kept."""
    return f"{CONTENTS}/{path.removeprefix('pool/')}.list"


def component_name(text: str) -> str:
    """A component.  Raises NameInvalidError."""
    if not COMPONENT.match(text):
        raise NameInvalidError(f"not a component: {text[:200]!r}")
    return text


def distribution_names(text: str) -> list[str]:
    """Distributions, listed with commas or spaces.  Raises NameInvalidError."""
    found = list(dict.fromkeys(re.split(r"[,\s]+", text.strip())))
    if len(found) > DISTRIBUTIONS_MAX:
        raise NameInvalidError(f"more than {DISTRIBUTIONS_MAX} distributions")
    for each in found:
        if not DISTRIBUTION.match(each):
            raise NameInvalidError(f"not a distribution: {each[:200]!r}")
    return found


def default_distribution(options: Mapping[str, object]) -> str:
    """Where packages go that name no suite."""
    return str(options.get("distribution", DEFAULT_DISTRIBUTION))


def asked_distributions(request: Request, options: Mapping[str, object]) -> list[str]:
    """The suites that an upload names by ``?dist=``, else the default."""
    asked = ",".join(request.query.get("dist", ()))
    return distribution_names(asked or default_distribution(options))
