"""A small mesh from its founding to an eviction: every paper its nodes sign, as bytes.

Node a founds it and invites c; c joins, writes a record, changes its key, and admits d as a
delegate; then b becomes an owner beside a, and both put c out.  Keys, times and nonces are fixed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from mesh import invitation
from mesh.handshake import Self, Ticket, node_of
from mesh.invitation import Invitation
from mesh.link import JoinAsked, Link
from mesh.messages import CONTROL, Heads
from mesh.pieces import records_messages, root_messages
from mesh.wire import encode
from store import canonical, revising, root, statements
from store.authority import Authority
from store.facts import Body, File, Publish
from store.forks import branch_from
from store.identity import Identity
from store.records import CONTENT, ZERO, Batch, Header, Record, build, head_message, sign_head
from store.root import Delegation, Evicted, Reserved, RootDocument, SignedRoot

CLOCK = 1_700_000_000.0
DAY = 86_400
NONCE = bytes(range(32))
INVITATION = bytes(range(16))
SECRET = hashlib.sha256(b"secret").digest()
LIFE = 1  # the incarnation in which each node writes
A, B, C, D = (
    Identity.from_seed(hashlib.sha256(name).digest()) for name in (b"a", b"b", b"c", b"d")
)
C2 = C.rotate(hashlib.sha256(b"c2").digest())

Vector = tuple[str, bytes | str]


def following(
    mesh: str, before: SignedRoot, listed: Sequence[root.Member], **changes: object
) -> RootDocument:
    """Draft the version after one document."""
    documents = {before.id: root.read_document(before.document)}
    told: dict[str, Any] = {"heads": {}, "now": CLOCK, **changes}
    return revising.revise(mesh, documents, members=listed, **told)


def members(signed: SignedRoot) -> tuple[root.Member, ...]:
    """Return whom a document lists, in the order of their ids."""
    return root.read_document(signed.document).members


@dataclass
class Founding:
    """The mesh.  What comes later is built on what came before."""

    founding: SignedRoot = field(
        default_factory=lambda: root.genesis(A, site="reef", name="a", now=CLOCK, nonce=bytes(16))
    )

    @property
    def mesh(self) -> str:
        """The mesh id."""
        return self.founding.id.hex()

    @cached_property
    def invitation(self) -> Invitation:
        """What a hands to c."""
        raw, node = bytes.fromhex(self.mesh), bytes.fromhex(A.node)
        where, until = ("tls://192.0.2.1:7443",), int(CLOCK) + DAY
        return Invitation(raw, node, A.key, INVITATION, SECRET, until, where, "lagoon")

    @cached_property
    def joined(self) -> SignedRoot:
        """Version 2: a and c."""
        guest = root.member_of(C, site=self.invitation.site, joined=CLOCK)
        return root.sign(following(self.mesh, self.founding, (*members(self.founding), guest)), A)

    @cached_property
    def record(self) -> Record:
        """The first record of c."""
        return self._record(b"reef")

    def _record(self, content: bytes) -> Record:
        name = "sha256:" + hashlib.sha256(content).hexdigest()
        said = Publish("generic", "demo", "1.0", (File("demo/1.0/reef.txt", "file", name, 4),))
        body = canonical.encode(Body("carol", (said,)))
        digest = hashlib.sha256(body).digest()
        moment = int(CLOCK * 1000) << 16
        header = (C.node, LIFE, 1, ZERO, moment, self.mesh, 2, CONTENT, "generic", digest)
        return build(Header(*header), body)

    @cached_property
    def batch(self) -> Batch:
        """The chain of c, as it travels."""
        return _batch(self.record)

    @cached_property
    def fork(self) -> bytes:
        """Proof that c has signed another first record."""
        both = (self.batch, _batch(self._record(b"reed")))
        return canonical.encode([branch_from(each, 1) for each in both])

    @cached_property
    def rotation(self) -> statements.Rotation:
        """A new key for c."""
        ends = [statements.Closing(LIFE, 1, self.record.id)]
        return statements.rotate(self.mesh, C, C2, ends, now=CLOCK)

    @cached_property
    def shared(self) -> SignedRoot:
        """Version 3: b owns the mesh beside a, c admits writers at its site, a name is reserved."""
        delegation = Delegation(C.node, (root.WRITER,), ("*",), ("lagoon",), _ms(DAY), 10)
        draft = following(
            self.mesh,
            self.joined,
            members(self.joined),
            heads={(C.node, LIFE): (1, self.record.id)},
            owners=(A.key, B.key),
            threshold=2,
            reserved=(Reserved("generic", "acme-", "reef"),),
            delegations=(delegation,),
        )
        return root.sign(draft, A)

    @cached_property
    def admission(self) -> statements.Admission:
        """The word of c that d is a member."""
        guest = root.member_of(D, site="lagoon", joined=CLOCK)
        return statements.admit(self.mesh, C2, 0, guest)

    @cached_property
    def evicting(self) -> SignedRoot:
        """Version 4, signed by both owners: c is out, and d stays by the owners' word."""
        a = next(each for each in members(self.shared) if each.node == A.node)
        guest, gone = self.admission.member, Evicted(C.node, "lost", _ms(0))
        draft = following(self.mesh, self.shared, (a, guest), evicted=(gone,))
        return root.countersign(root.sign(draft, A), B)

    @cached_property
    def papers(self) -> list[bytes]:
        """All of it, in an order in which it verifies."""
        signed = (self.founding, self.joined, self.shared, self.evicting)
        told = (self.rotation, self.admission)
        return [*map(root.encode_root, signed), *map(canonical.encode, told)]

    @cached_property
    def heads(self) -> Heads:
        """What a says that it has after version 4, without any chain."""
        signed = (self.founding, self.joined, self.shared, self.evicting)
        documents = {each.id: root.read_document(each.document) for each in signed}
        told = (self.rotation, self.admission)
        ids = [statements.paper_id(canonical.encode(each)) for each in told]
        digest = Authority(self.mesh, documents, told, ids).digest
        return Heads((), 4, digest)

    def joining(self) -> list[bytes]:
        """Return the words of the join, by turns: a, c, a."""
        inviter = Self(A, bytes.fromhex(self.mesh), LIFE, "reef", tuple(sorted(root.ROLES)))
        joiner = Self(C, bytes.fromhex(self.mesh), LIFE, self.invitation.site)
        listener = Link.accept(
            inviter,
            nonce=NONCE,
            gate=lambda _hello: "no member yet",
            secret_of=lambda _id: SECRET,
            now=0.0,
            clock=CLOCK,
        )
        dialler = Link.dial(
            joiner,
            node=bytes.fromhex(A.node),
            keys=frozenset({A.key}),
            server_key=A.key,
            channel=CONTROL,
            now=0.0,
            clock=CLOCK,
            ticket=Ticket(INVITATION, SECRET),
        )
        challenge = _all(listener)
        dialler.feed(challenge, 0.0)
        join = _all(dialler)
        listener.feed(join, 0.0)
        (asked,) = [event for event in listener if isinstance(event, JoinAsked)]
        assert node_of(asked.request.key).hex() == C.node
        listener.admit(asked.request)
        return [challenge, join, _all(listener)]


def _batch(record: Record) -> Batch:
    return Batch(((record.header_bytes, record.body),), sign_head(record, C))


def _ms(later: float) -> int:
    return int((CLOCK + later) * 1000)


def _all(link: Link) -> bytes:
    return b"".join(iter(link.take, b""))


def vectors() -> list[Vector]:
    """Return every step, titled."""
    made = Founding()
    challenge, join, welcome = made.joining()
    handed = [(1, root.encode_root(each)) for each in (made.founding, made.joined)]
    roots = b"".join(encode(each) for each in root_messages(handed))
    author, batch = bytes.fromhex(C.node), canonical.encode(made.batch)
    pushed = b"".join(encode(each) for each in records_messages(author, LIFE, 0, batch))
    header = made.record.header
    head = head_message(header.author, LIFE, 1, made.record.id)
    body = made.record.body or b""
    return [
        ("Public keys of a, b, c, d, and the second one of c", b"".join(_keys())),
        ("Root document, version 1", made.founding.document),
        ("What its signature covers", canonical.encode([root.CONTEXT, made.founding.document])),
        ("Signed by a, as it travels", root.encode_root(made.founding)),
        ("The mesh id", made.founding.id),
        ("Invitation of a, as text", invitation.write(made.invitation)),
        ("Join, a to c: Challenge", challenge),
        ("Join, c to a: Join", join),
        ("Join, a to c: Welcome", welcome),
        ("Join, a to c: versions 1 and 2 in Root, and the end", roots),
        ("Root document, version 2, signed by a", root.encode_root(made.joined)),
        ("Record of c: header", made.record.header_bytes),
        ("Record of c: body", body),
        ("Record of c: id", made.record.id),
        ("Record of c: what the head's signature covers", head),
        ("Record of c: batch", batch),
        ("Record of c: pushed to a, as a frame", pushed),
        ("Proof of a fork, had c signed another first record", made.fork),
        ("Rotation of c", canonical.encode(made.rotation)),
        ("The same in Challenge or Hello", statements.succession_of(made.rotation)),
        ("Root document, version 3, signed by a", root.encode_root(made.shared)),
        ("Admission of d by c", canonical.encode(made.admission)),
        ("Root document, version 4, signed by a and b", root.encode_root(made.evicting)),
        ("Heads of a then, without any chain, as a frame", encode(made.heads)),
    ]


def _keys() -> list[bytes]:
    return [each.key for each in (A, B, C, D, C2)]
