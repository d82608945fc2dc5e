"""What nodes say of themselves on the local network, and what is believed of it.  Pure.

Spec: docs/mesh.md §11.  Anybody on a network can announce anything, so an announcement is only ever
a hint where to dial; the handshake proves the node.  The text names no mesh: members recognise
theirs by a tag, and whoever was invited knows the inviter's node id.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from mesh.addresses import tls_address

SERVICE = "_atoll._tcp.local."
VERSION = b"1"
CONTEXT = b"atoll/mesh/mdns/1"
NAMES_MAX = 512  # announcements kept
PER_NODE_MAX = 4  # of them, that claim to be one node
ADDRESSES_MAX = 4  # of one announcement
AGAIN = 5.0  # seconds between dials that announcements of one node may cause


def tag(mesh: bytes) -> bytes:
    """Return what members recognise their mesh by; it tells nobody else which mesh it is."""
    return hashlib.sha256(CONTEXT + mesh).hexdigest()[:16].encode()


def properties(mesh: bytes, node: bytes) -> dict[bytes, bytes]:
    """Return the TXT record of a node."""
    return {b"v": VERSION, b"m": tag(mesh), b"n": node.hex().encode()}


@dataclass(frozen=True, slots=True)
class Sighting:
    """One announcement that could be read."""

    node: bytes
    tag: bytes
    addresses: tuple[str, ...]


def read(
    text: Mapping[bytes, bytes | None], hosts: Iterable[str], port: int | None
) -> Sighting | None:
    """Read an announcement; None if it is not one of ours, or damaged."""
    node, mesh = text.get(b"n") or b"", text.get(b"m") or b""
    if text.get(b"v") != VERSION or len(node) != 64 or len(mesh) != 16 or not port:
        return None
    try:
        raw = bytes.fromhex(node.decode("ascii"))
    except ValueError:
        return None
    usable = [host for host in hosts if _dialable(host)][:ADDRESSES_MAX]
    addresses = tuple(tls_address(host, port) for host in usable)
    return Sighting(raw, mesh, addresses) if addresses and len(raw) == 32 else None


def _dialable(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False  # also link-local IPv6 addresses with a zone: they mean nothing elsewhere
    return not (address.is_multicast or address.is_unspecified or address.is_reserved)


@dataclass(slots=True)
class Sightings:
    """Who has been seen on the local network."""

    own: bytes
    named: dict[str, Sighting] = field(default_factory=dict[str, Sighting])
    told: dict[bytes, float] = field(default_factory=dict[bytes, float])  # node → when

    def take(self, name: str, seen: Sighting, now: float) -> bool:
        """Note an announcement; whether its node may be dialled at once for it.

        What is held is bounded, and a flood displaces nothing that was there before it.  Who
        announces one node again and again causes a dial every AGAIN seconds at most.
        """
        if seen.node == self.own:
            return False
        known = self.named.get(name)
        if known is None and not self._room(seen.node):
            return False
        self.named[name] = seen
        if known == seen or now < self.told.get(seen.node, -AGAIN) + AGAIN:
            return False
        self.told[seen.node] = now
        return True

    def _room(self, node: bytes) -> bool:
        same = sum(each.node == node for each in self.named.values())
        return len(self.named) < NAMES_MAX and same < PER_NODE_MAX

    def gone(self, name: str) -> Sighting | None:
        """Forget an announcement that was withdrawn or has lapsed; return it."""
        seen = self.named.pop(name, None)
        if seen is not None and not self.addresses(seen.node):
            self.told.pop(seen.node, None)
        return seen

    def addresses(self, node: bytes) -> tuple[str, ...]:
        """Return where a node was seen."""
        found = [a for each in self.named.values() if each.node == node for a in each.addresses]
        return tuple(dict.fromkeys(found))

    def of_mesh(self, mesh: bytes) -> list[Sighting]:
        """Return the sightings that claim to be of a mesh."""
        wanted = tag(mesh)
        return [each for each in self.named.values() if each.tag == wanted]
