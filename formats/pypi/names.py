"""Project names, versions and distribution filenames.

Spec: PyPA "Names and normalization", PEP 440, "Binary distribution format", "Source distribution
format".
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import InvalidVersion, Version

from store.errors import NameInvalidError, PackageUnknownError

NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?\Z")
NAME_MAX = 200
VERSION_MAX = 200


@dataclass(frozen=True, slots=True)
class Filename:
    """What a distribution's filename says.  ``python`` is what the legacy API calls its version."""

    project: str
    version: Version
    filetype: str  # bdist_wheel | sdist
    python: str


def normalize(name: str) -> str:
    """Check a project name, then normalise it.  Raises NameInvalidError.

    The order matters: normalising first would turn malformed names into good ones.
    """
    if len(name) > NAME_MAX or not NAME.match(name):
        raise NameInvalidError(f"not a project name: {name[:NAME_MAX]!r}")
    return canonicalize_name(name)


def known_form(name: str) -> str:
    """Normalise a name that a reader asks for; malformed ones are simply unknown."""
    try:
        return normalize(name)
    except NameInvalidError as error:
        raise PackageUnknownError(str(error)) from error


def parse_version(text: str) -> Version:
    """Read a PEP 440 version.  Raises NameInvalidError."""
    try:
        return Version(text if len(text) <= VERSION_MAX else "")
    except InvalidVersion as error:
        raise NameInvalidError(f"not a version: {text[:VERSION_MAX]!r}") from error


def parse_filename(filename: str) -> Filename:
    """Read a wheel's or an sdist's filename.  Raises NameInvalidError."""
    if "/" in filename or "\\" in filename or not filename.isprintable() or len(filename) > 255:
        raise NameInvalidError(f"not a filename: {filename[:200]!r}")
    try:
        if filename.endswith(".whl"):
            project, version, _, _ = parse_wheel_filename(filename)
            python = filename.removesuffix(".whl").split("-")[-3]
            return Filename(normalize(project), version, "bdist_wheel", python)
        project, version = parse_sdist_filename(filename)
        return Filename(normalize(project), version, "sdist", "source")
    except (InvalidWheelFilename, InvalidSdistFilename, InvalidVersion) as error:
        raise NameInvalidError(f"{error}"[:400]) from error
