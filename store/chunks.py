"""Chunks: content-defined views into blobs."""

from __future__ import annotations

from dataclasses import dataclass

from store.digest import Digest


@dataclass(frozen=True, slots=True)
class Chunk:
    """``length`` bytes of a blob and their SHA-256."""

    length: int
    sha256: bytes


@dataclass(frozen=True, slots=True)
class Manifest:
    """The chunk manifest of one blob."""

    blob: Digest
    size: int
    chunks: tuple[Chunk, ...]
