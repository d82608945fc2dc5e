"""Where members can be dialled: address records, signed by whom they concern.  Pure.

Spec: docs/mesh.md §11.  Peers pass each other's records on, so that two nodes which were never
introduced can meet.  Only a member's own newest record counts.  Everything else that is known of a
member's whereabouts is a hint: the handshake proves who really answers there.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Annotated
from urllib.parse import urlsplit

import msgspec

from mesh.handshake import Signer, verify
from store import canonical
from store.errors import RejectedError

CONTEXT = b"atoll/mesh/addresses/1"
TTL = 7 * 86400.0  # seconds that a record counts
AHEAD_MAX = 600.0  # seconds that a clock may be ahead of ours
ADDRESSES_MAX = 16
MEMBERS_MAX = 10_000
HINTS_MAX = 4  # of one origin, for one member
OUTSIDE_MAX = 2  # hosts of ours that only others see
ANY_P2P = "/ip4/0.0.0.0/"  # in a libp2p address
SEEN_MAX = 4  # addresses made up from where a member dialled us from

# How an address became known.
RECORD, STATIC, INVITATION, MDNS, INBOUND, REMEMBERED, GOSSIP = ORIGINS = (
    "record",
    "static",
    "invitation",
    "mdns",
    "inbound",
    "remembered",
    "gossip",
)

Short = Annotated[str, msgspec.Meta(max_length=255)]


class AddressRecord(msgspec.Struct, array_like=True, frozen=True, tag=6):
    """One member's own word on where it listens.  ``issued_ms`` is its sequence number."""

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
class Hint:
    """How we came to know of an address, and whether it has led to its node."""

    origin: str
    worked: bool = False


@dataclass(slots=True)
class AddressBook:
    """The newest record of each member, and addresses learnt otherwise."""

    records: dict[bytes, tuple[AddressRecord, bytes]] = field(
        default_factory=dict[bytes, tuple[AddressRecord, bytes]]
    )
    hints: dict[bytes, dict[str, Hint]] = field(default_factory=dict[bytes, dict[str, Hint]])
    seen: dict[bytes, str] = field(default_factory=dict[bytes, str])  # hosts that dialled us

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
        return tuple(dict.fromkeys((*own, *self.hints.get(node, ()), *self._where_seen(node, own))))

    def origin(self, node: bytes, address: str) -> str:
        """Return how an address of a node became known."""
        hint = self.hints.get(node, {}).get(address)
        if hint is not None and hint.origin != REMEMBERED:
            return hint.origin
        known = self.records.get(node)
        if known is not None and address in known[0].addresses:
            return RECORD
        return hint.origin if hint is not None else INBOUND

    def hint(
        self, node: bytes, address: str, origin: str = REMEMBERED, *, worked: bool = False
    ) -> bool:
        """Remember an address; whether it was new.  The newest comes first.

        Only so many of one origin are kept: those that have worked longer than others.
        """
        known = self.hints.get(node, {})
        old = known.get(address)
        if old is not None:
            origin = origin if old.origin == REMEMBERED else old.origin
            worked = worked or old.worked
        elif not worked and self._full(known, origin):
            return False
        fresh = {address: Hint(origin, worked)}
        fresh.update((other, hint) for other, hint in known.items() if other != address)
        self.hints[node] = _trim(fresh)
        return old is None

    def _full(self, known: dict[str, Hint], origin: str) -> bool:
        return sum(hint.origin == origin for hint in known.values()) >= HINTS_MAX

    def unhint(self, node: bytes, addresses: Iterable[str], origin: str) -> None:
        """Forget addresses of one origin, unless they have worked."""
        known = self.hints.get(node, {})
        for address in addresses:
            hint = known.get(address)
            if hint is not None and hint.origin == origin and not hint.worked:
                del known[address]

    def dialled_us(self, node: bytes, address: str) -> None:
        """A member came from there: its listener may be there, too."""
        host = urlsplit(address).hostname
        if host:
            self.seen[node] = host

    def _where_seen(self, node: bytes, own: Sequence[str]) -> list[str]:
        """Return the listeners it names, at the host that it came from."""
        host = self.seen.get(node)
        if not host:
            return []
        ports = dict.fromkeys(map(_tls_port, own))
        return [tls_address(host, port) for port in ports if port][:SEEN_MAX]

    def encoded(self) -> list[bytes]:
        """Return every record, to pass on."""
        return [data for _, data in self.records.values()]

    def keep(self, members: Callable[[bytes], bool], clock: float | None = None) -> None:
        """Forget who is no member any more, and records that have lapsed."""
        for book in (self.records, self.hints, self.seen):
            for node in [node for node in book if not members(node)]:
                del book[node]
        if clock is not None:
            lapsed = (clock - TTL) * 1000
            for node in [n for n, (r, _) in self.records.items() if r.issued_ms < lapsed]:
                del self.records[node]


@dataclass(slots=True)
class Outside:
    """Where our network ends, as peers see us.  A forwarded port makes that an address of ours.

    One liar among the peers can make us name one false address, which costs whoever tries it a
    dial.
    """

    reports: dict[bytes, str] = field(default_factory=dict[bytes, str])

    def take(self, peer: bytes, host: str) -> None:
        """Note what a peer sees; only an address that others could dial counts."""
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return
        if isinstance(address, ipaddress.IPv6Address) and address.scope_id is not None:
            return  # it means something on that peer's machine alone
        if not (address.is_loopback or address.is_link_local or address.is_multicast):
            self.reports[peer] = str(address)

    def addresses(self, bound: Iterable[str], known: Iterable[str]) -> tuple[str, ...]:
        """Return the listeners we have, at the hosts that most peers see."""
        hosts = [host for host, _ in Counter(self.reports.values()).most_common(OUTSIDE_MAX)]
        parts = [urlsplit(each) for each in bound]
        ports = dict.fromkeys(each.port for each in parts if each.scheme == "tls" and each.port)
        found = [tls_address(host, port) for host in hosts for port in ports]
        return tuple(address for address in found if address not in set(known))


def _trim(hints: dict[str, Hint]) -> dict[str, Hint]:
    """Keep the newest of each origin; what has never worked goes first."""
    kept: set[str] = set()
    count: Counter[str] = Counter()
    for address, hint in sorted(hints.items(), key=lambda item: not item[1].worked):
        count[hint.origin] += 1
        if count[hint.origin] <= HINTS_MAX:
            kept.add(address)
    return {address: hint for address, hint in hints.items() if address in kept}


def _tls_port(address: str) -> int | None:
    """Return the port of a TLS address; None for any other, and for what a liar has written."""
    with suppress(ValueError):
        parts = urlsplit(address)
        return parts.port if parts.scheme == "tls" else None
    return None


def tls_address(host: str, port: int) -> str:
    """Write an address for the TLS carrier."""
    return f"tls://[{host}]:{port}" if ":" in host else f"tls://{host}:{port}"


def reachable(addresses: Iterable[str], hosts: Sequence[str]) -> tuple[str, ...]:
    """Return what peers can dial: "all interfaces" becomes the addresses that this machine has."""
    found: list[str] = []
    for address in addresses:
        parts = urlsplit(address)
        if parts.scheme == "tls" and parts.port and is_any(parts.hostname or ""):
            six = ":" in (parts.hostname or "")
            found += [tls_address(host, parts.port) for host in hosts if six or ":" not in host]
        elif ANY_P2P in address:
            found += [address.replace(ANY_P2P, f"/ip4/{h}/") for h in hosts if ":" not in h]
        else:
            found.append(address)
    return tuple(dict.fromkeys(found))[:ADDRESSES_MAX]


def is_any(host: str) -> bool:
    """Tell whether a host stands for all interfaces."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False
