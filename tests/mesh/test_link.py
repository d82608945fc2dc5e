"""One link: who gets in, what is heard, and when it is given up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh import messages as m
from mesh.handshake import Self, Ticket, hello
from mesh.link import Closed, Established, Event, JoinAsked, Link, Received
from mesh.wire import encode
from store.errors import LocalProtocolError, RemoteProtocolError, UnavailableError
from tests.mesh.keys import MESH, me

A, B, C = me("a"), me("b"), me("c")
MEMBERS = {A.node: A.signer.key, B.node: B.signer.key}


def gate(said: m.Hello) -> str:
    if said.mesh != MESH:
        return "another mesh"
    return "" if MEMBERS.get(said.node) == said.key else "not a member of this mesh"


def listener(
    server: Self = B, nonce: bytes = b"n" * 32, secrets: dict[bytes, bytes] | None = None
) -> Link:
    return Link.accept(
        server, nonce=nonce, gate=gate, secret_of=(secrets or {}).get, now=0.0, clock=1000.0
    )


def dialler(client: Self = A, channel: int = m.CONTROL, ticket: Ticket | None = None) -> Link:
    return Link.dial(
        client,
        node=B.node,
        keys=frozenset({B.signer.key}),
        server_key=B.signer.key,
        channel=channel,
        now=0.0,
        clock=1000.0,
        ticket=ticket,
    )


def drain(link: Link) -> bytes:
    out = b""
    while data := link.take():
        out += data
    return out


def pump(one: Link, two: Link, now: float = 0.0) -> tuple[list[Event], list[Event]]:
    """Carry bytes between two links until nobody has anything to say."""
    heard: tuple[list[Event], list[Event]] = ([], [])
    while True:
        out = drain(one), drain(two)
        if not any(out):
            return heard
        for data, link, events in ((out[1], one, heard[0]), (out[0], two, heard[1])):
            if data:
                link.feed(data, now)
            events += list(link)


def flood(link: Link, message: m.Message) -> None:
    for _ in range(1000):
        link.send(message)


def linked(channel: int = m.CONTROL) -> tuple[Link, Link]:
    one, two = dialler(channel=channel), listener()
    pump(one, two)
    return one, two


def test_members_meet() -> None:
    one, two = dialler(), listener()
    at_one, at_two = pump(one, two)
    assert isinstance(at_one[0], Established)
    assert at_one[0].peer.node == B.node
    assert isinstance(at_two[0], Established)
    assert (at_two[0].peer.node, at_two[0].peer.site) == (A.node, "a")
    one.send(m.OpenBulk())
    assert pump(one, two)[1] == [Received(m.OpenBulk())]


def test_a_server_with_another_key_gets_nothing() -> None:
    with pytest.raises(RemoteProtocolError, match="another key"):
        Link.dial(
            A,
            node=B.node,
            keys=frozenset({B.signer.key}),
            server_key=C.signer.key,
            channel=m.CONTROL,
            now=0.0,
            clock=0.0,
        )


def test_a_stranger_is_told_why_not() -> None:
    at_one, at_two = pump(dialler(C), listener())
    assert at_one == [Closed("refused: not a member of this mesh")]
    assert at_two == [Closed("not a member of this mesh")]


def test_another_mesh_is_refused() -> None:
    assert pump(dialler(me("a", b"x" * 32)), listener())[1] == [Closed("another mesh")]


def test_a_replayed_introduction_is_refused() -> None:
    one, two = dialler(), listener(nonce=b"1" * 32)
    one.feed(drain(two), 0.0)
    recorded = drain(one)
    fresh = listener(nonce=b"2" * 32)
    fresh.feed(recorded, 0.0)
    assert list(fresh) == [Closed("the introduction is not signed for this link")]


def test_an_introduction_relayed_to_another_server_is_refused() -> None:
    """Mallory lets A sign for her, and shows it to B with B's own nonce."""
    said = hello(A, m.Challenge(1, b"n" * 32), C.signer.key, m.CONTROL, 0.0)
    two = listener()
    two.feed(encode(said), 0.0)
    assert list(two) == [Closed("the introduction is not signed for this link")]


def test_a_stolen_name_is_refused() -> None:
    """C signs properly with its own key, but calls itself A."""
    said = hello(Self(C.signer, MESH, 1), m.Challenge(1, b"n" * 32), B.signer.key, m.CONTROL, 0.0)
    forged = m.Hello(**{f: getattr(said, f) for f in m.Hello.__struct_fields__} | {"node": A.node})
    two = listener()
    two.feed(encode(forged), 0.0)
    assert list(two) == [Closed("the introduction is not signed for this link")]


@pytest.mark.parametrize(
    "first",
    [m.OpenBulk(), m.Ping(1, 1), m.Welcome(A.node, 1, "", (), 0, 0), m.Challenge(1, b"x" * 16)],
)
def test_nothing_else_is_accepted_first(first: m.Message) -> None:
    with pytest.raises(RemoteProtocolError):
        listener().feed(encode(first), 0.0)


def test_plain_text_is_refused() -> None:
    with pytest.raises(RemoteProtocolError):
        listener().feed(b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n", 0.0)


def test_nothing_is_said_before_the_handshake() -> None:
    with pytest.raises(LocalProtocolError):
        dialler().send(m.OpenBulk())


def test_a_slow_handshake_is_cut_off() -> None:
    two = listener()
    assert two.deadline() == 10.0
    two.tick(10.0)
    assert list(two) == [Closed("handshake timed out")]


def test_a_joiner_with_the_secret_is_handed_on() -> None:
    secrets = {b"i" * 16: b"s" * 32}
    one, two = dialler(C, ticket=Ticket(b"i" * 16, b"s" * 32)), listener(secrets=secrets)
    _, at_two = pump(one, two)
    assert isinstance(at_two[0], JoinAsked)
    assert at_two[0].request.key == C.signer.key
    two.admit(at_two[0].request)
    at_one, at_two = pump(one, two)
    assert isinstance(at_one[0], Established)
    assert isinstance(at_two[0], Established)


@pytest.mark.parametrize(
    "ticket", [Ticket(b"i" * 16, b"wrong" * 6 + b"zz"), Ticket(b"j" * 16, b"s" * 32)]
)
def test_a_joiner_without_the_secret_is_refused(ticket: Ticket) -> None:
    at_one, _ = pump(dialler(C, ticket=ticket), listener(secrets={b"i" * 16: b"s" * 32}))
    assert at_one == [Closed("refused: the invitation is not known here, withdrawn, or forged")]


def test_channels_carry_only_their_own_messages() -> None:
    for channel, message in ((m.CONTROL, m.Done(1)), (m.BULK, m.OpenBulk())):
        one, two = linked(channel)
        one.send(message)
        with pytest.raises(RemoteProtocolError, match="wrong channel"):
            pump(one, two)


def test_bulk_carries_large_chunks_whole() -> None:
    one, two = linked(m.BULK)
    data = m.Data(1, 0, 1, b"x" * (1 << 20))
    one.send(data)
    assert pump(one, two)[1] == [Received(data)]


def test_silence_is_death_and_pings_measure() -> None:
    one, two = linked()
    assert one.deadline() <= 1.0
    one.tick(1.0)
    two.feed(drain(one), 1.02)
    list(two)
    one.feed(drain(two), 1.05)
    list(one)
    assert one.rtt.smoothed == pytest.approx(0.05)
    now = 1.05
    while not one.closed:
        now = one.deadline()
        one.tick(now)
    assert now == pytest.approx(1.05 + 15.0)
    assert list(one) == [Closed("silent for 15 s")]


def test_a_quiet_link_is_pinged_from_one_side_and_measured_from_both() -> None:
    dials, listens = linked()
    now, last, pings, gaps = 0.0, 0.0, {dials: 0, listens: 0}, [0.0]
    while now < 120.0:
        now = max(now, min(dials.deadline(), listens.deadline()))
        for one, other in ((dials, listens), (listens, dials)):
            before = one.queued
            one.tick(now)
            pings[one] += one.queued > before
            if said := drain(one):
                gaps.append(now - last)
                last = now
                other.feed(said, now + 0.02)
                list(other)
                one.feed(drain(other), now + 0.04)
                list(one)
    assert not dials.closed
    assert max(gaps) < 5.2
    assert sum(pings.values()) <= 27
    assert min(pings.values()) >= 8, "else it would not know the round trip"


def test_whose_own_pings_wait_behind_what_it_sends_lives_by_the_others() -> None:
    """All that the dialler says is in a queue of minutes but for what is read of it each second."""
    dials, listens = linked()
    listens.tick(0.0)
    dials.feed(drain(listens), 0.0)
    list(dials)
    listens.feed(drain(dials), 0.01)  # the first ping and pong: the round trip is measured
    now = 0.0
    while now < 120.0 and not dials.closed:
        now += 0.5
        dials.tick(now)
        dials.take()  # stays in the queue
        listens.feed(encode(m.Have(bytes(32), bytes(32), ())), now)
        list(listens)
        listens.tick(now)
        if said := drain(listens):
            dials.feed(said, now + 0.25)
            list(dials)
    assert not dials.closed


def test_a_peer_that_does_not_read_is_dropped() -> None:
    one, _ = linked()
    big = m.Records(A.node, 1, 0, last=True, piece=b"x" * 60_000)
    with pytest.raises(UnavailableError):
        flood(one, big)
    assert one.queued < 6_500_000


@given(st.lists(st.binary(max_size=80), max_size=10), st.booleans())
def test_garbage_closes_or_raises_the_one_error(pieces: list[bytes], established: bool) -> None:
    one, two = linked() if established else (dialler(), listener())
    for link in (one, two):
        try:
            for piece in pieces:
                link.feed(piece, 1.0)
                list(link)
        except RemoteProtocolError:
            pass
