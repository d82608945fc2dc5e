"""What a hostile member can do to ledgers: everything but sign with other people's keys."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Protocol

import msgspec
import sqlalchemy as sa

from mesh.messages import Fork, Message
from mesh.pieces import records_messages, root_messages
from simulations.disk import MemoryPort, at_once
from simulations.life import Subject
from simulations.quick import QuickPort
from store import appending, canonical, chain, hlc, root
from store.appending import Appended
from store.authority import Authority
from store.facts import Body, Fact, File, Publish, Setting
from store.identity import Identity
from store.records import Batch, Header, Record, build, kind_of, read_header, scope_of, sign_head
from store.root import RootDocument
from store.statements import Rotation

FUTURE = 7200.0  # seconds that a future-dated record is ahead
LIES = (
    "overreach",
    "future",
    "forge",
    "impersonate",
    "usurp",
    "fork",
    "replay",
    "frame",
    "outworn",
)


Theft = tuple[Identity, Rotation]  # a member under a key that it has given up, and for which


class Watch(Protocol):
    """Who must know of lies that are believed for a while."""

    stolen: dict[bytes, tuple[str, bytes]]

    def appended(self, node: Subject, records: Sequence[bytes], seq: int) -> None: ...


class Forger:
    """The ledger of a liar, turned against the others.  ``lie`` does one of LIES."""

    def __init__(self, node: Subject, watch: Watch, stolen: Sequence[Theft] = ()) -> None:
        self.node = node
        self._watch = watch  # told of records that do count, while nobody knows of the lie
        self._stolen = stolen
        self.forked = False
        self.overreached = False

    def lie(self, what: str) -> None:
        """Do it, as far as it can be done now."""
        node = self.node
        node.note(f"lies: {what}")
        {
            "overreach": self._overreach,
            "future": self._future,
            "forge": self._forge,
            "impersonate": self._impersonate,
            "usurp": self._usurp,
            "fork": self._fork,
            "replay": self._replay,
            "frame": self._frame,
            "outworn": self._outworn,
        }[what]()

    def _tell(self, messages: list[Message], share: float = 1.0) -> None:
        """Say it to some peers."""
        for peer in list(self.node.life.links.control):
            if self.node.world.rng.random() < share:
                for message in messages:
                    self.node.life.links.send(peer, message)

    def _batch(self, author: str) -> Batch | None:
        """Return the newest batch of an author's chain that we have."""
        heads = at_once(self.node.life.ledger.heads())
        for (name, incarnation), (seq, _) in sorted(heads.items()):
            if name == author and seq:
                first = max(1, seq - 2)
                return at_once(self.node.life.ledger.range(name, incarnation, first))
        return None

    def _victim(self) -> str:
        members = sorted(self.node.life.ledger.authority.members())
        others = [member for member in members if member != self.node.identity.node]
        return self.node.world.rng.choice(others)

    def _say_batch(self, batch: Batch, share: float = 1.0) -> None:
        head, data = batch.head, canonical.encode(batch)
        author, after = bytes.fromhex(head.author), head.seq - len(batch.records)
        self._tell([*records_messages(author, head.incarnation, after, data)], share)

    # --- the lies ------------------------------------------------------------------------------
    def _write(self, port: MemoryPort | QuickPort, facts: list[Fact], now: float) -> Appended:
        """Write to our own chain as if we had every right."""
        ledger, signer = self.node.life.ledger, self.node.identity
        forged = all_powerful(ledger.authority, signer)

        def unit(connection: sa.Connection) -> Appended:
            anchor = chain.read_anchor(connection, signer.node)
            assert anchor is not None
            return appending.append(
                connection, signer, anchor, forged, facts, actor="liar", now=now
            )

        return port.look(unit)

    def _overreach(self) -> None:
        """Write where we may not: users, and repositories out of our scope."""
        self.overreached = True
        facts: list[Fact] = [Setting("user", "root", b'{"is_admin":true}'), _publish("private")]
        self._write(self.node.disk.port, facts, self.node.clock())
        self.node.life.ledgers.catch_up()

    def _future(self) -> None:
        """Write a record of the day after, so that it wins for ever."""
        self._write(self.node.disk.port, [_publish("generic")], self.node.clock() + FUTURE)
        self.node.life.ledgers.catch_up()

    def _forge(self) -> None:
        """Change what somebody else wrote."""
        batch = self._batch(self._victim())
        if batch is not None:
            header, body = batch.records[-1]
            forged = bytes([*header[:-1], header[-1] ^ 1])
            self._say_batch(Batch((*batch.records[:-1], (forged, body)), batch.head))
            wrong = msgspec.structs.replace(batch.head, signature=bytes(64))
            self._say_batch(Batch(batch.records, wrong))

    def _impersonate(self) -> None:
        """Continue somebody else's chain, signed with our key, or not at all."""
        batch = self._batch(self._victim())
        if batch is None:
            return
        last = read_header(batch.records[-1][0])
        record, body = self._following(last, batch.head.record)
        ours = sign_head(record, self.node.identity)
        unsigned = msgspec.structs.replace(ours, key=batch.head.key, signature=bytes(64))
        for head in (ours, unsigned):
            self._say_batch(Batch(((record.header_bytes, body),), head))

    def _following(self, last: Header, prev: bytes) -> tuple[Record, bytes]:
        """Make up the next record of a chain."""
        fact = _publish("generic", "forged")
        body = canonical.encode(Body("liar", (fact,)))
        header = msgspec.structs.replace(
            last,
            seq=last.seq + 1,
            prev=prev,
            hlc=hlc.tick(last.hlc, self.node.clock()),
            kind=kind_of(fact),
            scope=scope_of(fact),
            body_digest=hashlib.sha256(body).digest(),
        )
        return build(header, body), body

    def _outworn(self) -> None:
        """Go on with somebody's chain under the key that it has given up."""
        for thief, rotation in self._stolen:
            for life, seq, record in map(msgspec.structs.astuple, rotation.closings):
                batch = at_once(self.node.life.ledger.range(thief.node, life, seq, 1))
                if batch is None or (batch.head.seq, batch.head.record) != (seq, record):
                    continue
                forged, body = self._following(read_header(batch.records[-1][0]), record)
                self._watch.stolen[forged.id] = (thief.node, thief.key)
                self._say_batch(Batch(((forged.header_bytes, body),), sign_head(forged, thief)))

    def _usurp(self) -> None:
        """Name ourselves the owner."""
        forged = usurped(self.node.life.ledger.authority, self.node.identity)
        data = root.encode_root(root.sign(forged, self.node.identity))
        self._tell([*root_messages([(forged.version, data)])])

    def _fork(self) -> None:
        """Tell some one story, and others another."""
        if self.forked:
            return
        self.forked = True
        other = self.node.disk.port.copy()
        now = self.node.clock()
        one = self._write(self.node.disk.port, [_publish("generic", "one")], now)
        two = self._write(other, [_publish("generic", "two")], now)
        self._watch.appended(self.node, one.records, one.head.seq)
        self._watch.appended(self.node, two.records, two.head.seq)
        signer = self.node.identity

        def last(connection: sa.Connection) -> Batch | None:
            anchor = chain.read_anchor(connection, signer.node)
            assert anchor is not None
            end = chain.end_of(connection, signer.node, anchor.incarnation)
            return chain.read_range(connection, signer.node, anchor.incarnation, end.seq)

        batch = other.look(last)
        other.close()
        self.node.life.ledgers.catch_up()
        if batch is not None:
            self._say_batch(batch, 0.7)

    def _replay(self) -> None:
        """Say again what everybody knows, out of order."""
        for author in sorted(self.node.life.ledger.authority.members()):
            batch = self._batch(author)
            if batch is not None:
                self._say_batch(batch)

    def _frame(self) -> None:
        """Accuse somebody of a fork that never was."""
        batch = self._batch(self._victim())
        if batch is not None:
            self._tell([Fork(canonical.encode([batch, batch]))])


def _publish(repository: str, content: str = "x") -> Publish:
    digest = f"sha256:{hashlib.sha256(content.encode()).hexdigest()}"
    file = File(f"stolen/{content}", "file", digest, len(content))
    return Publish(repository, "stolen", "1", (file,))


def usurped(authority: Authority, signer: Identity) -> RootDocument:
    """Return the next root document as a usurper would write it."""
    before = authority.newest
    members = [member for member in before.members if member.node != signer.node]
    return msgspec.structs.replace(
        before,
        mesh=authority.mesh,
        version=before.version + 1,
        previous=tuple(sorted(authority.in_force)),
        owners=(signer.key,),
        threshold=1,
        members=(*members, root.member_of(signer, roles=root.ROLES)),
    )


def all_powerful(authority: Authority, signer: Identity) -> Authority:
    """Return the authority under which a liar's own node lets it do anything."""
    document = msgspec.structs.replace(
        authority.newest,
        members=(
            *(member for member in authority.newest.members if member.node != signer.node),
            root.member_of(signer, roles=root.ROLES),
        ),
    )
    return Authority(authority.mesh, {bytes(32): document})
