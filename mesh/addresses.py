"""Where members can be dialled: address records, signed by whom they concern.  Pure.

Spec: docs/mesh.md §11.  Peers pass each other's records on, so that two nodes which were never
introduced can meet.  Only a member's own newest record counts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated

import msgspec

from mesh.handshake import Signer, verify
from store import canonical
from store.errors import RejectedError

CONTEXT = b"atoll/mesh/addresses/1"
TTL = 7 * 86400.0  # seconds that a record counts
AHEAD_MAX = 600.0  # seconds that a clock may be ahead of ours
ADDRESSES_MAX = 16
MEMBERS_MAX = 10_000

Short = Annotated[str, msgspec.Meta(max_length=255)]


class AddressRecord(msgspec.Struct, array_like=True, frozen=True, tag=6):
    """One member's own word on where it listens."""

    node: Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
    issued_ms: Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]
    addresses: Annotated[tuple[Short, ...], msgspec.Meta(max_length=ADDRESSES_MAX)]
    key: Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
    signature: Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]


_decoder = msgspec.msgpack.Decoder(AddressRecord)


def _said(record: AddressRecord, mesh: bytes) -> bytes:
    said = (CONTEXT, mesh, record.node, record.issued_ms, record.addresses, record.key)
    return msgspec.msgpack.encode(said)


def sign(signer: Signer, mesh: bytes, addresses: tuple[str, ...], clock: float) -> bytes:
    """Make our own record."""
    node = bytes.fromhex(signer.node)
    said = addresses[:ADDRESSES_MAX]
    draft = AddressRecord(node, int(clock * 1000), said, signer.key, bytes(64))
    signature = signer.sign(_said(draft, mesh))
    return canonical.encode(msgspec.structs.replace(draft, signature=signature))


@dataclass(slots=True)
class AddressBook:
    """The newest record of each member, and addresses learnt otherwise."""

    records: dict[bytes, tuple[AddressRecord, bytes]] = field(
        default_factory=dict[bytes, tuple[AddressRecord, bytes]]
    )
    hints: dict[bytes, tuple[str, ...]] = field(default_factory=dict[bytes, tuple[str, ...]])

    def take(
        self, data: bytes, mesh: bytes, key_of: Callable[[bytes], bytes | None], clock: float
    ) -> bool:
        """Take a record if it is a member's, newer than ours, and genuine; whether it was."""
        try:
            record = canonical.decode(data, _decoder)
        except RejectedError:
            return False
        issued = record.issued_ms / 1000
        known = self.records.get(record.node)
        if known is not None and known[0].issued_ms >= record.issued_ms:
            return False
        if not clock - TTL < issued < clock + AHEAD_MAX or key_of(record.node) != record.key:
            return False
        if not verify(record.key, _said(record, mesh), record.signature):
            return False
        if known is None and len(self.records) >= MEMBERS_MAX:
            return False
        self.records[record.node] = (record, data)
        return True

    def of(self, node: bytes) -> tuple[str, ...]:
        """Return where a member may be found, its own word first."""
        known = self.records.get(node)
        own = known[0].addresses if known else ()
        return tuple(dict.fromkeys((*own, *self.hints.get(node, ()))))

    def hint(self, node: bytes, address: str) -> None:
        """Remember an address that has worked, or that an invitation named."""
        known = [address, *(a for a in self.hints.get(node, ()) if a != address)]
        self.hints[node] = tuple(known[:4])

    def encoded(self) -> list[bytes]:
        """Return every record, to pass on."""
        return [data for _, data in self.records.values()]

    def keep(self, members: Callable[[bytes], bool]) -> None:
        """Forget who is no member any more."""
        for node in [node for node in self.records if not members(node)]:
            del self.records[node]
        for node in [node for node in self.hints if not members(node)]:
            del self.hints[node]
