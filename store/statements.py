"""Statements about members that need no owner's signature, since an owner or a key stands behind.

A *rotation* is a node's word that another key speaks for it from now on, signed by both; it says
where each of its chains ends under the old one.  An *admission* is a delegate's word that a node is
a member, within what a root document delegated.  Both travel and are stored beside root documents.

Spec: docs/ledger.md §4.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated

import msgspec

from store import canonical, identity
from store.errors import RejectedError
from store.records import Count, Hash, NodeId
from store.root import DOCUMENT_MAX, ROLES, Member, SignedRoot

CLOSINGS_MAX = 1000  # lives of one node that a rotation ends
RIVALS_MAX = 2  # rotations of one key that are kept: two are enough to lock it
SUCCESSION_MAX = 64  # rotations shown in an introduction
ROTATION_CONTEXT = "atoll rotation 1"
ADMISSION_CONTEXT = "atoll admission 1"

Signature = Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]


class Closing(msgspec.Struct, array_like=True, frozen=True):
    """The last record of one chain that its author's old key vouches for."""

    incarnation: Count
    seq: Count
    record: Hash


class Rotation(msgspec.Struct, array_like=True, frozen=True, tag=6):
    """``new`` speaks for the node instead of ``old``.

    The closings stand at the end and only their digest is signed: in an introduction, where the
    succession of keys is all that matters, they are left out.
    """

    mesh: NodeId
    node: NodeId
    old: Hash
    new: Hash
    at: Count  # milliseconds since 1970
    digest: Hash
    by_old: Signature
    by_new: Signature
    closings: tuple[Closing, ...] = ()


class Admission(msgspec.Struct, array_like=True, frozen=True, tag=7):
    """A delegate lets a node in.  Its ``number`` lies within the delegation's limit."""

    mesh: NodeId
    by: NodeId
    number: Count
    member: Member
    key: Hash  # the delegate's
    signature: Signature


Statement = Rotation | Admission
_paper: msgspec.msgpack.Decoder[SignedRoot | Statement] = msgspec.msgpack.Decoder(
    SignedRoot | Rotation | Admission
)
_rotation = msgspec.msgpack.Decoder(Rotation)


def read_paper(data: bytes) -> SignedRoot | Statement:
    """Decode a root document or a statement, unverified.  Raises RejectedError."""
    if len(data) > DOCUMENT_MAX + (64 << 10):
        raise RejectedError("the document is too large")
    paper: SignedRoot | Statement = canonical.decode(data, _paper)
    return paper


def read_rotation(data: bytes) -> Rotation:
    """Decode a rotation, unverified.  Raises RejectedError."""
    return canonical.decode(data, _rotation)


def paper_id(data: bytes) -> bytes:
    """What tells one encoded paper from another."""
    return hashlib.sha256(data).digest()


def _closings_digest(closings: Iterable[Closing]) -> bytes:
    return hashlib.sha256(canonical.encode(list(closings))).digest()


def _rotation_text(rotation: Rotation) -> bytes:
    said = (rotation.mesh, rotation.node, rotation.old, rotation.new, rotation.at, rotation.digest)
    return canonical.encode([ROTATION_CONTEXT, *said])


def rotate(
    mesh: str,
    old: identity.Identity,
    new: identity.Identity,
    closings: Iterable[Closing],
    *,
    now: float,
) -> Rotation:
    """Say that a node's key changes.  ``now`` is seconds since 1970."""
    closed = tuple(sorted(closings, key=lambda each: each.incarnation))
    draft = Rotation(
        mesh,
        old.node,
        old.key,
        new.key,
        int(now * 1000),
        _closings_digest(closed),
        bytes(64),
        bytes(64),
        closed,
    )
    text = _rotation_text(draft)
    return msgspec.structs.replace(draft, by_old=old.sign(text), by_new=new.sign(text))


def succession_of(rotation: Rotation) -> bytes:
    """A rotation as an introduction shows it: without the closings."""
    return canonical.encode(msgspec.structs.replace(rotation, closings=()))


def succeeds(rotation: Rotation, mesh: str, node: str) -> bool:
    """Whether both keys of a node of the mesh vouch for a rotation; its closings may be absent."""
    text = _rotation_text(rotation)
    return (
        (rotation.mesh, rotation.node) == (mesh, node)
        and rotation.old != rotation.new
        and identity.verify(rotation.old, text, rotation.by_old)
        and identity.verify(rotation.new, text, rotation.by_new)
    )


def check_rotation(rotation: Rotation, mesh: str) -> None:
    """Check all of a rotation that stands in itself.  Raises RejectedError."""
    lives = [closing.incarnation for closing in rotation.closings]
    if len(lives) > CLOSINGS_MAX or sorted(set(lives)) != lives:
        raise RejectedError("a rotation with too many closings, or in disorder")
    if _closings_digest(rotation.closings) != rotation.digest:
        raise RejectedError("a rotation without its closings")
    if not succeeds(rotation, mesh, rotation.node):
        raise RejectedError("forged: a rotation that one of its keys did not sign")


def _admission_text(mesh: str, by: str, number: int, member: Member) -> bytes:
    return canonical.encode([ADMISSION_CONTEXT, mesh, by, number, member])


def admit(mesh: str, by: identity.Identity, number: int, member: Member) -> Admission:
    """Let a node in, as a delegate."""
    text = _admission_text(mesh, by.node, number, member)
    return Admission(mesh, by.node, number, member, by.key, by.sign(text))


def check_admission(admission: Admission, mesh: str) -> None:
    """Check all of an admission that stands in itself.  Raises RejectedError."""
    member = admission.member
    text = _admission_text(admission.mesh, admission.by, admission.number, member)
    if admission.mesh != mesh:
        raise RejectedError("an admission to another mesh")
    if not identity.verify(admission.key, text, admission.signature):
        raise RejectedError("forged: an admission that its delegate did not sign")
    if identity.node_id(member.first_key) != member.node or not set(member.roles) <= set(ROLES):
        raise RejectedError("an admission of an impossible member")


@dataclass(frozen=True, slots=True)
class Statements:
    """All statements of a mesh, for looking up.  Which of them count is ``store.view``'s."""

    rotations: Mapping[tuple[str, bytes], tuple[Rotation, ...]] = field(
        default_factory=dict[tuple[str, bytes], tuple[Rotation, ...]]
    )
    admissions: Mapping[str, tuple[Admission, ...]] = field(
        default_factory=dict[str, tuple[Admission, ...]]
    )

    @classmethod
    def of(cls, statements: Iterable[Statement]) -> Statements:
        """Sort statements by whom they are about, and by whom."""
        rotations: dict[tuple[str, bytes], tuple[Rotation, ...]] = {}
        admissions: dict[str, tuple[Admission, ...]] = {}
        for each in statements:
            if isinstance(each, Rotation):
                known = rotations.get((each.node, each.old), ())
                rotations[each.node, each.old] = (*known, each)
            else:
                admissions[each.by] = (*admissions.get(each.by, ()), each)
        for by, given in admissions.items():
            admissions[by] = tuple(sorted(given, key=lambda a: (a.number, a.signature)))
        return cls(rotations, admissions)

    def rotation_to(self, node: str, key: bytes) -> Rotation | None:
        """How a node came to a key."""
        for (who, _), rivals in self.rotations.items():
            if who == node:
                for rotation in rivals:
                    if rotation.new == key:
                        return rotation
        return None

    def last_rotation(self, node: str) -> Rotation | None:
        """A node's newest rotation by its own clock."""
        mine = [r for rivals in self.rotations.values() for r in rivals if r.node == node]
        return max(mine, key=lambda rotation: rotation.at, default=None)

    def __iter__(self) -> Iterator[Statement]:
        """Rotations, then admissions."""
        for rivals in self.rotations.values():
            yield from rivals
        for given in self.admissions.values():
            yield from given
