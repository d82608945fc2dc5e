"""Parsers of what strangers send give a value or a RegistryError, never anything else."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from formats.generic.paths import clean_path
from formats.npm.bundle import check as check_bundle
from formats.npm.documents import decode_publication, split_manifest
from formats.npm.names import check_name, check_tag, check_version
from formats.pypi.attestations import provenance
from formats.pypi.names import normalize, parse_filename, parse_version
from store.errors import RegistryError

KEYS = [
    "_id",
    "name",
    "version",
    "versions",
    "dist-tags",
    "_attachments",
    "data",
    "length",
    "users",
    "maintainers",
    "dist",
    "deprecated",
    "mediaType",
    "dsseEnvelope",
    "payload",
    "payloadType",
    "signatures",
    "verificationMaterial",
    "envelope",
    "statement",
    "signature",
    "verification_material",
    "certificate",
    "transparency_entries",
]
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=6)
    ),
)
NAMES = st.text("demo-1.0py3nwhltargz_+!é１ \n/v=x^*@", max_size=40) | st.text(max_size=30)
NAMED: list[Callable[[str], object]] = [
    parse_filename,
    lambda text: parse_filename(f"{text}.whl"),
    lambda text: parse_filename(f"demo-{text}-py3-none-any.whl"),
    lambda text: parse_filename(f"{text}.tar.gz"),
    parse_version,
    normalize,
    check_tag,
    check_name,
    check_version,
    clean_path,
]
DECODERS: list[Callable[[str], object]] = [
    decode_publication,
    lambda text: split_manifest(msgspec.Raw(text.encode())),
    lambda text: check_bundle(text, "demo", "1.0.0", "00"),
    lambda text: provenance(text, "demo-1.0-py3-none-any.whl", "00"),
]


@settings(max_examples=200, deadline=None)
@given(NAMES)
def test_names(text: str) -> None:
    for parse in NAMED:
        with contextlib.suppress(RegistryError):
            parse(text)


@settings(max_examples=200, deadline=None)
@given(DOCUMENTS, NAMES)
def test_documents(document: object, text: str) -> None:
    for decode in DECODERS:
        for each in (json.dumps(document), text):
            with contextlib.suppress(RegistryError):
                decode(each)


@pytest.mark.parametrize("decode", DECODERS)
@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "1" * 100_000, '"\\ud800"'])
def test_deep_and_long_documents(decode: Callable[[str], object], text: str) -> None:
    with pytest.raises(RegistryError):
        decode(text)
