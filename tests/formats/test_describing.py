"""Descriptions: each format's own, bounded, and never a reason to fail."""

from __future__ import annotations

import json

import pytest

from formats import describing, discover
from formats.debian.describing import read as debian
from formats.describing import Describe, Description
from formats.maven.describing import read as maven
from formats.npm.describing import read as npm
from formats.oci.describing import read as oci
from formats.pypi.describing import read as pypi

ODD = (b"", b"\xff", b"[]", b"null", b"{", b"[" * 100_000, b'{"keywords": 7}', b"\0\0", b"a: b")


def test_each_format_reads_its_own() -> None:
    manifest = {"description": "Pads  a\nstring", "keywords": ["pad", "pad", 7], "license": "MIT"}
    told = npm(json.dumps(manifest).encode())
    assert told == Description("Pads a string", ("pad",), "MIT")
    old = npm(b'{"keywords": "a, b", "license": {"type": "ISC"}}')
    assert (old.keywords, old.license) == (("a", "b"), "ISC")
    core = b"Metadata-Version: 2.4\nSummary: Small\nKeywords: http client\nLicense: BSD\n\nlong"
    assert pypi(core) == Description("Small", ("http", "client"), "BSD")
    classified = b"License: a\n b\nClassifier: License :: OSI Approved :: MIT License\n"
    assert pypi(classified).license == "MIT License"
    assert pypi(b"License: x\nLicense-Expression: Apache-2.0\nKeywords: a b,c").keywords == (
        "a b",
        "c",
    )
    pom = {"name": "Demo", "licenses": [{"name": "EPL 2.0"}]}
    assert maven(json.dumps(pom).encode()) == Description("Demo", (), "EPL 2.0")
    control = {"control": {"description": "says hello\n more", "Section": "contrib/net"}}
    assert debian(json.dumps(control).encode()).keywords == ("contrib", "net")
    labels = {"org.opencontainers.image.title": "web", "org.opencontainers.image.licenses": "MIT"}
    assert oci(json.dumps({"annotations": labels}).encode()) == Description("web", (), "MIT")


@pytest.mark.parametrize("data", ODD)
def test_what_cannot_be_read_describes_nothing(data: bytes) -> None:
    formats = [each for each in discover() if each.describe is not None]
    assert {each.name for each in formats} >= {"npm", "pypi", "maven", "debian", "oci"}
    for each in formats:
        assert each.describe is not None
        assert each.describe.describe(data) == Description()


def test_it_is_bounded() -> None:
    many = [f"k{n}" * 100 for n in range(1000)]
    told = Description.make("x " * 10_000, many, ["no text"])
    assert len(told.summary) <= describing.DESCRIPTION_MAX
    assert len(told.keywords) == describing.KEYWORDS_MAX
    assert max(map(len, told.keywords)) == describing.KEYWORD_MAX
    assert told.license == ""

    def bug(_: bytes) -> Description:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):  # a bug is no description that is missing
        Describe((), bug).describe(b"")
