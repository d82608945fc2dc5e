"""A publish, taken apart as it arrives: tarballs leave the JSON as blobs, the rest stays JSON.

A publish is one JSON document with each tarball as base64 in ``_attachments.<name>.data``.  This
scanner knows just enough JSON to find those strings; everything else, with ``""`` in their place,
comes out as the field ``document``, in pieces, and is judged by a real parser afterwards.
"""

from __future__ import annotations

import binascii
import enum
import json
import re
from collections.abc import Iterator, Mapping

from formats.contract import DOCUMENT_MAX, PartData, PartEnd, PartEvent, PartStart
from store.errors import ManifestInvalidError, TooLargeError

DOCUMENT, ATTACHMENT = "document", "attachment"  # part names
PIECE = 256 << 10  # bytes of the document handed on at a time
KEY_MAX = 1024  # bytes of a key near the root
DEPTH_MAX = 200
ATTACHMENTS_MAX = 8
TEXTUAL = ".sigstore"  # attachments of this kind are JSON in a string, not base64
TOKENS_MAX = 4_000_000  # brackets and strings that need a look: bounds the time a body can cost
NEAR = re.compile(rb'["{}\[\],:]')
# Away from the attachments only nesting matters: pass over everything else, whole strings included.
FAR = re.compile(rb'(?:[^"{}\[\]]++|"(?:[^"\\]++|\\.)*+")*+', re.DOTALL)
IN_STRING = re.compile(rb"(?:[^\"\\]++|\\.)*+", re.DOTALL)


class Mode(enum.Enum):
    STRUCTURE = enum.auto()
    STRING = enum.auto()
    DATA = enum.auto()


class PackumentDecoder:
    """The BodyDecoder of npm's publish.  Sans-I/O; holds one piece and one key at most."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._mode = Mode.STRUCTURE
        self._escaped = False  # the byte before was a backslash, in a string
        self._nesting = bytearray()  # the open brackets
        self._keys: list[str] = []  # the key at each level of objects, as far as level three
        self._key_next = False  # in an object, a string would be a key now
        self._key: bytearray | None = None  # the key being read
        self._document = bytearray()
        self._size = 0  # bytes of the document so far
        self._base64 = Base64()
        self._attachments: set[str] = set()
        self._begun = False
        self._tokens = 0

    @property
    def _near(self) -> int:
        """How deep keys matter: to the end of an attachment, elsewhere only at the root."""
        return 3 if self._keys[:1] == ["_attachments"] else 1

    def feed(self, data: bytes) -> Iterator[PartEvent]:
        """Take bytes, give the parts they complete.

        Raises ManifestInvalidError, TooLargeError.
        """
        at = 0
        while at < len(data):
            if self._mode is Mode.STRUCTURE:
                start = at
                at, opened = self._structure(data, at)
                self._copy(data[start:at])
                if opened is not None:
                    yield PartStart(ATTACHMENT, filename=opened, blob=True)
            elif self._mode is Mode.STRING:
                start, at = at, self._string(data, at)
                self._copy(data[start:at])
            else:
                at, decoded, closed = self._data(data, at)
                if decoded:
                    yield PartData(decoded)
                if closed:
                    yield PartEnd()
            if self._mode is not Mode.DATA:
                yield from self._flush()

    def finish(self) -> Iterator[PartEvent]:
        """The body has ended.  Raises ManifestInvalidError if it is cut short."""
        if self._mode is not Mode.STRUCTURE or self._nesting or not self._begun:
            raise ManifestInvalidError("the document is cut short")
        yield from self._flush(final=True)

    # -- the three modes: each takes what it can and says how far it came
    def _structure(self, data: bytes, at: int) -> tuple[int, str | None]:
        """Scan outside strings, up to one; name the attachment if its content begins there."""
        while True:
            at = self._next_sign(data, at)
            if at >= len(data):
                return at, None
            self._tokens += 1
            if self._tokens > TOKENS_MAX:
                raise TooLargeError(f"the document has more than {TOKENS_MAX} parts")
            sign, at = data[at : at + 1], at + 1
            if sign == b'"':
                return at, self._open_string()
            if sign in b"{[":
                self._open(sign)
            elif sign in b"}]":
                self._close(sign)
            else:
                self._key_next = sign == b"," and self._nesting.endswith(b"{")

    def _next_sign(self, data: bytes, at: int) -> int:
        """Where the next byte is that matters here."""
        if len(self._nesting) > self._near:
            passed = FAR.match(data, at)
            return len(data) if passed is None else passed.end()
        found = NEAR.search(data, at)
        return len(data) if found is None else found.start()

    def _string(self, data: bytes, at: int) -> int:
        start = at
        if self._escaped:
            self._escaped = False
            at += 1
        passed = IN_STRING.match(data, at)
        at = at if passed is None else passed.end()
        self._extend_key(data[start:at])
        if at == len(data):
            return at
        if data[at : at + 1] == b"\\":  # the chunk ends within an escape
            self._escaped = True
            self._extend_key(b"\\")
        else:
            self._mode = Mode.STRUCTURE
            self._close_key()
        return at + 1

    def _data(self, data: bytes, at: int) -> tuple[int, bytes, bool]:
        """Scan base64, in which the only escape can be that of a slash."""
        if self._escaped:
            if data[at : at + 1] != b"/":
                raise ManifestInvalidError("an attachment is not base64")
            self._escaped = False
            return at + 1, self._base64.feed(b"/"), False
        quote = data.find(b'"', at)
        end = len(data) if quote < 0 else quote
        escape = data.find(b"\\", at, end)
        if escape >= 0:
            self._escaped = True
            return escape + 1, self._base64.feed(data[at:escape]), False
        decoded = self._base64.feed(data[at:end])
        if quote < 0:
            return end, decoded, False
        self._base64.finish()
        self._mode = Mode.STRUCTURE
        self._copy(b'"')
        return end + 1, decoded, True

    # -- structure
    def _open(self, sign: bytes) -> None:
        if len(self._nesting) >= DEPTH_MAX:
            raise ManifestInvalidError(f"the document is nested deeper than {DEPTH_MAX}")
        if not self._nesting and (self._begun or sign != b"{"):
            raise ManifestInvalidError("one JSON object is expected")
        self._begun = True
        self._nesting += sign
        self._key_next = sign == b"{"
        if len(self._nesting) <= 3:
            self._keys.append("")

    def _close(self, sign: bytes) -> None:
        if not self._nesting.endswith(b"{" if sign == b"}" else b"["):
            raise ManifestInvalidError("the document's brackets do not match")
        if len(self._nesting) <= 3:
            self._keys.pop()
        self._nesting.pop()
        self._key_next = False

    def _open_string(self) -> str | None:
        if not self._nesting:
            raise ManifestInvalidError("one JSON object is expected")
        if self._key_next and len(self._nesting) <= self._near:
            self._key = bytearray()
        elif bytes(self._nesting) == b"{{{" and not self._key_next and self._is_attachment():
            return self._open_attachment(self._keys[1])
        self._mode = Mode.STRING
        return None

    def _is_attachment(self) -> bool:
        root, name, key = self._keys
        return root == "_attachments" and key == "data" and not name.endswith(TEXTUAL)

    def _open_attachment(self, name: str) -> str:
        if name in self._attachments or len(self._attachments) >= ATTACHMENTS_MAX:
            raise ManifestInvalidError("too many attachments, or one of them twice")
        self._attachments.add(name)
        self._mode, self._base64 = Mode.DATA, Base64()
        return name

    # -- keys
    def _extend_key(self, raw: bytes) -> None:
        if self._key is not None:
            self._key += raw
            if len(self._key) > KEY_MAX:
                raise ManifestInvalidError("a key of the document is too long")

    def _close_key(self) -> None:
        if self._key is None:
            return
        try:
            key = json.loads(b'"%s"' % self._key) if b"\\" in self._key else self._key.decode()
        except ValueError as error:
            raise ManifestInvalidError("a key of the document is malformed") from error
        self._keys[len(self._nesting) - 1] = key
        self._key, self._key_next = None, False

    # -- the document
    def _copy(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > DOCUMENT_MAX:
            raise TooLargeError(f"the document without its tarballs exceeds {DOCUMENT_MAX} bytes")
        self._document += data

    def _flush(self, *, final: bool = False) -> Iterator[PartEvent]:
        """Hand on what has gathered, cut between characters: fields are text."""
        while self._document and (final or len(self._document) > PIECE + 4):
            end = min(PIECE, len(self._document))
            while end < len(self._document) and self._document[end] & 0xC0 == 0x80:
                end += 1
            piece, self._document = bytes(self._document[:end]), self._document[end:]
            yield PartStart(DOCUMENT)
            yield PartData(piece)
            yield PartEnd()


class Base64:
    """Strict incremental base64: padding ends it, nothing but its alphabet is in it."""

    def __init__(self) -> None:
        self._rest = b""
        self._ended = False

    def feed(self, data: bytes) -> bytes:
        """Decode what is complete.  Raises ManifestInvalidError."""
        data = self._rest + data
        whole = len(data) - len(data) % 4
        self._rest = data[whole:]
        if not whole:
            return b""
        if self._ended:
            raise ManifestInvalidError("an attachment goes on after its padding")
        self._ended = data[whole - 1 : whole] == b"="
        try:
            return binascii.a2b_base64(data[:whole], strict_mode=True)
        except binascii.Error as error:
            raise ManifestInvalidError(f"an attachment is not base64: {error}") from error

    def finish(self) -> None:
        """The text has ended.  Raises ManifestInvalidError in the middle of a group."""
        if self._rest:
            raise ManifestInvalidError("an attachment's base64 is cut short")
