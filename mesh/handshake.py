"""Who may talk to us, and how both sides prove who they are.  Spec: docs/mesh.md §4.

Python's ``ssl`` cannot ask us about a certificate, so TLS alone authenticates nobody here.  The
dialler compares the server's public key with the one it expects before it sends a byte; the server
sends a nonce; the dialler signs it together with the server's key, so that an introduction can
neither be replayed nor relayed to another server (design.md ruling 13).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from mesh.messages import PROTOCOL, Challenge, Hello, Join, Welcome
from store import identity

HELLO_CONTEXT = b"atoll/mesh/hello/1"
JOIN_CONTEXT = b"atoll/mesh/join/1"
_encode = msgspec.msgpack.Encoder().encode


class Signer(Protocol):
    """Our key, which never leaves its owner (``store.identity.Identity`` is one)."""

    @property
    def node(self) -> str:
        """Our node id, hexadecimal."""
        ...

    @property
    def key(self) -> bytes:
        """Our current public key, raw Ed25519."""
        ...

    def sign(self, data: bytes) -> bytes:
        """Return the Ed25519 signature of ``data``."""
        ...


@dataclass(frozen=True, slots=True)
class Self:
    """What we say of ourselves."""

    signer: Signer
    mesh: bytes
    incarnation: int
    site: str = ""
    roles: tuple[str, ...] = ()
    features: int = 0
    succession: tuple[bytes, ...] = ()  # rotations that led to our key

    @property
    def node(self) -> bytes:
        """Our node id, raw."""
        return bytes.fromhex(self.signer.node)


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end, proven."""

    node: bytes
    incarnation: int
    site: str
    roles: tuple[str, ...]
    features: int
    channel: int
    skew: float  # their clock minus ours at the handshake, seconds
    key: bytes = b""  # the one it has proven to hold

    @classmethod
    def of(
        cls, said: Hello | Welcome | Join, node: bytes, key: bytes, channel: int, clock: float
    ) -> Peer:
        """Who has said this, once it is proven; ``clock`` is our time of day."""
        roles = () if isinstance(said, Join) else said.roles
        key = key if isinstance(said, Welcome) else said.key
        skew = said.clock_ms / 1000 - clock
        return cls(node, said.incarnation, said.site, roles, said.features, channel, skew, key)


Heir = Callable[[tuple[bytes, ...], bytes], bool]  # may this key follow the expected one?


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a joiner shows instead of a membership."""

    invitation: bytes
    secret: bytes = field(repr=False)


def node_of(key: bytes) -> bytes:
    """Return the node id that a *first* public key gives (design.md ruling 2)."""
    return hashlib.sha256(key).digest()


def verify(key: bytes, message: bytes, signature: bytes) -> bool:
    """Tell whether ``signature`` is by ``key``, by the same rules as in the ledger."""
    return identity.verify(key, message, signature)


def _said(context: bytes, message: Hello | Join, omit: int, nonce: bytes, server: bytes) -> bytes:
    """Return what is signed: every field but the last ``omit``, tied to this very handshake."""
    fields = msgspec.structs.astuple(message)
    fields = fields[: len(fields) - omit]
    return _encode([context, hashlib.sha256(server).digest(), nonce, *fields])


def hello(me: Self, challenge: Challenge, server_key: bytes, channel: int, clock: float) -> Hello:
    """Introduce ourselves as a member."""
    draft = Hello(
        protocol=PROTOCOL,
        mesh=me.mesh,
        node=me.node,
        incarnation=me.incarnation,
        key=me.signer.key,
        channel=channel,
        site=me.site,
        roles=me.roles,
        clock_ms=int(clock * 1000),
        features=me.features,
        signature=bytes(64),
        succession=me.succession,
    )
    said = _said(HELLO_CONTEXT, draft, 2, challenge.nonce, server_key)
    return msgspec.structs.replace(draft, signature=me.signer.sign(said))


def hello_is_genuine(message: Hello, nonce: bytes, own_key: bytes) -> bool:
    """Tell whether the sender holds the key it names, and means this handshake with us."""
    said = _said(HELLO_CONTEXT, message, 2, nonce, own_key)
    return verify(message.key, said, message.signature)


def join(me: Self, ticket: Ticket, challenge: Challenge, server_key: bytes, clock: float) -> Join:
    """Introduce ourselves as the bearer of an invitation."""
    draft = Join(
        protocol=PROTOCOL,
        mesh=me.mesh,
        key=me.signer.key,
        incarnation=me.incarnation,
        invitation=ticket.invitation,
        proof=bytes(32),
        site=me.site,
        clock_ms=int(clock * 1000),
        features=me.features,
        signature=bytes(64),
    )
    proof = _proof(draft, ticket.secret, challenge.nonce, server_key)
    draft = msgspec.structs.replace(draft, proof=proof)
    said = _said(JOIN_CONTEXT, draft, 1, challenge.nonce, server_key)
    return msgspec.structs.replace(draft, signature=me.signer.sign(said))


def join_is_genuine(message: Join, secret: bytes, nonce: bytes, own_key: bytes) -> bool:
    """Tell whether the sender knows the invitation's secret and holds the key it names."""
    proven = hmac.compare_digest(message.proof, _proof(message, secret, nonce, own_key))
    said = _said(JOIN_CONTEXT, message, 1, nonce, own_key)
    return proven and verify(message.key, said, message.signature)


def _proof(message: Join, secret: bytes, nonce: bytes, server_key: bytes) -> bytes:
    blank = msgspec.structs.replace(message, proof=bytes(32))
    return hmac.digest(secret, _said(JOIN_CONTEXT, blank, 1, nonce, server_key), "sha256")
