"""What the local network says: bounded, and only ever a hint."""

from __future__ import annotations

import pytest

from mesh.announcement import (
    AGAIN,
    NAMES_MAX,
    PER_NODE_MAX,
    Sighting,
    Sightings,
    properties,
    read,
    tag,
)

MESH, NODE, OWN = b"m" * 32, b"n" * 32, b"o" * 32


def seen(node: bytes = NODE, address: str = "tls://10.0.0.1:7", mesh: bytes = MESH) -> Sighting:
    return Sighting(node, tag(mesh), (address,))


def test_what_is_announced_is_read_and_names_no_mesh() -> None:
    text = properties(MESH, NODE)
    assert MESH not in b"".join(text.values())
    assert MESH.hex().encode() not in b"".join(text.values())
    found = read(text, ["10.0.0.1", "fd00::1"], 7)
    assert found == Sighting(NODE, tag(MESH), ("tls://10.0.0.1:7", "tls://[fd00::1]:7"))


@pytest.mark.parametrize(
    ("change", "hosts", "port"),
    [
        ({b"v": b"9"}, ["10.0.0.1"], 7),
        ({b"n": b"zz" * 32}, ["10.0.0.1"], 7),
        ({b"n": b"\xff" * 64}, ["10.0.0.1"], 7),
        ({b"n": b"aa"}, ["10.0.0.1"], 7),
        ({b"m": None}, ["10.0.0.1"], 7),
        ({b"m": b"x" * 10_000}, ["10.0.0.1"], 7),
        ({}, ["10.0.0.1"], None),
        ({}, ["224.0.0.1", "0.0.0.0", "fe80::1%3", "hub"], 7),
    ],
)
def test_what_makes_no_sense_is_ignored(change, hosts, port) -> None:
    found = read({**properties(MESH, NODE), **change}, hosts, port)
    assert found is None or found.addresses == ("tls://[fe80::1%3]:7",)


def test_an_announcement_gives_few_addresses() -> None:
    found = read(properties(MESH, NODE), [f"10.0.0.{n}" for n in range(200)], 7)
    assert found is not None
    assert len(found.addresses) == 4


def test_a_node_is_dialled_once_in_a_while_however_often_it_is_announced() -> None:
    sightings = Sightings(OWN)
    assert sightings.take("a", seen(), 0.0)
    assert not sightings.take("a", seen(), 1.0)
    assert not sightings.take("a", seen(address="tls://10.0.0.2:7"), 1.0)
    assert sightings.take("a", seen(address="tls://10.0.0.3:7"), AGAIN)
    assert sightings.addresses(NODE) == ("tls://10.0.0.3:7",)


def test_a_flood_is_bounded_and_displaces_nothing() -> None:
    sightings = Sightings(OWN)
    sightings.take("true", seen(), 0.0)
    for n in range(2 * NAMES_MAX):
        sightings.take(f"same-{n}", seen(address=f"tls://10.0.1.1:{n + 1}"), 0.0)
    assert len(sightings.addresses(NODE)) == PER_NODE_MAX
    for n in range(2 * NAMES_MAX):
        sightings.take(f"other-{n}", seen(n.to_bytes(32, "big")), 0.0)
    assert len(sightings.named) == NAMES_MAX
    assert "tls://10.0.0.1:7" in sightings.addresses(NODE)


def test_we_do_not_hear_ourselves_and_the_dead_are_forgotten() -> None:
    sightings = Sightings(OWN)
    assert not sightings.take("own", seen(OWN), 0.0)
    sightings.take("a", seen(), 0.0)
    sightings.take("b", seen(b"x" * 32, mesh=b"?" * 32), 0.0)
    assert [each.node for each in sightings.of_mesh(MESH)] == [NODE]
    gone = sightings.gone("a")
    assert gone is not None
    assert sightings.gone("a") is None
    assert sightings.addresses(NODE) == ()
    assert sightings.take("a", seen(), 1.0)
