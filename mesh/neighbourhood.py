"""Who is linked with whom: each member's own word, signed, passed on by all.  Pure.

Spec: docs/mesh.md §15.  For people who look at the mesh, and for nothing else: no decision hangs on
it.  The period grows with the mesh, so that what a link carries of it stays the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Annotated

import msgspec

from mesh.handshake import Signer, verify
from mesh.messages import Count, Id, Message, Signature
from store import canonical
from store.errors import RejectedError

CONTEXT = b"atoll/mesh/links/1"
PATHS_MAX = 64  # of one member
SHORT = 8  # bytes of a node id that name a member
RECORD_MAX = 4096  # bytes
RECORDS_MAX = 8  # in one message
MEMBERS_MAX = 10_000
PERIOD, PERIOD_EACH = 60.0, 15.0  # seconds between words of one member: at least; for each member
SPACING = 10.0  # seconds that lie between two words of one member at least
AHEAD_MAX = 600.0  # seconds that a clock may be ahead of ours
DIRECT, RELAYED, LIBP2P = 0, 1, 2


class Path(msgspec.Struct, array_like=True, frozen=True):
    """One link as one end sees it.  0 is unknown; ``rate`` is bytes per second received."""

    peer: Annotated[bytes, msgspec.Meta(min_length=SHORT, max_length=SHORT)]
    rtt_us: Count = 0
    rate: Count = 0
    resent_ppm: Count = 0
    way: Annotated[int, msgspec.Meta(ge=0, le=255)] = DIRECT


class LinksRecord(msgspec.Struct, array_like=True, frozen=True, tag=16):
    """A member's word on its links.  ``issued_ms`` is its sequence number."""

    node: Id
    issued_ms: Count
    paths: Annotated[tuple[Path, ...], msgspec.Meta(max_length=PATHS_MAX)]
    key: Id
    signature: Signature

    def names(self, node: bytes) -> bool:
        """Tell whether a node is linked with it: then it has heard this word itself."""
        return any(path.peer == node[:SHORT] for path in self.paths)


class LinkWords(Message, frozen=True):
    """Signed words of members on their links, as received."""

    records: Annotated[
        tuple[Annotated[bytes, msgspec.Meta(max_length=RECORD_MAX)], ...],
        msgspec.Meta(max_length=RECORDS_MAX),
    ]


NEIGHBOURHOOD: dict[int, type[Message]] = {0x80 | 40: LinkWords}
_decoder = msgspec.msgpack.Decoder(LinksRecord)


def _said(record: LinksRecord, mesh: bytes) -> bytes:
    said = (CONTEXT, mesh, record.node, record.issued_ms, record.paths, record.key)
    return msgspec.msgpack.encode(said)


def sign(signer: Signer, mesh: bytes, paths: Iterable[Path], clock: float) -> bytes:
    """Make our own word; links beyond the bound are left out."""
    node, said = bytes.fromhex(signer.node), tuple(paths)[:PATHS_MAX]
    draft = LinksRecord(node, int(clock * 1000), said, signer.key, bytes(64))
    signature = signer.sign(_said(draft, mesh))
    return canonical.encode(msgspec.structs.replace(draft, signature=signature))


def period(members: int) -> float:
    """Return the seconds between two words of one member while nothing changes."""
    return max(PERIOD, PERIOD_EACH * members)


@dataclass(slots=True)
class Words:
    """The newest word of each member."""

    records: dict[bytes, tuple[LinksRecord, bytes]] = field(
        default_factory=dict[bytes, tuple[LinksRecord, bytes]]
    )

    def take(
        self, data: bytes, mesh: bytes, key_of: Callable[[bytes], bytes | None], clock: float
    ) -> LinksRecord | None:
        """Take a word if it is a member's, newer than ours, and genuine; None if it is not."""
        try:
            record = canonical.decode(data, _decoder)
        except RejectedError:
            return None
        known = self.records.get(record.node)
        if known is not None and record.issued_ms < known[0].issued_ms + SPACING * 1000:
            return None
        if record.issued_ms / 1000 > clock + AHEAD_MAX or key_of(record.node) != record.key:
            return None
        if known is None and len(self.records) >= MEMBERS_MAX:
            return None
        if not verify(record.key, _said(record, mesh), record.signature):
            return None
        self.records[record.node] = (record, data)
        return record

    def keep(self, is_member: Callable[[bytes], bool], clock: float) -> None:
        """Forget who is no member, and words too old to be true."""
        lapsed = (clock - lifetime(len(self.records))) * 1000
        for node, (record, _) in list(self.records.items()):
            if not is_member(node) or record.issued_ms < lapsed:
                del self.records[node]

    def encoded(self) -> list[bytes]:
        """Return every word, to pass on."""
        return [data for _, data in self.records.values()]


def lifetime(members: int) -> float:
    """Return the seconds that a word counts."""
    return 4 * period(members)
