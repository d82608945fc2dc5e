"""What the mesh tells people about itself.  Spec: docs/mesh.md §12."""

from __future__ import annotations

import msgspec


class PeerStatus(msgspec.Struct, frozen=True):
    """One other member, as this node sees it.  Times in seconds, sizes in bytes."""

    node: str
    name: str
    site: str
    state: str  # up | dialling | down
    address: str
    addresses: tuple[str, ...]
    since: float  # seconds that the link has been up
    rtt: float | None
    rate: float  # bytes per second that its chunks come at when they come
    received: int  # bytes over the present sockets
    sent: int
    wasted: int  # bytes that came twice, or wrong
    strikes: int
    banned: bool
    behind: int  # records it has and we lack
    ahead: int  # records we have and it lacks
    skew: float  # its clock minus ours
    trouble: str  # the last thing that went wrong, "" if nothing did
    notes: tuple[str, ...]
    path: str = ""  # of the control link: direct, relayed by whom, libp2p
    bulk_path: str = ""  # of the bulk socket, while there is one
    found: str = ""  # how its address became known: record, static, invitation, mdns, inbound, …
    sources: dict[str, str] = {}  # every address, and how it became known


class TopologyNode(msgspec.Struct, frozen=True):
    """One member."""

    node: str
    name: str
    site: str
    roles: tuple[str, ...]
    links: tuple[str, ...]  # short ids of the members it is linked with, as far as we know
    addresses: tuple[str, ...]


class TopologyLink(msgspec.Struct, frozen=True):
    """A link between two members, the smaller id first.  Rates are bytes per second.

    ``rates`` and ``moving`` are for what the first, and what the second receives: as believed, and
    just now.  ``age`` is None for our own links, else the seconds since an end told of it.
    """

    nodes: tuple[str, str]
    path: str  # direct | relayed | libp2p
    rtt: float | None
    rates: tuple[float | None, float | None]
    resent: float | None  # share of TCP segments that were sent again
    moving: tuple[float, float]
    left: float | None  # seconds until what we send over it is there
    age: float | None


class Topology(msgspec.Struct, frozen=True):
    """The members by site, and the links between any of them, as far as they have told."""

    mesh: str
    root_version: int
    contested: bool
    nodes: tuple[TopologyNode, ...]
    links: tuple[TopologyLink, ...] = ()


class Relaying(msgspec.Struct, frozen=True):
    """What this node carries for members that cannot dial each other."""

    streams: int = 0
    carried: int = 0  # bytes, since the node started
    refused: dict[str, int] = {}  # reason → how often


class TransferStatus(msgspec.Struct, frozen=True):
    """One blob on its way here."""

    blob: str
    size: int
    verified: int
    state: str  # searching | manifest | fetching | finishing
    waiting: int  # clients and services of this node that wait for it
    relayed: bool  # only for somebody further on
    sources: tuple[str, ...]
    refetched: int
    duplicated: int
    seconds: float
    rate: float = 0.0  # bytes per second that were of use, lately
    left: float | None = None  # seconds until it is here at that rate; None: unknown


class LinkStatus(msgspec.Struct, frozen=True):
    """What is believed of the path to one peer, in both directions.  Rates are bytes per second."""

    node: str
    name: str
    site: str
    up: bool
    rtt: float | None  # seconds, smoothed
    rtt_min: float | None
    rtt_deviation: float | None
    queue: float  # seconds that round trips take longer now than at their best
    backlog: float  # seconds that its upload queue needs, as it says
    down: float | None  # average rate of its chunks when they come
    down_max: float | None
    sending: float | None  # average rate at which it takes chunks when there are some
    sending_max: float | None
    loss: float | None  # share of TCP segments that were sent again
    availability: float | None  # share of the time watched that the link was up
    hours: tuple[float | None, ...]  # the same for each hour of the day
    outages: int
    outage_usual: float  # seconds
    outage_longest: float
    up_cap: float | None  # laid down by the operator
    down_cap: float | None
    metered: bool
    cost: float
    background: bool  # what nobody waits for may go now
    sockets: int = 0  # for chunks, that are up


class SendingStatus(msgspec.Struct, frozen=True):
    """What one peer is being sent."""

    node: str
    name: str
    queued: int  # bytes that it has asked for and not got yet
    rate: float  # bytes per second
    left: float | None  # seconds until its queue is empty at that rate


class SourceStatus(msgspec.Struct, frozen=True):
    """What one peer has to do with one transfer."""

    node: str
    name: str
    site: str
    says: str  # what it says it has
    received: int  # bytes of this blob that were of use
    share: float  # of all that was received
    rate: float  # bytes per second while it gave
    awaited: int  # bytes that it owes of this blob now
    requests: int
    redirected: int  # chunks that it told us to get elsewhere
    stalls: int
    bad: int
    wasted: int
    state: str  # asked | idle | stalled | busy | banned | away


class EventStatus(msgspec.Struct, frozen=True):
    """Something that was decided about a transfer, and why."""

    seconds: float  # after the beginning
    what: str
    node: str  # "" if no peer is concerned
    why: str
    count: int


class Why(msgspec.Struct, frozen=True):
    """One transfer explained: under way, or one of the last that ended."""

    blob: str
    state: str  # searching | manifest | fetching | finishing | complete | given up
    size: int
    verified: int
    seconds: float
    rate: float
    left: float | None
    waiting: str  # what it waits for now, in a sentence; "" when it is over
    sources: tuple[SourceStatus, ...]
    events: tuple[EventStatus, ...]
    forgotten: int  # older events that are kept no more
