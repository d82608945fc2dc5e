"""Parts of a request body: what decoders give, and what handlers get of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from store.blobs import Ingested


@dataclass(frozen=True, slots=True)
class PartStart:
    """A part of a body begins.  One with a filename, or with ``blob`` set, becomes a blob."""

    name: str
    filename: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    blob: bool = False


@dataclass(frozen=True, slots=True)
class PartData:
    """Bytes of the current part."""

    data: bytes


@dataclass(frozen=True, slots=True)
class PartEnd:
    """The current part is whole."""


PartEvent = PartStart | PartData | PartEnd


class BodyDecoder(Protocol):
    """A push parser that splits a body into parts, holding no more than a few KiB.

    Multipart is built in (``Body.FORM``); other framings bring their own.
    Raises RegistryError subclasses on malformed input.  Sans-I/O.
    """

    def feed(self, data: bytes) -> Iterable[PartEvent]:
        """Take bytes, give the events they complete."""
        ...

    def finish(self) -> Iterable[PartEvent]:
        """The body has ended; raises RejectedError if it is cut short."""
        ...


@dataclass(frozen=True, slots=True)
class Form:
    """A decoded multi-part body: small fields (each ≤ 1 MiB, all ≤ 16 MiB) and ingested files."""

    fields: Mapping[str, Sequence[str]]
    files: Mapping[str, Sequence[FormFile]]

    def first(self, name: str, default: str = "") -> str:
        """The first value of a field."""
        values = self.fields.get(name)
        return values[0] if values else default


@dataclass(frozen=True, slots=True)
class FormFile:
    """A file part: what the client called it, and the blob it became."""

    filename: str
    headers: Mapping[str, str]
    blob: Ingested


@dataclass(frozen=True, slots=True)
class Session:
    """A resumable upload on this node.  ``size`` is how many bytes have been received."""

    id: str
    size: int
