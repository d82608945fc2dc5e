"""Records: signed, chained, content-addressed statements of one author.

A record is a header and a body (design.md ruling 4).  The id is the SHA-256 of the header bytes;
each header names the one before it and the digest of its body, so a signature over one head vouches
for the whole chain before it, and bodies may be withheld from partial replicas.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any, NamedTuple, get_args

import msgspec

from store import canonical, identity
from store.errors import RejectedError
from store.facts import AUTHORITY, Body, Cached, Fact, Used

CONTENT, AUTHORITY_KIND, CACHED, USAGE = range(1, 5)  # Header.kind: partial replicas select by it
BODY_MAX = 56 << 10  # bytes; header, body and head together fit one control frame of 64 KiB
HEADER_MAX = 1 << 10  # bytes
BATCH_MAX = 60 << 10  # bytes between two signed heads, so that every range answer fits one frame
SCOPE_MAX = 255  # characters
ZERO = bytes(32)  # ``prev`` of an incarnation's first record
CONTEXT = "atoll head 1"

NodeId = Annotated[str, msgspec.Meta(min_length=64, max_length=64)]  # hexadecimal
Hash = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
Count = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]


class Header(msgspec.Struct, array_like=True, frozen=True, tag=1):
    """What is signed.  ``scope`` is the repository key, "" for authority records."""

    author: NodeId
    incarnation: Count
    seq: Count  # 1 for the first record of an incarnation
    prev: Hash
    hlc: Count
    mesh: NodeId
    root_version: Count
    kind: Annotated[int, msgspec.Meta(ge=0, le=(1 << 31) - 1)]
    scope: Annotated[str, msgspec.Meta(max_length=SCOPE_MAX)]
    body_digest: Hash


class SignedHead(msgspec.Struct, array_like=True, frozen=True, tag=2):
    """An author's word that its chain up to ``seq`` ends in ``record``."""

    author: NodeId
    incarnation: Count
    seq: Count
    record: Hash
    key: Hash
    signature: Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]


class Batch(msgspec.Struct, array_like=True, frozen=True, tag=3):
    """Consecutive records of one author, ending on a signed head.  A body of None is withheld."""

    records: tuple[tuple[bytes, bytes | None], ...]  # (header, body), as their author wrote them
    head: SignedHead


class Record(NamedTuple):
    """A header as received, what it says, and its body's bytes."""

    id: bytes
    header: Header
    header_bytes: bytes
    body: bytes | None


_header = msgspec.msgpack.Decoder(Header)
_batch = msgspec.msgpack.Decoder(Batch)
_body = msgspec.msgpack.Decoder(Body)
_facts = msgspec.msgpack.Decoder(tuple[Fact, ...])
_fact: msgspec.msgpack.Decoder[Fact] = msgspec.msgpack.Decoder(Fact)
_KNOWN_TAGS = frozenset(kind.__struct_config__.tag for kind in get_args(Fact))


def record_id(header: bytes) -> bytes:
    """The id of the record with these header bytes."""
    return hashlib.sha256(header).digest()


def read_header(data: bytes) -> Header:
    """Decode a header.  Raises RejectedError."""
    if len(data) > HEADER_MAX:
        raise RejectedError("the header is too large")
    header = canonical.decode(data, _header)
    if "\0" in header.scope:  # no text column of PostgreSQL takes it
        raise RejectedError("the scope holds a NUL")
    return header


def encode_fact(fact: Fact) -> bytes:
    """The canonical bytes of a fact."""
    return canonical.encode(fact)


def read_fact(data: bytes) -> Fact:
    """Decode a fact that was stored by ``encode_fact``."""
    return _fact.decode(data)


def read_body(data: bytes) -> Body:
    """Decode a body; facts of skippable types are left out.

    Raises UnknownTagError for a newer fact that must not be skipped, RejectedError otherwise.
    """
    if len(data) > BODY_MAX:
        raise RejectedError("the body is too large")
    try:
        body = _body.decode(data)
    except canonical.MALFORMED:
        return _read_newer_body(data)
    if canonical.encode(body) != data:
        canonical.parse(data)
    return body


def _parse_body(data: bytes) -> tuple[str, list[list[object]]]:
    match canonical.parse(data):
        case [str(actor), list(facts), *_] if all(type(fact) is list and fact for fact in facts):
            return actor, facts
    raise RejectedError("the body is not [actor, facts]")


def _read_newer_body(data: bytes) -> Body:
    actor, facts = _parse_body(data)
    known: list[list[object]] = []
    for fact in facts:
        tag = fact[0]
        if type(tag) is not int or tag < 0:
            raise RejectedError("a fact without a type")
        if tag in _KNOWN_TAGS:
            known.append(fact)
        elif not tag & canonical.SKIPPABLE:
            raise canonical.UnknownTagError(f"fact type {tag} needs a newer version")
    try:
        return Body(actor, _facts.decode(canonical.encode(known)))
    except canonical.MALFORMED as error:
        raise RejectedError(f"malformed fact: {error}"[:200]) from error


def read_batch(data: bytes) -> Batch:
    """Decode a batch, its records still unverified.  Raises RejectedError."""
    if len(data) > BATCH_MAX + (4 << 10):
        raise RejectedError("the batch is too large")
    return canonical.decode(data, _batch)


def kind_of(fact: Any) -> int:
    """Which kind of record may carry a fact."""
    if type(fact) in AUTHORITY:
        return AUTHORITY_KIND
    if type(fact) is Used:
        return USAGE
    return CACHED if type(fact) is Cached else CONTENT


def scope_of(fact: Any) -> str:
    """Which scope a record must have to carry a fact."""
    return "" if type(fact) in AUTHORITY else fact.repository


def build(header: Header, body: bytes) -> Record:
    """The record of a header and its body."""
    data = canonical.encode(header)
    return Record(record_id(data), header, data, body)


def head_message(author: str, incarnation: int, seq: int, record: bytes) -> bytes:
    """What a head's signature covers."""
    return canonical.encode([CONTEXT, author, incarnation, seq, record])


def sign_head(record: Record, signer: identity.Identity) -> SignedHead:
    """Vouch for the chain that ends in ``record``."""
    header = record.header
    message = head_message(header.author, header.incarnation, header.seq, record.id)
    return SignedHead(
        header.author,
        header.incarnation,
        header.seq,
        record.id,
        signer.key,
        signer.sign(message),
    )


def head_holds(head: SignedHead) -> bool:
    """Whether a head's signature is right.  Whether its key may sign is the root's business."""
    message = head_message(head.author, head.incarnation, head.seq, head.record)
    return identity.verify(head.key, message, head.signature)


def read_records(batch: Batch) -> list[Record]:
    """Open a batch: canonical headers of one author, chained without a gap, ending on its head.

    The signature is *not* checked here.  Raises RejectedError with what is wrong.
    """
    records = [
        Record(record_id(data), read_header(data), data, body) for data, body in batch.records
    ]
    if not records:
        raise RejectedError("an empty batch")
    head, last = batch.head, records[-1]
    if (head.seq, head.record) != (last.header.seq, last.id):
        raise RejectedError("truncated: the records do not end on the signed head")
    previous: Record | None = None
    for record in records:
        header = record.header
        if (header.author, header.incarnation) != (head.author, head.incarnation):
            raise RejectedError("records of another author")
        if previous is not None and (header.seq, header.prev) != (
            previous.header.seq + 1,
            previous.id,
        ):
            raise RejectedError(f"the chain breaks at seq {header.seq}")
        body = record.body
        if body is not None and hashlib.sha256(body).digest() != header.body_digest:
            raise RejectedError(f"the body of seq {header.seq} is not what its header names")
        previous = record
    return records


def split_facts(facts: Iterable[Fact]) -> Iterator[tuple[int, str, list[Fact]]]:
    """Group facts into records: by kind and scope, each body within its bound, order kept."""
    groups: dict[tuple[int, str], list[Fact]] = {}
    for fact in facts:
        groups.setdefault((kind_of(fact), scope_of(fact)), []).extend(_divide(fact))
    for (kind, scope), members in groups.items():
        part: list[Fact] = []
        size = 0
        for member in members:
            length = len(canonical.encode(member))
            if part and size + length > BODY_MAX - 512:  # room for the actor's name
                yield kind, scope, part
                part, size = [], 0
            part.append(member)
            size += length
        yield kind, scope, part


def _divide(fact: Fact) -> list[Fact]:
    """Split a fact with very many files; each file is a cell of its own, so nothing changes."""
    files = getattr(fact, "files", ())
    if len(files) <= 1 or len(canonical.encode(fact)) <= BODY_MAX - 512:
        return [fact]
    middle = len(files) // 2
    halves: Sequence[Fact] = [
        msgspec.structs.replace(fact, files=files[:middle]),
        msgspec.structs.replace(fact, files=files[middle:]),
    ]
    return [part for half in halves for part in _divide(half)]
