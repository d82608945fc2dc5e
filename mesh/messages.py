"""What two nodes say to each other.  This, ``copies`` and ``cargo`` are the protocol.

Spec: docs/mesh.md §3.  Every message is a MessagePack array of its fields in order (design.md
ruling 5); fields are only ever appended, and what a newer peer appended is ignored.  Node ids,
keys, digests and record ids travel raw; times are integer milli- or microseconds, never floats.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

PROTOCOL = 1

Id = Annotated[bytes, Meta(min_length=32, max_length=32)]  # a SHA-256 or an Ed25519 public key
Signature = Annotated[bytes, Meta(min_length=64, max_length=64)]
Nonce = Annotated[bytes, Meta(min_length=16, max_length=64)]
Count = Annotated[int, Meta(ge=0, lt=1 << 62)]
Text = Annotated[str, Meta(max_length=1024)]
Name = Annotated[str, Meta(max_length=128)]
Roles = Annotated[tuple[Name, ...], Meta(max_length=32)]
CHUNKS_MAX = 1 << 22  # of one blob: 256 GiB even at the smallest average chunk
ChunkIndex = Annotated[int, Meta(ge=0, le=CHUNKS_MAX)]  # a set of chunks takes at most 512 KiB
Runs = Annotated[tuple[ChunkIndex, ...], Meta(max_length=4096)]  # start, stop, start, stop, …
Succession = Annotated[  # how a node came to its key, for those who know an older one
    tuple[Annotated[bytes, Meta(max_length=512)], ...], Meta(max_length=64)
]
MaybeId = Annotated[bytes, Meta(max_length=32)]  # an Id, or empty: unknown

CONTROL, BULK, RELAY, BESIDE = 0, 1, 2, 3  # the channel a socket carries; 3: bulk, one more
FEATURE_RELAYED, FEATURE_RELAY, FEATURE_COURIER, FEATURE_BESIDE = 1, 2, 4, 8  # docs/mesh.md §4
NONE, COMPLETE, PARTIAL, SEEKING = 0, 1, 2, 3  # HaveBlob.state
GONE, REFUSED, OVERLOADED = 1, 2, 3  # Nope.reason
URGENT, LEDGER, POLICY, REPAIR, COURIER = 0, 1, 2, 3, 4  # Want.priority: smaller goes first


class Message(msgspec.Struct, array_like=True, frozen=True):
    """Anything that travels in a frame."""


# --- handshake (design.md ruling 13) -------------------------------------------------------------
class Challenge(Message, frozen=True):
    """The listener's first word.  The dialler signs the nonce."""

    protocol: Count
    nonce: Nonce
    succession: Succession = ()


class Hello(Message, frozen=True):
    """A member's introduction; the signature covers everything before it, and the server's key."""

    protocol: Count
    mesh: Id
    node: Id
    incarnation: Count
    key: Id
    channel: Annotated[int, Meta(ge=0, le=3)]
    site: Name
    roles: Roles
    clock_ms: Count
    features: Count
    signature: Signature
    succession: Succession = ()  # proves itself, so the signature does not cover it


class Join(Message, frozen=True):
    """A stranger's introduction: a new key, and proof of knowing an invitation's secret."""

    protocol: Count
    mesh: Id
    key: Id
    incarnation: Count
    invitation: Nonce
    proof: Id
    site: Name
    clock_ms: Count
    features: Count
    signature: Signature


class Welcome(Message, frozen=True):
    """The listener accepts.  Only now may anything else follow, in either direction."""

    node: Id
    incarnation: Count
    site: Name
    roles: Roles
    clock_ms: Count
    features: Count


class Refused(Message, frozen=True):
    """The listener does not accept, and says why.  The link ends."""

    reason: Text
    retry_ms: Count = 0  # above zero: not yet, come again


# --- the link itself -----------------------------------------------------------------------------
class Ping(Message, frozen=True):
    """Are you there?  ``backlog_ms`` is how long the sender's upload queue would take to drain."""

    nonce: Count
    sent_us: Count
    backlog_ms: Count = 0


class Pong(Message, frozen=True):
    """The answer, echoing the question."""

    nonce: Count
    sent_us: Count
    backlog_ms: Count = 0


class OpenBulk(Message, frozen=True):
    """Dial a bulk socket to me: you can reach me, and I may not be able to reach you."""

    sockets: Count = 1  # so many in all


class Goodbye(Message, frozen=True):
    """The sender is about to close this link on purpose."""

    reason: Text


class Addresses(Message, frozen=True):
    """Signed address records (mesh.addresses), as received."""

    records: Annotated[tuple[Annotated[bytes, Meta(max_length=4096)], ...], Meta(max_length=64)]


class Observed(Message, frozen=True):
    """The host that you dialled me from, as I see it: where your network ends."""

    host: Annotated[str, Meta(max_length=45)]


# --- relays (mesh.relay) -------------------------------------------------------------------------
class RelayOpen(Message, frozen=True):
    """Join me with that member, whom I cannot dial."""

    request: Count
    target: Id


class RelayOffer(Message, frozen=True):
    """That member wants to be joined with you; bring a socket with this token."""

    token: Nonce
    source: Id


class RelayReady(Message, frozen=True):
    """The answer to RelayOpen: bring a socket with this token; or, without one, why not."""

    request: Count
    token: Annotated[bytes, Meta(max_length=64)]
    reason: Text


# --- ledgers and authority -----------------------------------------------------------------------
class Head(Message, frozen=True):
    """How far one author's ledger reaches at the sender."""

    author: Id
    incarnation: Count
    seq: Count
    record: Id


class Heads(Message, frozen=True):
    """The sender's ledgers: all of them in one or more messages, or those that have grown."""

    heads: Annotated[tuple[Head, ...], Meta(max_length=512)]
    root_version: Count
    root: MaybeId


class Range(Message, frozen=True):
    """Send me the records of one author after ``after``, up to ``upto``."""

    author: Id
    incarnation: Count
    after: Count
    upto: Count


class Records(Message, frozen=True):
    """A piece of an encoded batch, which ends on a signed head; the ``last`` completes it."""

    author: Id
    incarnation: Count
    after: Count
    last: bool
    piece: Annotated[bytes, Meta(max_length=1 << 16)]


class RootGet(Message, frozen=True):
    """Send me every root document above this version, and rivals of the version itself."""

    version: Count


class Root(Message, frozen=True):
    """A piece of one root document; ``last`` completes it."""

    version: Count
    last: bool
    piece: Annotated[bytes, Meta(max_length=1 << 16)]


class Fork(Message, frozen=True):
    """Evidence that an author has signed two records with one seq."""

    proof: Annotated[bytes, Meta(max_length=60_000)]


# --- who has what --------------------------------------------------------------------------------
class Find(Message, frozen=True):
    """Who has this blob?  Asked again while it is wanted; it lapses after INTEREST_TTL.

    With ``hops`` above zero the receiver, if it lacks the blob, looks for it further on, keeps it
    and serves it while it arrives.  ``path`` lists who is already asking, so that nothing circles.
    """

    blob: Id
    size: Count
    manifest: MaybeId
    hops: Annotated[int, Meta(ge=0, le=8)]
    path: Annotated[tuple[Id, ...], Meta(max_length=8)]
    start: Count = 0  # the byte from which its client reads


class HaveBlob(Message, frozen=True):
    """What the sender has of a blob: nothing, all, a part, or a search of its own."""

    blob: Id
    state: Annotated[int, Meta(ge=0, le=3)]
    size: Count
    manifest: MaybeId
    hops: Annotated[int, Meta(ge=0, le=8)] = 0


class Forget(Message, frozen=True):
    """The sender no longer wants news of this blob."""

    blob: Id


class Bitfield(Message, frozen=True):
    """Verified chunks from chunk ``start`` on, bit 0 of byte 0 first."""

    blob: Id
    manifest: Id
    start: ChunkIndex
    bits: Annotated[bytes, Meta(max_length=32768)]


class Have(Message, frozen=True):
    """Chunks that have verified since the last word, and all that the sender awaits by now."""

    blob: Id
    manifest: Id
    runs: Runs
    coming: Runs = ()


class ManifestGet(Message, frozen=True):
    """Send me page ``page`` of a manifest; page 0 is the root that lists the others."""

    blob: Id
    manifest: Id
    page: Count


class ManifestPage(Message, frozen=True):
    """One page.  Empty bytes: the sender does not have it."""

    blob: Id
    manifest: Id
    page: Count
    data: Annotated[bytes, Meta(max_length=1 << 16)]


# --- chunks (bulk channel) -----------------------------------------------------------------------
class Want(Message, frozen=True):
    """Send me these chunks, in this order, ``group`` bytes to a Data frame at most."""

    request: Count
    blob: Id
    manifest: MaybeId
    runs: Runs
    group: Count
    deadline_ms: Count
    priority: Annotated[int, Meta(ge=0, le=4)]


class Data(Message, frozen=True):
    """``count`` adjacent chunks from chunk ``first`` on; their bytes follow the header."""

    request: Count
    first: ChunkIndex
    count: Annotated[int, Meta(ge=1, le=4096)]
    raw: bytes = b""  # outside the array


class Done(Message, frozen=True):
    """Everything the request asked for has been sent."""

    request: Count


class Cancel(Message, frozen=True):
    """Do not send what is still queued for this request."""

    request: Count


class Busy(Message, frozen=True):
    """Ask again later."""

    request: Count
    retry_ms: Count


class Redirect(Message, frozen=True):
    """Ask these nodes first, which have had ``runs`` from us: out of the request; none are all."""

    request: Count
    nodes: Annotated[tuple[Id, ...], Meta(max_length=16)]
    runs: Runs = ()


class Nope(Message, frozen=True):
    """The request cannot be served; never silence."""

    request: Count
    reason: Count


class Credit(Message, frozen=True):
    """The sender can take ``size`` more bytes of Data on this socket than it has said so far."""

    size: Count


class Errand(Message, frozen=True):
    """Fetch something for the site (step 0); under way, done or not done (1, 2, 3)."""

    number: Count
    step: Annotated[int, Meta(ge=0, le=3)]
    what: Annotated[tuple[Text, ...], Meta(max_length=3)] = ()  # repository, path, accept


TYPES: dict[int, type[Message]] = {
    1: Challenge,
    2: Hello,
    3: Join,
    4: Welcome,
    5: Refused,
    16: Ping,
    17: Pong,
    18: OpenBulk,
    19: Goodbye,
    20: Addresses,
    21: RelayOpen,
    22: RelayOffer,
    23: RelayReady,
    24: Observed,
    32: Heads,
    33: Range,
    34: Records,
    35: RootGet,
    36: Root,
    37: Fork,
    48: Find,
    49: HaveBlob,
    50: Forget,
    51: Bitfield,
    52: Have,
    53: ManifestGet,
    54: ManifestPage,
    64: Want,
    65: Data,
    66: Done,
    67: Cancel,
    68: Busy,
    69: Redirect,
    70: Nope,
    71: Credit,
    0x80 | 16: Errand,
}
HANDSHAKE = (Challenge, Hello, Join, Welcome, Refused)
BULK_ONLY = (Want, Data, Done, Cancel, Busy, Redirect, Nope, Credit)
EITHER = (Ping, Pong, Goodbye)
