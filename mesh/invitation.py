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
REMEMBERED_MAX = 10_000
OPEN_MAX = 1000  # invitations open at a time
KEPT = 30 * 86400.0  # seconds that a spent one is remembered, to say why it does not work
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
    evicted: int = 0  # nodes that the mesh had evicted when it was given

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
        evicted: int = 0,
        clock: float = 0.0,
    ) -> Invitation:
        """Give out an invitation; ``rng`` must be a cryptographic one.  Raises RejectedError."""
        if len(self.granted) >= REMEMBERED_MAX:
            raise RejectedError(f"{REMEMBERED_MAX} invitations were given out already")
        if sum(not e.key and e.expires > clock for e in self.granted.values()) >= OPEN_MAX:
            raise RejectedError(f"{OPEN_MAX} invitations are open already")
        id_, secret = rng.randbytes(16), rng.randbytes(32)
        entry = Granted(id_.hex(), secret.hex(), expires, site, roles, scopes, evicted=evicted)
        self.granted[entry.id] = entry
        return Invitation(mesh, node, key, id_, secret, int(expires), addresses, site)

    def secret_of(self, id_: bytes, clock: float) -> bytes | None:
        """Return the secret of an invitation that is remembered, or None."""
        entry = self.granted.get(id_.hex())
        return bytes.fromhex(entry.secret) if entry and clock < entry.expires + KEPT else None

    def use(self, id_: bytes, key: bytes, clock: float, evicted: int = 0) -> Granted:
        """Bind an invitation to the first key that shows it, for ever.  Raises RejectedError.

        The same key may show it again, even later: it may have been cut off, or have to wait for
        owners' signatures.  Whoever shows it knows its secret, and may hear what is wrong with it.
        An eviction voids what was given before: the evicted may have had one up its sleeve.
        """
        entry = self.granted.get(id_.hex())
        if entry is None:
            raise RejectedError("the invitation is not known here: it was withdrawn")
        if entry.key not in ("", key.hex()):
            raise RejectedError("the invitation was used by another node: each works once")
        if not entry.key and clock >= entry.expires:
            raise RejectedError("the invitation has expired: ask for a new one")
        if not entry.key and evicted != entry.evicted:
            raise RejectedError("a node was evicted since this invitation: ask for a new one")
        self.granted[entry.id] = entry = msgspec.structs.replace(entry, key=key.hex())
        return entry

    def sign(self, entry: Granted) -> None:
        """Its bearer is a member now."""
        self.granted[entry.id] = msgspec.structs.replace(entry, signed=True)

    def give_back(self, entry: Granted) -> None:
        """The join failed for a reason of ours: the invitation stays open."""
        self.granted[entry.id] = msgspec.structs.replace(entry, key="", signed=False)

    def withdraw(self, id_: str) -> bool:
        """Take an invitation back that nobody has used; whether there was one."""
        entry = self.granted.get(id_)
        if entry is None or entry.key:
            return False
        del self.granted[id_]
        return True

    def expire(self, clock: float) -> None:
        """Forget what ended long ago."""
        self.granted = {id_: e for id_, e in self.granted.items() if clock < e.expires + KEPT}
