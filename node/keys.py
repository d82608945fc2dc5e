"""The node's Ed25519 identity as bearer tokens and sealed secrets use it."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from nacl.exceptions import CryptoError
from nacl.public import SealedBox
from nacl.signing import SigningKey, VerifyKey

from store.errors import UnavailableError
from store.identity import Identity
from store.ledger import Ledger
from store.root import ADMIN, OWNER

if TYPE_CHECKING:  # loaded with the first bearer token
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

SIGNING_ROLES = frozenset({"owner", "writer"})


class NodeKeys:
    """Signs as this node, verifies and seals for any member of the root document in force."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    @property
    def _identity(self) -> Identity:
        return self._ledger.identity

    @property
    def node(self) -> str:
        """The id of this node."""
        return self._identity.node

    def private(self) -> Ed25519PrivateKey:
        """The key that signs bearer tokens."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return Ed25519PrivateKey.from_private_bytes(self._identity.seed)

    def public(self, node: str) -> Ed25519PublicKey | None:
        """The key of a node whose bearer tokens count here, or None.

        Its own, and members' that may administer: a mirror or courier could otherwise log itself in
        as anybody, everywhere.
        """
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        if node == self._identity.node:
            return Ed25519PublicKey.from_public_bytes(self._identity.key)
        authority = self._ledger.authority
        key = authority.current_key(node) if authority.roles(node) & {ADMIN, OWNER} else None
        return Ed25519PublicKey.from_public_bytes(key) if key else None

    def members(self) -> Sequence[str]:
        """Members that may hold signing keys."""
        authority = self._ledger.authority
        return [node for node in authority.members() if SIGNING_ROLES & authority.roles(node)]

    def seal(self, node: str, secret: bytes) -> bytes:
        """Seal to a member's current key."""
        key = self._ledger.authority.current_key(node)
        if key is None:
            raise UnavailableError(f"{node} is not a member")
        return SealedBox(VerifyKey(key).to_curve25519_public_key()).encrypt(secret)

    def unseal(self, sealed: bytes) -> bytes:
        """Open what was sealed to this node, under any key it has had.  Raises UnavailableError."""
        for identity in self._identity.held().values():
            private = SigningKey(identity.seed).to_curve25519_private_key()
            with contextlib.suppress(CryptoError):
                return SealedBox(private).decrypt(sealed)
        raise UnavailableError("this secret is not sealed to this node")
