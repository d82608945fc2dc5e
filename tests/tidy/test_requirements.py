"""The pins and the project's own list of libraries say the same."""

from __future__ import annotations

import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from cli import environment

PROJECT = tomllib.loads((environment.ROOT / "pyproject.toml").read_text("utf-8"))["project"]


@pytest.mark.parametrize(
    ("file", "wanted"),
    [
        ("requirements.txt", PROJECT["dependencies"]),
        ("requirements-dev.txt", PROJECT["optional-dependencies"]["dev"]),
        ("requirements-mesh.txt", PROJECT["optional-dependencies"]["mesh"]),
    ],
)
def test_every_direct_library_is_pinned_within_its_bounds(file: str, wanted: list[str]) -> None:
    pinned: dict[str, set[str]] = {}
    for name, version, _conditional in environment.pins(environment.ROOT / file):
        pinned.setdefault(canonicalize_name(name), set()).add(version)
    for requirement in map(Requirement, wanted):
        versions = pinned.get(canonicalize_name(requirement.name), set())
        assert versions, f"{requirement.name} is not pinned"
        assert versions == set(requirement.specifier.filter(versions)), requirement


def test_files_agree_on_every_version() -> None:
    versions: dict[str, set[str]] = {}
    for file in ("requirements-dev.txt", "requirements-mesh.txt"):
        for name, version, conditional in environment.pins(environment.ROOT / file):
            if not conditional:
                versions.setdefault(name, set()).add(version)
    assert {name: found for name, found in versions.items() if len(found) > 1} == {}
