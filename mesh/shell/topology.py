"""The mesh as people see it: members, and the links between any two of them.

Our own links are as they are; those of others as an end of them last told (docs/mesh.md §15).
Reads everything, changes nothing.
"""

from __future__ import annotations

import time

import trio

from mesh.addresses import AddressBook
from mesh.beliefs import PeerBelief
from mesh.exchange import Exchange
from mesh.neighbourhood import DIRECT, LIBP2P, RELAYED, SHORT, Path
from mesh.ports import LedgerPort
from mesh.shell.links import Links
from mesh.shell.neighbourhood import Neighbourhood
from mesh.status import Topology, TopologyLink, TopologyNode

WAYS = {DIRECT: "direct", RELAYED: "relayed", LIBP2P: "libp2p"}
READ = 8  # characters of a node id that people read
MOVES = 1.0  # bytes per second: below that nothing moves
Pair = tuple[str, str]


def topology(
    ledger: LedgerPort,
    links: Links,
    book: AddressBook,
    exchange: Exchange,
    neighbourhood: Neighbourhood,
) -> Topology:
    """Return the members and the links that are known of."""
    authority = ledger.authority
    found = _told(ledger, neighbourhood)
    for pair in [pair for pair in found if ledger.node in pair]:
        del found[pair]  # of our own links we know better
    found |= _own(ledger.node, links, exchange, neighbourhood)
    nodes = tuple(
        TopologyNode(
            node=node,
            name=member.name,
            site=member.site,
            roles=tuple(member.roles),
            links=tuple(
                sorted((set(pair) - {node}).pop()[:READ] for pair in found if node in pair)
            ),
            addresses=book.of(bytes.fromhex(node)),
        )
        for node, member in authority.members().items()
    )
    ordered = tuple(found[pair] for pair in sorted(found))
    return Topology(ledger.mesh, authority.version, authority.contested, nodes, ordered)


def _told(ledger: LedgerPort, neighbourhood: Neighbourhood) -> dict[Pair, TopologyLink]:
    """Join what both ends of each link say: the smallest round trip, each its own rate."""
    short = {bytes.fromhex(node)[:SHORT]: node for node in ledger.authority.members()}
    now, found = time.time(), dict[Pair, TopologyLink]()
    for node, (record, _) in neighbourhood.words.records.items():
        for path in record.paths:
            other = short.get(path.peer)
            if other is None or other == node.hex():
                continue
            age = max(0.0, now - record.issued_ms / 1000)
            link = _link(node.hex(), other, path, age)
            before = found.get(link.nodes)
            found[link.nodes] = link if before is None else _joined(before, link)
    return found


def _link(teller: str, other: str, path: Path, age: float | None) -> TopologyLink:
    pair = (min(teller, other), max(teller, other))
    rate = float(path.rate) or None
    return TopologyLink(
        nodes=pair,
        path=WAYS.get(path.way, "direct"),
        rtt=path.rtt_us / 1e6 if path.rtt_us else None,
        rates=(rate, None) if pair[0] == teller else (None, rate),
        resent=path.resent_ppm / 1e6 if path.resent_ppm else None,
        moving=(0.0, 0.0),
        left=None,
        age=age,
    )


def _joined(one: TopologyLink, two: TopologyLink) -> TopologyLink:
    known = [each.rtt for each in (one, two) if each.rtt is not None]
    resent = [each.resent for each in (one, two) if each.resent is not None]
    fresh = one if (one.age or 0.0) <= (two.age or 0.0) else two
    return TopologyLink(
        nodes=one.nodes,
        path=fresh.path,
        rtt=min(known, default=None),
        rates=(one.rates[0] or two.rates[0], one.rates[1] or two.rates[1]),
        resent=max(resent, default=None),
        moving=(0.0, 0.0),
        left=None,
        age=fresh.age,
    )


def _own(
    me: str, links: Links, exchange: Exchange, neighbourhood: Neighbourhood
) -> dict[Pair, TopologyLink]:
    """Return our links as they are now; what the other end receives at is its word."""
    found: dict[Pair, TopologyLink] = {}
    told = {node.hex(): record for node, (record, _) in neighbourhood.words.records.items()}
    now = trio.current_time()
    for path, peer in zip(neighbourhood.paths(), links.control, strict=True):
        link = _link(me, peer.hex(), path, None)
        theirs = [
            _link(peer.hex(), me, each, 0.0)
            for each in (told[peer.hex()].paths if peer.hex() in told else ())
            if each.peer == bytes.fromhex(me)[:SHORT]
        ]
        for each in theirs:
            link = _joined(link, each)
        bulk = links.bulk.get(peer)
        into = sum(each.received.rate(now) for each in links.bundle(peer))
        out = sum(each.sent.rate(now) for each in links.bundle(peer))
        queued = bulk.serving.backlog if bulk is not None else 0
        belief = exchange.peers.get(peer) or PeerBelief(peer)
        found[link.nodes] = TopologyLink(
            nodes=link.nodes,
            path=WAYS[path.way],
            rtt=link.rtt,
            rates=link.rates,
            resent=belief.history.loss,
            moving=(into, out) if link.nodes[0] == me else (out, into),
            left=queued / out if queued and out >= MOVES else None,
            age=None,
        )
    return found
