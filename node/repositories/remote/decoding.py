"""Content codings of upstream answers.  Spec: RFC 9110 §8.4.

Documents are asked for with gzip, files as they are.  Servers that send files coded all the same
come in two kinds: those that code what they send, whose coding is undone, and those that mean the
file's own type (a .tar.gz as "gzip"), which is left alone, as every downloader does.
"""

from __future__ import annotations

import zlib

from store.errors import TooLargeError, UpstreamError

GZIPPED = (".gz", ".tgz", ".taz", ".svgz", ".apk", ".crate")
PIECE = 256 << 10  # bytes given at a time: what a small input may expand to in memory


class Decoder:
    """Undoes gzip as bytes come; ``limit`` bounds what may come out."""

    def __init__(self, limit: int | None) -> None:
        self._inflate = zlib.decompressobj(31)
        self._limit, self._given = limit, 0

    def feed(self, data: bytes) -> list[bytes]:
        """The pieces that some more input gives.  Raises UpstreamError, TooLargeError."""
        pieces: list[bytes] = []
        while data:
            if self._inflate.eof:
                if not data.startswith(b"\x1f\x8b"):
                    break  # padding after the last member
                self._inflate = zlib.decompressobj(31)
            try:
                piece = self._inflate.decompress(data, PIECE)
            except zlib.error:
                raise UpstreamError("upstream's gzip coding is broken") from None
            data = self._inflate.unconsumed_tail or self._inflate.unused_data
            self._given += len(piece)
            if self._limit is not None and self._given > self._limit:
                raise TooLargeError(f"upstream sends a document of more than {self._limit} bytes")
            if piece:
                pieces.append(piece)
        return pieces

    def finish(self) -> None:
        """Refuse a stream that was cut off.  Raises UpstreamError."""
        if not self._inflate.eof:
            raise UpstreamError("upstream's answer ends in the middle")


def decoder_of(coding: str, path: str, limit: int | None, *, document: bool) -> Decoder | None:
    """What undoes a Content-Encoding; None for bytes that are taken as they come.

    Raises UpstreamError for a coding that nobody asked for.
    """
    coding = coding.strip().lower()
    if coding in {"", "identity"}:
        return None
    if coding not in {"gzip", "x-gzip"}:
        raise UpstreamError(f"upstream answers with the coding {coding[:40]!r}, unasked")
    if not document and path.lower().endswith(GZIPPED):
        return None
    return Decoder(limit)
