"""Batches and documents cut into messages that fit a control frame.  Pure.

Spec: docs/mesh.md §7.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mesh.messages import Records, Root

PIECE_MAX = 56 * 1024  # bytes of a batch or document per message


def records_messages(
    author: bytes, incarnation: int, after: int, batch: bytes
) -> Iterator[Records]:
    """Cut one encoded batch into messages."""
    for start in range(0, len(batch), PIECE_MAX):
        last = start + PIECE_MAX >= len(batch)
        yield Records(author, incarnation, after, last, batch[start : start + PIECE_MAX])


def root_messages(documents: Iterable[tuple[int, bytes]]) -> Iterator[Root]:
    """Cut documents and statements, given as (number above 0, bytes), into messages."""
    for version, document in documents:
        for start in range(0, len(document), PIECE_MAX):
            last = start + PIECE_MAX >= len(document)
            yield Root(version, last, document[start : start + PIECE_MAX])
    yield Root(0, last=True, piece=b"")
