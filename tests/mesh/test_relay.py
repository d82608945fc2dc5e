"""What a relay grants, and what abuse of it can cost."""

from __future__ import annotations

import pytest

from mesh.relay import (
    ARRIVE_MAX,
    OFFERS_MAX,
    Bucket,
    Joint,
    Quota,
    Relay,
    detour,
    parse_detour,
)

A, B, C = (bytes([n]) * 32 for n in range(3))


def tokens(n: int = 0) -> tuple[bytes, bytes]:
    return (2 * n).to_bytes(16, "big"), (2 * n + 1).to_bytes(16, "big")


def opened(relay: Relay, source: bytes, target: bytes, n: int = 0, now: float = 0.0) -> Joint:
    joint = relay.open(source, target, tokens(n), now)
    assert isinstance(joint, Joint), joint
    return joint


def join(relay: Relay, source: bytes, target: bytes, n: int) -> Joint:
    joint = opened(relay, source, target, n)
    for end, token in zip(joint.ends, joint.tokens, strict=True):
        assert relay.arrive(end, token) is joint
    return joint


def test_each_end_joins_by_its_own_token_once() -> None:
    relay = Relay(Quota())
    joint = opened(relay, A, B)
    assert relay.arrive(A, tokens()[1]) is None
    assert relay.arrive(C, tokens()[0]) is None
    assert relay.arrive(A, tokens()[0]) is joint
    assert not joint.joined
    assert relay.arrive(A, tokens()[0]) is None
    assert relay.arrive(B, tokens()[1]) is joint
    assert joint.joined
    assert relay.streams == 1
    relay.close(joint)
    assert relay.streams == 0
    assert relay.arrive(B, tokens()[1]) is None
    assert not relay.joints


def test_what_waits_for_an_end_is_not_yet_carried() -> None:
    """Two that ask at once make two joints, and one of them lapses: nothing ever goes over it."""
    relay = Relay(Quota())
    join(relay, A, B, 0)
    lapsed = opened(relay, B, A, 1)
    assert relay.arrive(B, tokens(1)[0]) is lapsed
    assert relay.streams == 1


def test_bytes_of_a_closed_joint_still_count_for_its_pair() -> None:
    """A task may have them in hand; and parting is no way round a quota."""
    relay = Relay(Quota(rate=0.0, pair_rate=1000.0))
    joint, other = join(relay, A, B, 0), join(relay, B, A, 1)
    relay.close(joint)
    assert relay.carry(joint, 500, 1.0) == pytest.approx(0.25)
    assert relay.carry(other, 500, 1.0) == pytest.approx(0.75)
    relay.close(other)
    assert relay.carry(other, 500, 1.0) == pytest.approx(1.25)
    assert relay.carried == 1500


def test_nobody_is_joined_with_itself() -> None:
    assert relay_says(Relay(Quota()), A, A) == "that is yourself"


def relay_says(relay: Relay, source: bytes, target: bytes) -> str:
    answer = relay.open(source, target, tokens(999), 0.0)
    assert isinstance(answer, str)
    return answer


def test_a_pair_has_few_streams_whoever_asks() -> None:
    relay = Relay(Quota(pair_streams=4))
    joints = [join(relay, *((A, B) if n % 2 else (B, A)), n) for n in range(4)]
    assert "between the two" in relay_says(relay, A, B)
    assert relay.refused == {"too many streams between the two": 1}
    relay.close(joints[0])
    assert join(relay, A, B, 9)


def test_one_member_cannot_take_all_streams_and_the_node_has_an_end_too() -> None:
    relay = Relay(Quota(streams=32, pair_streams=4))
    others = [bytes([n]) * 32 for n in range(10, 100)]
    for n in range(8):
        join(relay, A, others[n], n)
    assert "one member" in relay_says(relay, A, others[50])
    assert "one member" in relay_says(relay, others[50], A)
    for n in range(8, 32):
        join(relay, others[n], others[n + 40], n)
    assert relay_says(relay, others[80], others[81]) == "the relay is full"


def test_what_nobody_takes_up_is_bounded_and_lapses() -> None:
    relay = Relay(Quota())
    joints = [opened(relay, A, bytes([n]) * 32, n) for n in range(10, 10 + OFFERS_MAX)]
    assert "nobody has taken" in relay_says(relay, A, C)
    assert relay.overdue(ARRIVE_MAX - 0.1) == []
    assert relay.overdue(ARRIVE_MAX) == joints
    for joint in joints:
        relay.close(joint)
    assert opened(relay, A, C, 99)


def test_rates_hold_for_a_pair_and_for_the_node() -> None:
    relay = Relay(Quota(rate=1000.0, pair_rate=600.0))
    one, two = join(relay, A, B, 1), join(relay, A, C, 2)
    now, sent = 0.0, 0
    while now < 10.0:
        now += relay.carry(one, 100, now)
        sent += 100
    assert 5900 <= sent <= 6400
    start, sent = now, 0
    while now < start + 10.0:
        now += max(relay.carry(one, 50, now), relay.carry(two, 50, now))
        sent += 100
    assert 9800 <= sent <= 10_700
    assert relay.carried == one.carried + two.carried
    relay.close(one)
    relay.close(two)


def test_without_a_rate_nothing_waits() -> None:
    bucket = Bucket(0.0)
    assert bucket.take(1 << 40, 0.0) == 0.0


def test_detours_are_read_back() -> None:
    assert parse_detour(detour(A, B)) == (A, B)


@pytest.mark.parametrize(
    "bad", ["relay://", "relay://aa/bb", "tls://h:1", "relay://zz/" + "a" * 64]
)
def test_what_is_no_detour_is_refused(bad: str) -> None:
    with pytest.raises(OSError):
        parse_detour(bad)
