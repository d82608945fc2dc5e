"""Plans over beliefs: laws that hold for any beliefs, and the choices that matter."""

from __future__ import annotations

import random
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from mesh import bits
from mesh.scheduler import (
    QUEUE_LITTLE,
    RUN_MAX,
    WINDOW_MAX,
    WINDOW_MIN,
    Ask,
    Blob,
    Pending,
    Place,
    Source,
    endgame,
    plan,
    window,
)

SIZE = 64 * 1024


def blob(needed: int, count: int = 64, **more: object) -> Blob:
    return Blob(count, lambda i: i * SIZE, needed, **more)  # type: ignore[arg-type]  # keywords of the tuple


def source(
    name: str,
    has: int = -1,
    *,
    rtt: float = 0.05,
    rate: float = 1e6,
    room: int = 1 << 22,
    **more: object,
) -> Source:
    return Source(
        name.encode(),
        has & bits.full(64),
        0,
        room,
        rtt,
        rate,
        **more,  # type: ignore[arg-type]  # keywords of the tuple
    )


def order(asks: list[Ask]) -> list[int]:
    return [index for ask in asks for index in ask.chunks]


sources = st.lists(
    st.builds(
        Source,
        peer=st.binary(min_size=1, max_size=2),
        has=st.integers(0, bits.full(64)),
        outstanding=st.integers(0, 1 << 21),
        window=st.integers(0, 1 << 22),
        rtt=st.floats(0.0001, 1.0),
        rate=st.floats(1e3, 1e8),
        failures=st.integers(0, 5),
    ),
    max_size=5,
    unique_by=lambda s: s.peer,
)


@given(
    st.integers(0, bits.full(64)),
    sources,
    st.integers(0, 1 << 23),
    st.lists(st.integers(0, 63), max_size=3),
    st.integers(1, 4),
)
def test_a_plan_asks_holders_for_needed_chunks_once_and_within_bounds(
    needed: int, views: list[Source], budget: int, readers: list[int], wanters: int
) -> None:
    before = {view.peer: (view.has, view.outstanding, view.window) for view in views}
    wanted = blob(needed, readers=tuple(readers), place=Place(0, 1, 1 % wanters, wanters))
    asks = plan(wanted, views, budget, random.Random(1))
    seen = order(asks)
    assert len(seen) == len(set(seen))
    assert not bits.of(seen) & ~needed
    for ask in asks:
        assert not bits.of(ask.chunks) & ~before[ask.peer][0]
        assert ask.size == len(ask.chunks) * SIZE <= RUN_MAX
    assert sum(ask.size for ask in asks) <= budget + len(views) * SIZE


def test_a_waiting_client_is_served_in_order_by_the_fastest() -> None:
    slow, fast = source("slow", rate=1e5), source("fast", rate=1e7)
    asks = plan(blob(bits.full(64), readers=(20,)), [slow, fast], 1 << 20, random.Random(1))
    urgent = [ask for ask in asks if ask.urgent]
    assert {ask.peer for ask in urgent} == {b"fast"}
    assert order(urgent) == list(range(20, 36))


def test_of_what_only_other_sites_have_but_the_very_next_chunk_is_shared_out() -> None:
    """Mates who read at once would each carry the same bytes over the line they share."""
    far, mates = source("far", far=True), Place(0, 1, 1, 3)
    for place, urgent in ((mates, [20]), (Place(), list(range(20, 36)))):
        wanted = blob(bits.full(64), readers=(20,), place=place)
        asks = plan(wanted, [replace(far)], 1 << 20, random.Random(1))
        assert order([ask for ask in asks if ask.urgent]) == urgent
    near = source("near", bits.of([21]))
    wanted = blob(bits.full(64), readers=(20,), place=mates)
    asks = plan(wanted, [far, near], 1 << 20, random.Random(1))
    assert {ask.peer: list(ask.chunks) for ask in asks if ask.urgent} == {
        b"far": [20],
        b"near": [21],
    }


def test_a_fast_peer_with_a_part_beats_a_slow_one_with_all() -> None:
    part, whole = source("part", bits.full(32), rate=1e7), source("whole", rate=1e5)
    asks = plan(blob(bits.full(32)), [whole, part], 1 << 20, random.Random(1))
    assert asks[0].peer == b"part"


def test_each_wanter_begins_with_its_own_stripe() -> None:
    seen = []
    for rank in range(4):
        wanted = blob(bits.full(64), place=Place(rank, 4))
        asks = plan(wanted, [source("s")], 16 * SIZE, random.Random(rank))
        seen.append(set(order(asks)))
        assert {index % 4 for index in seen[-1]} == {rank}
    assert len(set.union(*seen)) == 64


def test_rare_chunks_go_before_common_ones() -> None:
    rare = bits.span(40, 44)
    one, two = source("one"), source("two", ~rare & bits.full(64))
    asks = plan(blob(bits.full(64)), [one], 4 * SIZE, random.Random(1))
    assert order(asks) == [0, 1, 2, 3]  # alone: in order
    one = source("one")
    asks = plan(blob(bits.full(64), place=Place(0, 2)), [one, two], 4 * SIZE, random.Random(1))
    first = next(ask for ask in asks if ask.peer == b"one")
    assert set(first.chunks[:2]) == {40, 42}  # own stripe and rare


def test_the_window_follows_the_path() -> None:
    assert window(2e6, 0.05) == int(1.25 * 2e6 * 0.3)
    assert window(0.4e6, 0.05) == int(1.25 * 0.4e6 * 0.55)  # chunks are few in a quarter second
    assert window(1e6, 0.05) == int(1.25 * 1e6 * 0.05) + QUEUE_LITTLE
    assert window(1e3, 0.01) == WINDOW_MIN
    assert window(1e9, 0.5) == WINDOW_MAX
    assert window(1e3, 0.01, 1 << 20) == 2 << 20


def test_only_what_comes_far_too_late_is_asked_twice() -> None:
    late, idle = source("late", rate=1e4), source("idle")
    late.outstanding = 2 * SIZE
    owed = Pending(b"late", 0b11)
    (ask,) = endgame([owed], [late, idle], blob(0), 0, allowance=1 << 20)
    assert (ask.peer, ask.chunks) == (b"idle", (0, 1))
    (ask,) = endgame([owed], [late, source("idle")], blob(0), 0, allowance=SIZE)
    assert ask.chunks == (0,)
    assert endgame([owed], [late, source("idle")], blob(0), 1 << 9, allowance=1 << 20) == []
    assert endgame([Pending(b"late", 0)], [late, source("idle")], blob(0), 0, allowance=SIZE) == []


def test_a_chunk_that_nobody_has_lets_no_slow_peer_keep_the_others() -> None:
    late, idle = source("late", rate=1e4), source("idle")
    late.outstanding = 2 * SIZE
    late.has = idle.has = (1 << 9) - 1
    (ask,) = endgame([Pending(b"late", 0b11)], [late, idle], blob(0), 1 << 9, allowance=1 << 20)
    assert (ask.peer, ask.chunks) == (b"idle", (0, 1))


def test_what_comes_from_our_site_is_not_asked_for_again_from_afar() -> None:
    near, far = source("near", rate=1e4), source("far", far=True)
    near.outstanding = 2 * SIZE
    views = [near, far]
    assert endgame([Pending(b"near", 0b11)], views, blob(0), 0, allowance=1 << 20) == []


@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 200))
def test_every_chunk_is_in_one_members_stripe_of_one_site(
    sites: int, mates: int, count: int
) -> None:
    seen = 0
    for site in range(sites):
        of_site = 0
        for rank in range(mates):
            own, stripe = Place(site, sites, rank, mates).stripes(count)
            assert not own & of_site  # members of a site divide every chunk among them
            assert not own & stripe & seen
            of_site |= own
            seen |= own & stripe
        assert of_site == bits.full(count)
    assert seen == bits.full(count)


def test_of_the_stripes_of_others_each_takes_a_part_of_his_own() -> None:
    places = [Place(site, 2, rank, 2) for site in range(2) for rank in range(2)]
    parts = [place.spare(64) for place in places]
    assert sum(parts) == bits.full(64)  # each chunk is in one
    for victim in places:
        own, site = victim.stripes(64)
        assert [(own & site & part).bit_count() for part in parts] == [4] * 4
    mine = Place(0, 1, 1, 4)
    taken = mine.stripes(64)[0]
    (first, *_) = plan(
        blob(bits.full(64) & ~taken, place=mine),
        [source("only", room=12 * SIZE)],
        12 * SIZE,
        random.Random(1),
    )
    assert not bits.of(first.chunks) & ~mine.spare(64)


def test_nothing_that_our_site_has_is_asked_for_from_another() -> None:
    near, far = source("near", bits.full(32), rate=1e5), source("far", far=True)
    asks = plan(blob(bits.full(64)), [far, near], 1 << 24, random.Random(1))
    assert all(index >= 32 for ask in asks if ask.peer == b"far" for index in ask.chunks)
    assert {ask.peer for ask in asks} == {b"near", b"far"}


def test_readers_who_are_many_share_out_what_lies_ahead() -> None:
    first = {index for index in range(64) if index * SIZE < 128 * 1024}
    for rank in range(4):
        wanted = blob(bits.full(64), place=Place(rank, 4), readers=(0,))
        asks = plan(wanted, [source("s", rate=1e6)], 12 * SIZE, random.Random(rank))
        chosen = order(asks)
        assert first <= set(chosen)
        assert {index % 4 for index in chosen if index not in first} == {rank}


def test_what_others_will_give_on_is_not_asked_of_a_source() -> None:
    needed = bits.full(12)
    near, far = source("a", bits.full(12), spared=bits.full(8)), source("b", bits.full(6))
    asks = plan(blob(needed, 12, place=Place(0, 1, 0, 2)), [near, far], 1 << 30, random.Random(0))
    asked = {
        name: bits.of(order([ask for ask in asks if ask.peer == name])) for name in (b"a", b"b")
    }
    assert asked[b"a"] == bits.span(8, 12)
    assert asked[b"b"] == bits.full(6)  # 6 and 7 wait for whoever has them on their way


def test_a_waiting_client_is_not_put_off_by_what_others_await() -> None:
    only = source("a", bits.full(12), spared=bits.full(12))
    needed = blob(bits.full(12), 12, readers=(4,), place=Place(0, 1, 0, 2))
    assert order(plan(needed, [only], 1 << 30, random.Random(0))) == [4, 5]
