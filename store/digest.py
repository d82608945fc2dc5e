"""Digests: the names of blobs."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from store.errors import DigestInvalidError

LENGTHS = {"sha256": 64, "sha512": 128}  # hex characters; the algorithms OCI registers
HEX = re.compile(r"[0-9a-f]+\Z")


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """A content address, written ``algorithm:hex`` (OCI image-spec, "Digests").

    Blobs are stored under their SHA-256; other algorithms are aliases that a format resolves.
    """

    algorithm: str
    hex: str

    @classmethod
    def of(cls, data: bytes) -> Digest:
        """Return the SHA-256 of ``data``."""
        return cls("sha256", hashlib.sha256(data).hexdigest())

    @classmethod
    def sha256(cls, value: bytes | str) -> Digest:
        """Wrap a raw or hexadecimal SHA-256."""
        return cls.parse(f"sha256:{value.hex() if isinstance(value, bytes) else value}")

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Read ``algorithm:hex``.  Raises DigestInvalidError."""
        algorithm, _, value = text.partition(":")
        if LENGTHS.get(algorithm) != len(value) or not HEX.match(value):
            raise DigestInvalidError(f"not a digest: {text[:200]!r}")
        return cls(algorithm, value)

    @property
    def raw(self) -> bytes:
        """The hash value as bytes."""
        return bytes.fromhex(self.hex)

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"
