"""Cheap signatures that are checked all the same, and the real ones for a share of the histories.

A cheap signature is a hash keyed by the signer's seed; whoever verifies it looks the seed up by the
public key.  Nobody in a history can sign for another: a liar holds its own seed only, and what it
makes up does not verify.  Keys and signatures are as long as those of Ed25519, so that a history is
the same with either.
"""

from __future__ import annotations

import hashlib
import hmac
import itertools
from collections.abc import Iterator
from contextlib import contextmanager

import mesh.handshake
import store.identity
from store.identity import Identity

REAL_EVERY = 16  # of so many seeds, one is played with Ed25519 and with all of SQLAlchemy
_seeds: dict[bytes, bytes] = {}  # by public key, of the history that is being played


class CheapIdentity(Identity):
    """A node's secret, as ``store.identity`` has it, with a keyed hash for a signature."""

    __slots__ = ()

    @classmethod
    def from_seed(cls, seed: bytes) -> CheapIdentity:
        """Return the node whose first key has this seed; from now on its signatures verify."""
        return cls(seed, _published(seed))

    @property
    def key(self) -> bytes:
        """The current public key; from now on its signatures verify."""
        return _published(self.seed)

    def sign(self, message: bytes) -> bytes:
        """Return 64 bytes that only the holder of the seed can make."""
        return _tag(self.seed, message)


def _published(seed: bytes) -> bytes:
    key = hashlib.blake2b(seed, digest_size=32, person=b"public key").digest()
    _seeds[key] = seed
    return key


def _tag(seed: bytes, message: bytes) -> bytes:
    return hashlib.blake2b(message, digest_size=64, key=seed, person=b"signature").digest()


def verify(key: bytes, message: bytes, signature: bytes) -> bool:
    """Tell whether a cheap signature is by the holder of this key."""
    seed = _seeds.get(key)
    return seed is not None and hmac.compare_digest(_tag(seed, message), signature)


def identity(seed: bytes, *, real: bool) -> Identity:
    """Return the node of this seed."""
    return Identity.from_seed(seed) if real else CheapIdentity.from_seed(seed)


@contextmanager
def signatures(*, real: bool) -> Iterator[None]:
    """Let the product verify cheap signatures instead of real ones; forget the keys at the end."""
    before = store.identity.verify, mesh.handshake.verify, store.identity.new_incarnation
    lives = itertools.count(1)

    def new_incarnation(after: int = 0, *, now: float | None = None) -> int:
        """Number lives as the product does, but the same in every play."""
        return max(after + 1, int((now or 0.0) * 1000) << 16 | next(lives))

    store.identity.new_incarnation = new_incarnation
    if not real:
        store.identity.verify = verify
        mesh.handshake.verify = verify
    try:
        yield
    finally:
        store.identity.verify, mesh.handshake.verify, store.identity.new_incarnation = before
        _seeds.clear()
