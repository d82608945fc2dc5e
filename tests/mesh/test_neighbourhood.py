"""Who is linked with whom: only a member's own newest word counts, and not too often."""

from __future__ import annotations

import random

from mesh import neighbourhood as module
from mesh.neighbourhood import (
    AHEAD_MAX,
    PATHS_MAX,
    RECORD_MAX,
    RECORDS_MAX,
    SHORT,
    SPACING,
    LinkWords,
    Path,
    Words,
    lifetime,
    period,
    sign,
)
from mesh.wire import CONTROL_FRAME_MAX, encode
from tests.mesh.keys import Signer

A, B = Signer("a"), Signer("b")
MESH, NOW = b"m" * 32, 1_700_000_000.0
KEYS = {bytes.fromhex(each.node): each.key for each in (A, B)}
PATHS = (Path(b"p" * SHORT, 12_000, 2_000_000, 500, 1), Path(b"q" * SHORT))


def word(clock: float = NOW, signer=A, paths=PATHS) -> bytes:
    return sign(signer, MESH, paths, clock)


def test_a_word_is_taken_once_and_newer_ones_replace_it() -> None:
    words = Words()
    taken = words.take(word(), MESH, KEYS.get, NOW)
    assert taken is not None
    assert taken.paths == PATHS
    assert taken.names(b"p" * 32)
    assert not taken.names(b"x" * 32)
    assert words.take(word(), MESH, KEYS.get, NOW) is None
    assert words.take(word(NOW - 100), MESH, KEYS.get, NOW) is None
    assert words.take(word(NOW + SPACING - 1), MESH, KEYS.get, NOW) is None  # too soon
    assert words.take(word(NOW + SPACING), MESH, KEYS.get, NOW) is not None
    assert len(words.encoded()) == 1


def test_forged_foreign_and_future_words_are_refused() -> None:
    words = Words()
    strangers = {bytes.fromhex(B.node): B.key}
    assert words.take(word(), MESH, strangers.get, NOW) is None
    assert words.take(word(), b"x" * 32, KEYS.get, NOW) is None
    assert words.take(word(NOW + AHEAD_MAX + 2), MESH, KEYS.get, NOW) is None
    rng = random.Random(1)
    for _ in range(300):
        damaged = bytearray(word())
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        assert words.take(bytes(damaged), MESH, KEYS.get, NOW) is None
    assert not words.records


def test_old_words_and_those_of_who_has_left_are_forgotten() -> None:
    words = Words()
    words.take(word(), MESH, KEYS.get, NOW)
    words.take(word(signer=B), MESH, KEYS.get, NOW)
    words.keep(lambda node: node.hex() == A.node, NOW)
    assert [node.hex() for node in words.records] == [A.node]
    words.keep(lambda _: True, NOW + lifetime(1) + 1)
    assert not words.records


def test_everything_is_bounded(monkeypatch) -> None:
    many = [Path(index.to_bytes(SHORT, "big"), 1 << 40, 1 << 40, 10**6, 2) for index in range(200)]
    largest = word(paths=many)
    assert len(largest) <= RECORD_MAX
    words = Words()
    taken = words.take(largest, MESH, KEYS.get, NOW)
    assert taken is not None
    assert len(taken.paths) == PATHS_MAX
    assert len(encode(LinkWords((b"r" * RECORD_MAX,) * RECORDS_MAX))) < CONTROL_FRAME_MAX
    monkeypatch.setattr(module, "MEMBERS_MAX", 1)
    assert words.take(word(signer=B), MESH, KEYS.get, NOW) is None


def test_a_link_carries_no_more_of_it_in_a_larger_mesh() -> None:
    """Bytes per second of all words, for meshes in which everybody is linked with 16 others."""
    size = len(word(paths=[Path(bytes([n]) * SHORT, 99_999, 10**7, 99, 0) for n in range(16)]))
    for members in (4, 16, 64, 256, 1000):
        assert members * size / period(members) < 50
