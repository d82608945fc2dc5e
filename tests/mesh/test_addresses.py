"""Address records: only a member's own newest word counts."""

from __future__ import annotations

from mesh.addresses import AddressBook, sign
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
