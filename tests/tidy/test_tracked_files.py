"""What is committed runs anywhere: no registry's address, no path of one machine."""

from __future__ import annotations

import re

import pytest

from cli.environment import ROOT
from tests.tidy.tree import tracked

# Written apart, so that this file passes its own test.
HOSTS = [
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("registry", "npmjs", "org"),
        ("registry", "yarnpkg", "com"),
        ("repo", "maven", "apache", "org"),
        ("repo1", "maven", "org"),
        ("proxy", "golang", "org"),
        ("sum", "golang", "org"),
        ("index", "crates", "io"),
        ("static", "crates", "io"),
        ("deb", "debian", "org"),
        ("registry-1", "docker", "io"),
    )
]
ADDRESS = re.compile(rf"(?<!docs\.)(?:{'|'.join(map(re.escape, HOSTS))})")  # a page is no registry
INDEX_OPTION = re.compile(r"^\s*(--index-url|--extra-index-url|--find-links|-i)\b")
MACHINE_PATH = re.compile(r"(?<![\w./-])/(?:work|root|home/[a-z]\w*)/\w")


def _text(name: str) -> str:
    return (ROOT / name).read_bytes().decode("utf-8", "replace")


@pytest.mark.parametrize("pattern", [ADDRESS, MACHINE_PATH], ids=["registry", "machine path"])
def test_no_file_names_one(pattern: re.Pattern[str]) -> None:
    found = [
        f"{name}:{number}: {line.strip()[:100]}"
        for name in tracked()
        for number, line in enumerate(_text(name).splitlines(), 1)
        if pattern.search(line)
    ]
    assert not found, "\n".join(found)


def test_requirements_name_no_index() -> None:
    lines = [
        line
        for name in tracked()
        if name.startswith("requirements")
        for line in _text(name).splitlines()
    ]
    assert lines
    assert [line for line in lines if INDEX_OPTION.match(line) or "://" in line] == []
