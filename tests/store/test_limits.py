"""What no fact may hold."""

from __future__ import annotations

import pytest

from store import limits
from store.facts import Cached, Confirm, Delete, Fact, File, Flag, Point, Publish, Setting
from store.records import AUTHORITY_KIND, CACHED, CONTENT
from tests.store.ledgers import file, publish

GOOD = file("a")


def one(**changes: object) -> Publish:
    fields = {name: getattr(GOOD, name) for name in GOOD.__struct_fields__} | changes
    return Publish("r", "p", "1", (File(**fields),))  # type: ignore[arg-type]  # a fake of it


@pytest.mark.parametrize(
    "fact",
    [
        publish("a"),
        one(digest="sha512:" + "ab" * 64, size=(1 << 63) - 1),
        one(metadata=bytes(4096), checksums=(("md5", "00"),), manifest_id=bytes(32)),
        one(path="ü" * 1000),
        Point("r", "p", "n", None),
        Setting("user", "u", bytes(limits.VALUE_MAX)),
        Delete("r", "a", (bytes(32),) * limits.SEEN_MAX),
    ],
)
def test_what_is_within_bounds_passes(fact: Fact) -> None:
    assert limits.malformed(fact) is None


@pytest.mark.parametrize(
    ("fact", "reason"),
    [
        (one(path=""), "without a path"),
        (one(path="a\0b"), "NUL"),
        (one(path="a" * 1025), "too long"),
        (one(path="€" * 1000), "too long"),
        (one(digest="sha256:" + "AB" * 32), "no digest"),
        (one(digest="md5:" + "00" * 16), "no digest"),
        (one(digest=GOOD.digest + "\n"), "no digest"),
        (one(size=-1), "no digest or size"),
        (one(size=1 << 63), "no digest or size"),
        (one(metadata=bytes(4097)), "belongs in a blob"),
        (one(metadata_digest="blob"), "metadata digest"),
        (one(manifest_id=b"short"), "manifest id"),
        (one(checksums=(("md5", "0"),) * 17), "too many checksums"),
        (one(checksums=(("md5", "\0"),)), "bad checksum"),
        (Publish("r\0", "p", "1", ()), "NUL"),
        (Cached("r", "p" * 1025, "1", ()), "too long"),
        (Flag("r", "p" * 900, "v" * 900, "x" * 900, "n", None), "too long"),
        (Point("r", "p", "n", bytes(limits.VALUE_MAX + 1)), "larger than"),
        (Setting("k" * 65, "u", None), "too long"),
        (Delete("r", "a", (b"short",)), "no record"),
        (Delete("r", "a", (bytes(32),) * (limits.SEEN_MAX + 1)), "more than"),
        (Confirm("r", "a", b"short"), "no record"),
    ],
)
def test_what_is_not_is_named(fact: Fact, reason: str) -> None:
    assert reason in (limits.malformed(fact) or "")


def test_facts_stand_in_records_of_their_kind_and_scope() -> None:
    cached = Cached("r", "p", "1", (GOOD,))
    assert limits.refusal(CONTENT, "generic", [publish("a")]) is None
    assert limits.refusal(CACHED, "r", [cached]) is None
    assert limits.refusal(AUTHORITY_KIND, "", [Setting("user", "u", None)]) is None
    for kind, scope, fact in (
        (CONTENT, "other", publish("a")),
        (CONTENT, "r", cached),
        (CONTENT, "", Setting("user", "u", None)),
        (AUTHORITY_KIND, "generic", publish("a")),
    ):
        assert limits.refusal(kind, scope, [fact]) == "a fact outside its record's kind or scope"
