"""What the chunk exchange asks the shell to do.  Performed in order.  Spec: docs/mesh.md §8."""

from __future__ import annotations

from dataclasses import dataclass

from mesh.messages import Message
from store.chunks import Manifest


@dataclass(frozen=True, slots=True)
class Tell:
    """Send a message on the control link."""

    peer: bytes
    message: Message


@dataclass(frozen=True, slots=True)
class TellBulk:
    """Send a message on the bulk socket."""

    peer: bytes
    message: Message


@dataclass(frozen=True, slots=True)
class OpenBulk:
    """Open a bulk socket, then call ``bulk_opened`` or ``bulk_closed``."""

    peer: bytes


@dataclass(frozen=True, slots=True)
class DropBulk:
    """Close the bulk socket: the peer broke the rules there, or it hangs."""

    peer: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class LookUp:
    """Is this blob here, complete?  Call ``looked_up`` with the answer."""

    peer: bytes
    blob: bytes


@dataclass(frozen=True, slots=True)
class ServeManifest:
    """Send a page of a manifest that we hold, or an empty page."""

    peer: bytes
    blob: bytes
    manifest: bytes
    page: int


@dataclass(frozen=True, slots=True)
class Open:
    """Open the partial blob, take over chunks that lie on this disk, then call ``opened``."""

    blob: bytes
    manifest: Manifest


@dataclass(frozen=True, slots=True)
class Write:
    """Verify and store adjacent chunks, then call ``written``."""

    blob: bytes
    peer: bytes
    first: int
    count: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Finish:
    """Every chunk is here: verify the whole and publish it, then call ``finished``."""

    blob: bytes
    manifest: bytes  # id: by another one there may be as many


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Nobody has asked for this any more, or nobody ever had it."""

    blob: bytes


Effect = (
    Tell | TellBulk | OpenBulk | DropBulk | LookUp | ServeManifest | Open | Write | Finish | GiveUp
)
