"""What is said to couriers: bounded, and skipped by who does not know it."""

from __future__ import annotations

import pytest

from mesh.cargo import CARGO, CARRY_MAX, LACKS_MAX, Carry, Lack, Lacks
from mesh.wire import CONTROL_FRAME_MAX, SKIPPABLE, Decoder, encode
from store.errors import RemoteProtocolError

LARGEST = Lack(b"b" * 32, b"t" * 32, (1 << 62) - 1, 1 << 40, 1 << 60, 8, urgent=True)


def test_the_largest_messages_fit_a_control_frame() -> None:
    said = Lacks(1 << 60, 16, True, 1 << 60, (LARGEST,) * LACKS_MAX)
    asked = Carry(1 << 60, (b"b" * 32,) * CARRY_MAX, (b"t" * 32,) * CARRY_MAX)
    for message in (said, asked):
        frame = encode(message)
        assert len(frame) < CONTROL_FRAME_MAX
        decoder = Decoder()
        decoder.feed(frame)
        assert list(decoder) == [message]


def test_more_than_the_bounds_ends_the_link() -> None:
    frame = encode(Lacks(1, 0, True, 0, (Lack(b"b" * 32, b"", 0, 0, 0, 0),) * (LACKS_MAX + 1)))
    decoder = Decoder()
    decoder.feed(frame)
    with pytest.raises(RemoteProtocolError):
        list(decoder)


def test_all_of_them_may_be_skipped() -> None:
    assert all(code & SKIPPABLE for code in CARGO)
