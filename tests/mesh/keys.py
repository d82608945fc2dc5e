"""Identities for tests, the same in every run."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mesh.handshake import Self

MESH = hashlib.sha256(b"test mesh").digest()


@dataclass(frozen=True)
class Signer:
    """A node key made from a name."""

    name: str

    @property
    def seed(self) -> bytes:
        return hashlib.sha256(self.name.encode()).digest()

    @property
    def _private(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self.seed)

    @property
    def key(self) -> bytes:
        return self._private.public_key().public_bytes_raw()

    @property
    def node(self) -> str:
        return hashlib.sha256(self.key).hexdigest()

    def sign(self, message: bytes) -> bytes:
        return self._private.sign(message)


def me(name: str, mesh: bytes = MESH) -> Self:
    return Self(Signer(name), mesh, incarnation=1, site=name)
