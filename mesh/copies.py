"""What two nodes say to each other about copies: who holds what, who keeps it, who has it safely.

Spec: docs/mesh.md §3 and §13.  A part of the table in ``mesh.messages``, under the same rules.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from mesh.messages import Count, Id, Message

IDS_MAX = 8192  # in one message
BLOBS_MAX = 1024  # that one Secure names
SHARDS = 256
CHECKS = 4 * SHARDS  # bytes
Shard = Annotated[int, Meta(ge=0, lt=SHARDS)]
Ids = Annotated[bytes, Meta(max_length=5 * IDS_MAX)]  # five bytes of a digest each
Suffixes = Annotated[bytes, Meta(max_length=4 * IDS_MAX)]  # the last four of them


class Holdings(Message, frozen=True):
    """What the sender holds is at (epoch, seq) now; ``report`` is its distance to target, JSON."""

    epoch: Count
    seq: Count
    report: Annotated[bytes, Meta(max_length=32768)]


class HoldingsGet(Message, frozen=True):
    """I know you up to (epoch, seq).  ``checks`` are four bytes for each shard, or empty."""

    epoch: Count
    seq: Count
    checks: Annotated[bytes, Meta(max_length=CHECKS)]


class HoldingsPage(Message, frozen=True):
    """A piece of one shard; piece 0 replaces what was known of it."""

    shard: Shard
    piece: Count
    suffixes: Suffixes


class HoldingsDelta(Message, frozen=True):
    """What has come and gone since ``after``, up to ``seq``."""

    epoch: Count
    after: Count
    seq: Count
    added: Ids
    removed: Ids


class Release(Message, frozen=True):
    """I would let go of this blob.  Do you hold it, and keep it?"""

    request: Count
    blob: Id


class Released(Message, frozen=True):
    """``keeps``: the sender holds the blob, is not letting go of it, and will not without asking.

    Otherwise the asker must keep it.
    """

    request: Count
    keeps: bool


class Secure(Message, frozen=True):
    """Get these blobs, and this chain up to ``seq``; tell me when all of it is durable."""

    request: Count
    author: Id
    incarnation: Count
    seq: Count
    blobs: Annotated[tuple[Id, ...], Meta(max_length=BLOBS_MAX)]


class Secured(Message, frozen=True):
    """All of it is durable here, or (not ``durable``) will not be soon."""

    request: Count
    durable: bool


COPIES: dict[int, type[Message]] = {
    96: Holdings,
    97: HoldingsGet,
    98: HoldingsPage,
    99: HoldingsDelta,
    100: Release,
    101: Released,
    102: Secure,
    103: Secured,
}
