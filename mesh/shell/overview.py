"""What people see of the mesh: peers.  Reads everything, changes nothing."""

from __future__ import annotations

from dataclasses import dataclass

from mesh.addresses import INBOUND, AddressBook
from mesh.beliefs import PeerBelief
from mesh.carrier import P2P, scheme_of
from mesh.exchange import Exchange
from mesh.ports import LedgerPort
from mesh.relay import parse_detour
from mesh.shell.connection import Connection
from mesh.shell.ledgers import Ledgers
from mesh.shell.links import Links
from mesh.status import PeerStatus
from store.root import Member

SHORT = 8  # characters of a node id that people read


@dataclass(frozen=True, slots=True)
class Known:
    """Where the knowledge is."""

    ledger: LedgerPort
    links: Links
    exchange: Exchange
    ledgers: Ledgers


def peers(known: Known, book: AddressBook, now: float) -> list[PeerStatus]:
    """Return every other member, as seen from here."""
    members = known.ledger.authority.members().items()
    return [_peer(known, book, m, now) for node, m in members if node != known.ledger.node]


def _peer(known: Known, book: AddressBook, member: Member, now: float) -> PeerStatus:
    peer = bytes.fromhex(member.node)
    link, dial = known.links.control.get(peer), known.links.dialling.dials.get(peer)
    belief = known.exchange.peers.get(peer) or PeerBelief(peer)
    sockets = [*([link] if link is not None else []), *known.links.bundle(peer)]
    notes = tuple(belief.notes)
    trouble = known.ledgers.problems.get(peer, "") or (notes[-1] if notes else "")
    if link is None and dial is not None:
        trouble = trouble or dial.last_error
    return PeerStatus(
        node=member.node,
        name=member.name,
        site=member.site,
        state="up" if link else "dialling" if dial and dial.attempts else "down",
        address=link.address if link else "",
        addresses=book.of(peer),
        since=now - link.established_at if link else 0.0,
        rtt=link.link.rtt.smoothed if link and link.link.rtt.measured else None,
        rate=belief.rate.average if belief.rate.measured else 0.0,
        received=sum(each.received.total for each in sockets),
        sent=sum(each.sent.total for each in sockets),
        wasted=belief.wasted,
        strikes=belief.strikes,
        banned=now < belief.banned_until,
        behind=known.ledgers.core.behind(peer),
        ahead=known.ledgers.core.ahead(peer),
        skew=link.link.peer.skew if link and link.link.peer else 0.0,
        trouble=trouble,
        notes=notes,
        path=_path(link),
        bulk_path=_path(known.links.bulk.get(peer)),
        found=_found(book, peer, link),
        sources={address: book.origin(peer, address) for address in book.of(peer)},
    )


def _path(link: Connection | None) -> str:
    """Say how a socket gets there: directly, through which relay, or over libp2p."""
    if link is None:
        return ""
    if link.relayed:
        return f"relayed by {parse_detour(link.address)[0].hex()[:SHORT]}"
    return "libp2p" if scheme_of(link.address) == P2P else "direct"


def _found(book: AddressBook, peer: bytes, link: Connection | None) -> str:
    if link is None:
        return ""
    if link.relayed:
        return "relay"
    return book.origin(peer, link.address) if link.dialled else INBOUND
