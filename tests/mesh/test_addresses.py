"""Address records: only a member's own newest word counts."""

from __future__ import annotations

from mesh.addresses import HINTS_MAX, MDNS, STATIC, TTL, AddressBook, Outside, reachable, sign
from tests.mesh.keys import MESH, Signer

A, B = Signer("a"), Signer("b")
KEYS = {bytes.fromhex(A.node): A.key}
NOW = 1_000_000.0


def record(signer: Signer = A, *addresses: str, at: float = NOW, mesh: bytes = MESH) -> bytes:
    return sign(signer, mesh, addresses or ("tls://h:1",), at)


def take(book: AddressBook, data: bytes, now: float = NOW) -> bool:
    return book.take(data, MESH, KEYS.get, now)


def test_the_newest_record_of_a_member_counts() -> None:
    book, node = AddressBook(), bytes.fromhex(A.node)
    assert take(book, record(A, "tls://old:1"))
    assert take(book, record(A, "tls://new:1", at=NOW + 1))
    assert not take(book, record(A, "tls://old:1"))
    assert book.of(node) == ("tls://new:1",)
    book.hint(node, "tls://hint:1")
    assert book.of(node) == ("tls://new:1", "tls://hint:1")
    assert len(book.encoded()) == 1
    book.keep(lambda _: False)
    assert book.of(node) == ()


def test_what_is_forged_foreign_stale_or_damaged_is_not_taken() -> None:
    book = AddressBook()
    forged = bytearray(record())
    forged[-1] ^= 1
    assert not take(book, bytes(forged))
    assert not take(book, record(B))
    assert not take(book, record(mesh=b"x" * 32))
    assert not take(book, record(at=NOW - 8 * 86400))
    assert not take(book, record(at=NOW + 3600))
    assert not take(book, b"\x90")
    assert not take(book, b"garbage")
    assert book.encoded() == []


def test_a_record_lapses_after_a_week() -> None:
    book, node = AddressBook(), bytes.fromhex(A.node)
    assert take(book, record())
    book.keep(lambda _: True, NOW + TTL - 1)
    assert book.of(node)
    book.keep(lambda _: True, NOW + TTL + 1)
    assert book.of(node) == ()


def test_hints_of_one_origin_are_bounded_and_displace_no_other() -> None:
    book, node = AddressBook(), bytes.fromhex(A.node)
    book.hint(node, "tls://good:1", MDNS, worked=True)
    book.hint(node, "tls://fixed:1", STATIC)
    for n in range(100):
        book.hint(node, f"tls://flood:{n + 1}", MDNS)
    found = book.of(node)
    assert {"tls://good:1", "tls://fixed:1"} <= set(found)
    assert len(found) == HINTS_MAX + 1
    assert book.origin(node, "tls://fixed:1") == "static"
    book.unhint(node, found, MDNS)
    assert set(book.of(node)) == {"tls://good:1", "tls://fixed:1"}


def test_what_works_is_kept_before_what_was_only_heard_of() -> None:
    book, node = AddressBook(), bytes.fromhex(A.node)
    for n in range(HINTS_MAX):
        book.hint(node, f"tls://heard:{n + 1}", MDNS)
    book.hint(node, "tls://works:1", MDNS, worked=True)
    assert book.of(node)[0] == "tls://works:1"
    assert len(book.of(node)) == HINTS_MAX


def test_a_member_may_listen_where_it_came_from() -> None:
    book, node = AddressBook(), bytes.fromhex(A.node)
    assert take(book, record(A, "tls://10.0.0.5:7000"))
    book.dialled_us(node, "tls://192.0.2.9:51234")
    assert book.of(node) == ("tls://10.0.0.5:7000", "tls://192.0.2.9:7000")
    assert book.origin(node, "tls://192.0.2.9:7000") == "inbound"
    book.dialled_us(node, "memory://b")


def test_what_a_liar_calls_its_addresses_costs_nobody_else_anything() -> None:
    """They were taken apart in the task that dials everybody, at every start anew."""
    book, node = AddressBook(), bytes.fromhex(A.node)
    lies = ("tls://[", "tls://h:99999", "tls://h:x", "tls://\u2100:1", "", "://", "p2p://[x")
    assert take(book, record(A, *lies, "tls://10.0.0.5:7000"))
    book.dialled_us(node, "tls://192.0.2.9:51234")
    assert book.of(node) == (*lies, "tls://10.0.0.5:7000", "tls://192.0.2.9:7000")


def test_all_interfaces_become_the_addresses_of_the_machine() -> None:
    hosts = ("10.0.0.1", "fd00::1")
    assert reachable(["tls://0.0.0.0:7"], hosts) == ("tls://10.0.0.1:7",)
    assert reachable(["tls://[::]:7"], hosts) == ("tls://10.0.0.1:7", "tls://[fd00::1]:7")
    assert reachable(["p2p:///ip4/0.0.0.0/tcp/1/p2p/x"], hosts) == (
        "p2p:///ip4/10.0.0.1/tcp/1/p2p/x",
    )
    assert reachable(["tls://h:7", "memory://a"], hosts) == ("tls://h:7", "memory://a")


def test_a_forwarded_port_is_an_address_where_most_peers_see_us() -> None:
    outside = Outside()
    for peer, host in ((b"1", "192.0.2.1"), (b"2", "192.0.2.1"), (b"3", "203.0.113.9")):
        outside.take(peer, host)
    for lie in ("127.0.0.1", "not a host", "224.0.0.1", "fe80::1", "::1", "2001:db8::1%]"):
        outside.take(b"4", lie)
    bound = ["tls://0.0.0.0:7", "p2p:///ip4/0.0.0.0/tcp/8/p2p/x"]
    assert outside.addresses(bound, ()) == ("tls://192.0.2.1:7", "tls://203.0.113.9:7")
    assert outside.addresses(bound, ["tls://192.0.2.1:7"]) == ("tls://203.0.113.9:7",)
    for n in range(100):
        outside.take(b"liar", f"198.51.100.{n}")
    assert len(outside.addresses(bound, ())) == 2
