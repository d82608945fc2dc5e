"""What nodes and couriers say to each other: who lacks what, who brings it, who may carry it.

Spec: docs/mesh.md §3 and §13.7.  A part of the table in ``mesh.messages``, under the same rules.
Types with the bit 0x80, so that who does not know couriers skips them.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from mesh.messages import Count, Id, MaybeId, Message

LACKS_MAX = 256  # in one message
BLOBS_MAX = 1024  # in one message
CARRY_MAX = 256


class Lack(msgspec.Struct, array_like=True, frozen=True):
    """``target`` ("": the sender) lacks a blob and wants it for ``left`` seconds more.

    ``hops`` is how many couriers may pass it on, ``stated_ms`` the clock of the target when it said
    so (0 where the sender is the target).  ``urgent``: a client waits, or has waited, for it.
    """

    blob: Id
    target: MaybeId
    size: Count  # bytes; 0: not known
    left: Count
    stated_ms: Count
    hops: Annotated[int, Meta(ge=0, le=8)]
    urgent: bool = False


class Lacks(Message, frozen=True):
    """Piece ``piece`` of all that the sender wants a courier to bring; ``last`` completes it.

    A complete statement replaces the one before.  It was true at ``stated_ms`` of its clock.
    """

    statement: Count
    piece: Count
    last: bool
    stated_ms: Count
    lacks: Annotated[tuple[Lack, ...], Meta(max_length=LACKS_MAX)]


class Brought(Message, frozen=True):
    """These of the blobs that you lack are here."""

    blobs: Annotated[tuple[Id, ...], Meta(max_length=BLOBS_MAX)]


class Carry(Message, frozen=True):
    """I would carry these blobs, which you hold, to these targets, one for each blob."""

    request: Count
    blobs: Annotated[tuple[Id, ...], Meta(max_length=CARRY_MAX)]
    targets: Annotated[tuple[Id, ...], Meta(max_length=CARRY_MAX)]


class Carrying(Message, frozen=True):
    """Carry these of them.  The rest enough others carry, or its target is linked with me."""

    request: Count
    blobs: Annotated[tuple[Id, ...], Meta(max_length=CARRY_MAX)]


CARGO: dict[int, type[Message]] = {
    0x80 | 32: Lacks,
    0x80 | 33: Brought,
    0x80 | 34: Carry,
    0x80 | 35: Carrying,
}
