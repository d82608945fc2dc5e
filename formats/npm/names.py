"""Package names, versions and dist-tags.  Spec: npm "package.json" (name); SemVer 2.0.0."""

from __future__ import annotations

import re

from formats.contract import Request
from store.errors import NameInvalidError, PackageUnknownError

NAME_MAX = 214  # characters, scope included
VERSION_MAX = 256
NAME = re.compile(r"(?:@[a-z0-9~-][a-z0-9._~-]*/)?[a-z0-9~-][a-z0-9._~-]*\Z")
REFUSED = {"node_modules", "favicon.ico", "-"}
TAG = re.compile(r"[A-Za-z0-9._~!*'()-]{1,128}\Z")  # what needs no escape in a URL
SEMVER = re.compile(
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)"
    r"(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?(?:\+([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?\Z",
    re.ASCII,
)
Precedence = tuple[int, int, int, bool, tuple[tuple[bool, int, str], ...], str]


def check_name(name: str) -> str:
    """Accept a name for a new package.  Raises NameInvalidError."""
    if len(name) > NAME_MAX or not NAME.match(name) or name in REFUSED:
        raise NameInvalidError(f"not a package name: {name[:NAME_MAX]!r}")
    return name


def check_version(text: str) -> str:
    """Accept a SemVer 2.0.0 version.  Raises NameInvalidError."""
    found = SEMVER.match(text) if len(text) <= VERSION_MAX else None
    if found is None:
        raise NameInvalidError(f"not a semantic version: {text[:VERSION_MAX]!r}")
    if any(_leading_zero(part) for part in (found[4] or "").split(".")):
        raise NameInvalidError(f"a number in {text!r} has leading zeros")
    return text


def _leading_zero(identifier: str) -> bool:
    return identifier.isdigit() and len(identifier) > 1 and identifier.startswith("0")


def check_tag(text: str) -> str:
    """Accept a dist-tag: URL-safe, and nothing that reads as a version range.

    Raises NameInvalidError.
    """
    if not TAG.match(text):
        raise NameInvalidError(f"not a dist-tag: {text[:128]!r}")
    import semantic_version  # only a publisher pays for it

    try:
        semantic_version.NpmSpec(text.lstrip("v="))
    except ValueError:
        return text
    raise NameInvalidError(f"dist-tag {text!r} reads as a version range")


def precedence(version: str) -> Precedence:
    """A sort key: SemVer §11, then the text, so that build metadata has an order too."""
    found = SEMVER.match(version)
    if found is None:
        return (-1, 0, 0, False, (), version)
    major, minor, patch, prerelease, _ = found.groups()
    identifiers = tuple(
        (False, int(part), "") if part.isdigit() else (True, 0, part)
        for part in (prerelease.split(".") if prerelease else ())
    )
    return (int(major), int(minor), int(patch), not prerelease, identifiers, version)


def is_prerelease(version: str) -> bool:
    """Tell whether a version is a pre-release."""
    return not precedence(version)[3]


def base_name(package: str) -> str:
    """The name without its scope, as tarballs are called."""
    return package.rpartition("/")[2]


def tarball_name(package: str, version: str) -> str:
    """The stored filename of a version's tarball."""
    return f"{base_name(package)}-{version}.tgz"


def package_of(request: Request) -> str:
    """The package that a route names: ``name``, ``@scope/name`` or ``@scope%2fname``.

    Raises PackageUnknownError for what cannot be a package; mixed case is left to upstreams.
    """
    params = request.params
    name = params["package"] if "package" in params else f"{params['scope']}/{params['name']}"
    scope, slash, rest = name.partition("/")
    if len(name) > NAME_MAX or "/" in rest or name in REFUSED or (slash and not rest):
        raise PackageUnknownError(f"no package {name[:NAME_MAX]!r} here")
    if slash and (not scope.startswith("@") or scope == "@"):
        raise PackageUnknownError(f"no package {name[:NAME_MAX]!r} here")
    return name
