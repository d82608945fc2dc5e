"""Invitations: one-time, expiring, scoped tickets into a mesh.  Spec: docs/mesh.md §4.

The text names the mesh, the inviter and its key, so that a joiner knows whom it talks to, and holds
a secret that only the inviter can recognise.  Rights come from the root document that an owner
signs at the join; an invitation by itself grants nothing.
"""

from __future__ import annotations

import base64
import hashlib
import random
from dataclasses import dataclass, field
from typing import Annotated

import msgspec

from store import canonical
from store.errors import RejectedError

PREFIX = "atoll-invite-"
TEXT_MAX = 8192  # characters
OPEN_MAX = 1000  # invitations open at a time
CHECK_SIZE = 4  # bytes: tells a mistyped text from a forged one

Raw = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]


class Invitation(msgspec.Struct, array_like=True, frozen=True, tag=1):
    """What the text says."""

    mesh: Raw
    node: Raw
    key: Raw
    id: Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
    secret: Raw
    expires: int  # seconds since 1970
    addresses: tuple[str, ...]
    site: str

    def __repr__(self) -> str:
        return f"Invitation({self.id.hex()}, to {self.mesh.hex()[:12]} by {self.node.hex()[:12]})"


_decoder = msgspec.msgpack.Decoder(Invitation)


def write(invitation: Invitation) -> str:
    """Return the text to hand over."""
    data = canonical.encode(invitation)
    check = hashlib.sha256(data).digest()[:CHECK_SIZE]
    return PREFIX + base64.urlsafe_b64encode(data + check).decode("ascii").rstrip("=")


def read(text: str) -> Invitation:
    """Read an invitation.  Raises RejectedError with what is wrong with it."""
    text = "".join(text.split())
    if not text.startswith(PREFIX) or len(text) > TEXT_MAX:
        raise RejectedError(f"this is not an invitation: it begins with {PREFIX}")
    body = text.removeprefix(PREFIX)
    try:
        data = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
    except ValueError as error:
        raise RejectedError("the invitation is damaged") from error
    data, check = data[:-CHECK_SIZE], data[-CHECK_SIZE:]
    if hashlib.sha256(data).digest()[:CHECK_SIZE] != check:
        raise RejectedError("the invitation is damaged or not complete")
    return canonical.decode(data, _decoder)


class Granted(msgspec.Struct, frozen=True):
    """What the inviter remembers of an open invitation."""

    id: str
    secret: str
    expires: float
    site: str
    roles: tuple[str, ...]
    scopes: tuple[str, ...]
    key: str = ""  # who used it: nobody else can, and it may come again if it was cut off
    signed: bool = False  # that key's membership is signed: whoever was evicted stays out

    def __repr__(self) -> str:
        return f"Granted({self.id})"


@dataclass(slots=True)
class Book:
    """The invitations that this node has given out, until they expire."""

    granted: dict[str, Granted] = field(default_factory=dict[str, Granted])

    def issue(
        self,
        mesh: bytes,
        node: bytes,
        key: bytes,
        addresses: tuple[str, ...],
        *,
        site: str,
        roles: tuple[str, ...],
        scopes: tuple[str, ...],
        expires: float,
        rng: random.Random,
    ) -> Invitation:
        """Give out an invitation; ``rng`` must be a cryptographic one.  Raises RejectedError."""
        if sum(not entry.key for entry in self.granted.values()) >= OPEN_MAX:
            raise RejectedError(f"{OPEN_MAX} invitations are open already")
        id_, secret = rng.randbytes(16), rng.randbytes(32)
        entry = Granted(id_.hex(), secret.hex(), expires, site, roles, scopes)
        self.granted[entry.id] = entry
        return Invitation(mesh, node, key, id_, secret, int(expires), addresses, site)

    def secret_of(self, id_: bytes, clock: float) -> bytes | None:
        """Return the secret of an invitation that has not expired, or None."""
        entry = self.granted.get(id_.hex())
        return bytes.fromhex(entry.secret) if entry and clock < entry.expires else None

    def use(self, id_: bytes, key: bytes, clock: float) -> Granted:
        """Bind an invitation to the first key that shows it, for ever.  Raises RejectedError.

        The same key may show it again: its link may have been cut before it heard the answer.
        """
        entry = self.granted.get(id_.hex())
        known = entry is not None and clock < entry.expires
        if entry is None or not known or entry.key not in ("", key.hex()):
            raise RejectedError("the invitation is unknown, used or expired")
        self.granted[entry.id] = entry = msgspec.structs.replace(entry, key=key.hex())
        return entry

    def sign(self, entry: Granted) -> None:
        """Its bearer is a member now."""
        self.granted[entry.id] = msgspec.structs.replace(entry, signed=True)

    def give_back(self, entry: Granted) -> None:
        """The join failed for a reason of ours: the invitation stays open."""
        self.granted[entry.id] = msgspec.structs.replace(entry, key="", signed=False)

    def expire(self, clock: float) -> None:
        """Drop what nobody can use any more."""
        self.granted = {id_: e for id_, e in self.granted.items() if clock < e.expires}
