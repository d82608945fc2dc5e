"""What must never happen, looked for at every step, and what must hold when all is quiet.

The checker knows what no node knows: every blob's true bytes, every record that was really written
with the right to it, and who lies.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa

from mesh import bits
from mesh.asking import BUDGET_MAX
from mesh.beliefs import OPEN
from mesh.download import Download
from mesh.scheduler import RUN_MAX, WINDOW_MAX
from mesh.serving import CREDIT_MAX, REQUESTS_MAX, Piece
from mesh.wire import CHUNK_MAX
from simulations.couriers import Grants
from simulations.law import Law, Line, Unlawful, line_of
from simulations.life import Subject
from simulations.world import ViolationError
from store import schema
from store.applying import Outcome
from store.chain import PROPOSAL, VALID
from store.chunks import Manifest
from store.standing import forks_of

CATALOG = ("files", "burnt", "pointers", "flags", "settings", "packages", "claims")
SLACK = RUN_MAX + 2 * CHUNK_MAX  # bytes by which one request may pass a bound that was not reached
COPIES_MAX = 2  # requests for one chunk to peers that move
REFUSALS_KEPT = 20

Key = tuple[bytes, int]
Grant = tuple[frozenset[str], tuple[str, ...]]


class Checker:
    """Watches every node of one history.  Raises ViolationError."""

    def __init__(self) -> None:
        self.blobs: dict[bytes, tuple[Manifest, bytes]] = {}  # the truth
        self.written: dict[bytes, tuple[str, str, int]] = {}  # record → its author's name, id, seq
        self.unacknowledged: set[bytes] = set()  # records of honest nodes that died too soon
        self.removals: dict[str, dict[bytes, dict[int, int]]] = {}  # author → document → seqs
        self.mesh = ""
        self.stolen: dict[bytes, tuple[str, bytes]] = {}  # record → its author, a key given up
        self._lives: dict[bytes, int] = {}  # record → its author's incarnation
        self._granted: dict[str, list[Grant]] = {}
        self._laws: dict[bytes, Law] = {}
        self._lines: dict[bytes, Line] = {}
        self.liars: set[bytes] = set()
        self.forkers: set[str] = set()
        self.refusals: Counter[str] = Counter()
        self.completed_at: dict[tuple[str, bytes], float] = {}  # node, blob → when
        self._finishing: set[tuple[str, bytes]] = set()
        self._stalled: set[tuple[str, int, int]] = set()  # node, life, request: not waited for
        self._sure: dict[tuple[str, bytes], tuple[bytes, int]] = {}
        self.grants = Grants()
        self._heads: dict[str, dict[Key, int]] = {}
        self._catalogs: dict[bytes, tuple[bytes, str]] = {}

    # --- every step ----------------------------------------------------------------------------
    def booted(self, node: Subject) -> None:
        """A life begins: its bitmap must be right before anything is believed."""
        self._heads.pop(node.name, None)
        self._finishing = {key for key in self._finishing if key[0] != node.name}
        self._take_unacknowledged(node)
        for blob, part in node.disk.parts.items():
            self._sure.pop((node.name, blob), None)
            for index in bits.members(part.have):
                if not part.holds(index):
                    raise ViolationError(f"{node.name}: after a crash, a bit without its data")

    def _take_unacknowledged(self, node: Subject) -> None:
        """Whoever dies after a commit and before it can say so has written all the same."""
        records = schema.facts.tables["records"].c
        query = sa.select(records.id).where(records.author == node.identity.node)
        found = {bytes(row[0]) for row in node.disk.port.look(lambda c: c.execute(query).all())}
        if node.honest:
            self.unacknowledged |= found - self.written.keys()

    def stepped(self, node: Subject) -> None:
        """Look at a node after anything it did."""
        if node.honest and node.alive:
            self._check_links(node)
            self._check_requests(node)
            self._check_serving(node)
            self._check_heads(node)
            for blob, download in node.life.transfers.exchange.downloads.items():
                if download.open and download.manifest is not None:
                    self._check_download(node, blob, download)

    def _check_links(self, node: Subject) -> None:
        """The cores know who is linked, neither more nor less."""
        life = node.life
        linked = set(life.links.control)
        for peer, belief in life.transfers.exchange.peers.items():
            if belief.linked is not (peer in linked):
                raise ViolationError(f"{node.name}: wrong about the link to {node.places[peer]}")
        if set(life.ledgers.core._peers) != linked:  # noqa: SLF001  no other way to look
            raise ViolationError(f"{node.name}: synchronises with who is not linked")

    def _check_requests(self, node: Subject) -> None:
        """What is awaited is what was asked, of peers that can answer, within bounds."""
        exchange = node.life.transfers.exchange
        owed: Counter[bytes] = Counter()
        for download in exchange.downloads.values():
            for request in download.requests.values():
                owed[request.peer] += request.size
        for peer, belief in exchange.peers.items():
            place = node.places[peer]
            if belief.outstanding != owed[peer]:
                raise ViolationError(
                    f"{node.name}: believes that {place} owes {belief.outstanding} bytes, "
                    f"but its requests add up to {owed[peer]}"
                )
            if owed[peer] and not (belief.linked and belief.bulk == OPEN):
                raise ViolationError(f"{node.name}: waits for {place}, which is not linked")
            if belief.outstanding > WINDOW_MAX + SLACK:
                raise ViolationError(f"{node.name}: too much in flight from {place}")
        if owed.total() > BUDGET_MAX + SLACK:
            raise ViolationError(f"{node.name}: {owed.total()} bytes in flight")
        interests = exchange.finding.interests
        counts = Counter(peer for of_blob in interests.values() for peer in of_blob)
        for peer, count in exchange.finding.counts.items():
            if counts[peer] != count:
                raise ViolationError(f"{node.name}: counts {count} interests, has {counts[peer]}")

    def _check_serving(self, node: Subject) -> None:
        for peer, connection in node.life.links.bulk.items():
            serving = connection.serving
            if not -CHUNK_MAX <= serving.credit <= CREDIT_MAX or len(serving) > REQUESTS_MAX:
                raise ViolationError(f"{node.name}: queue or credit of {node.places[peer]}")

    def _check_heads(self, node: Subject) -> None:
        """What a node says of its ledgers never shrinks in its life, but by what thieves wrote."""
        before = self._heads.setdefault(node.name, {})
        robbed = {author for author, _ in self.stolen.values()}
        for key, (seq, _) in node.life.ledgers.core.heads.items():
            if seq < before.get(key, 0) and key[0].hex() not in robbed:
                raise ViolationError(f"{node.name}: its ledger of {key[0].hex()[:8]} shrank")
            before[key] = seq

    def _check_download(self, node: Subject, blob: bytes, download: Download) -> None:
        """Bits imply data; nothing is both here and awaited from two that move."""
        part = node.disk.parts.get(blob)
        if part is None or part.manifest.id != download.manifest_id:
            if (node.name, blob) not in self._finishing:
                raise ViolationError(f"{node.name}: fetches into a blob that is not open")
            return
        twins = any(len(places) > 1 for places in part.twins.values())  # come with each other
        if download.have & ~part.have or (download.have & download.writing and not twins):
            raise ViolationError(f"{node.name}: believes in chunks that did not verify")
        known, sure = self._sure.get((node.name, blob), (b"", 0))
        if known != part.manifest.id:
            sure = 0
        for index in bits.members(download.have & ~sure):
            if not part.holds(index):
                raise ViolationError(f"{node.name}: a bit without its data")
        self._sure[node.name, blob] = (part.manifest.id, download.have)
        self._check_copies(node, download)

    def _check_copies(self, node: Subject, download: Download) -> None:
        peers = node.life.transfers.exchange.peers
        once = twice = 0
        for request in download.requests.values():
            if not request.chunks or request.chunks >> download.count:
                raise ViolationError(f"{node.name}: a request for chunks that do not exist")
            key = (node.name, node.lives, request.id)
            if peers[request.peer].snubbed:
                self._stalled.add(key)  # its peer may move again one day, beside whoever stands in
            elif key not in self._stalled:
                if request.chunks & twice:
                    raise ViolationError(f"{node.name}: a chunk is asked for three times at once")
                twice |= request.chunks & once
                once |= request.chunks

    # --- chunks --------------------------------------------------------------------------------
    def served(self, node: Subject, piece: Piece, data: bytes) -> None:
        """An honest node sends chunks: they must be those of the manifest it was asked under."""
        download = node.life.transfers.exchange.downloads.get(piece.blob)
        manifest = download.manifest if download is not None else None
        if manifest is None and piece.blob in node.disk.whole:
            manifest = node.disk.whole[piece.blob][0]
        elif manifest is None:  # it was given up while this was read
            manifest = node.disk.parts[piece.blob].manifest
        base = manifest.offset(piece.first)
        for index in range(piece.first, piece.first + piece.count):
            part = data[manifest.offset(index) - base : manifest.offset(index + 1) - base]
            if hashlib.sha256(part).digest() != manifest.chunks.sha256(index):
                raise ViolationError(f"{node.name}: serves a chunk that does not verify")

    def finishing(self, node: Subject, blob: bytes) -> None:
        """A node says that it has every chunk."""
        key = (node.name, blob)
        if key in self._finishing or key in self.completed_at:
            raise ViolationError(f"{node.name}: completes a blob twice")
        self._finishing.add(key)

    def refuted(self, node: Subject, blob: bytes) -> None:
        """The whole was not what it should be: only a liar's manifest leads there."""
        self._finishing.discard((node.name, blob))
        if not self.liars:
            raise ViolationError(f"{node.name}: every chunk verified, the whole is wrong")

    def given_up(self, node: Subject, blob: bytes) -> None:
        """The disk refused."""
        self._finishing.discard((node.name, blob))

    def completed(self, node: Subject, blob: bytes) -> None:
        """A blob is published on a node."""
        if node.disk.whole[blob][1] != self.blobs[blob][1]:
            raise ViolationError(f"{node.name}: published wrong bytes")
        self.completed_at[node.name, blob] = node.world.now
        self._finishing.discard((node.name, blob))

    def dropped(self, node: Subject, blob: bytes) -> None:
        """A courier has let go of a blob, which others hold; it may carry it again."""
        self.completed_at.pop((node.name, blob), None)

    # --- records -------------------------------------------------------------------------------
    def appended(self, node: Subject, records: Sequence[bytes], seq: int) -> None:
        """A node has written records, and its ledger let it."""
        first = seq - len(records) + 1
        for number, record in enumerate(records, first):
            self.written[record] = (node.name, node.identity.node, number)
            self._lives[record] = node.life.ledger.incarnation

    def judged(self, node: Subject, peer: bytes, outcome: Outcome) -> None:
        """A batch was judged."""
        if outcome.refused and len(self.refusals) < REFUSALS_KEPT:
            self.refusals[outcome.refused.split(":")[0]] += 1

    def owed(self, members: Collection[str], node: Subject) -> list[bytes]:
        """Return the acknowledged records that must count, as the papers of a node have it.

        Those of members that nobody removed; of who was, what the removing node had seen.
        """
        documents, found = self.law(node).documents, []
        for record, (_, author, seq) in self.written.items():
            removals = [s for id_, s in self.removals.get(author, {}).items() if id_ in documents]
            life = self._lives.get(record, 0)
            reach = min((seqs.get(life, 0) for seqs in removals), default=seq)
            if seq <= reach and (removals or author in members):
                found.append(record)
        return found

    def linked(self, node: Subject, peer: bytes) -> None:
        """A control link is up."""

    def counting(self, node: Subject) -> set[bytes]:
        """Return the records that count on a node."""
        records = schema.facts.tables["records"].c
        return {
            bytes(r[0]) for r in _rows(node, sa.select(records.id).where(records.status == VALID))
        }

    def stored(self, node: Subject) -> set[bytes]:
        """Return all records that a node has."""
        return {bytes(r[0]) for r in _rows(node, sa.select(schema.facts.tables["records"].c.id))}

    def lost(self, node: Subject, owed: Sequence[bytes]) -> int:
        """Return how many of these records do not count on a node."""
        return len(set(owed) - self.counting(node))

    def grant(self, node: str, roles: Sequence[str], scopes: Sequence[str]) -> None:
        """The plan gives a node these rights, at most, at some time."""
        self._granted.setdefault(node, []).append((frozenset(roles), tuple(scopes)))

    def law(self, node: Subject) -> Law:
        """Return what the papers that a node holds give to whom.  Raises ViolationError."""
        mesh = node.life.ledger.mesh
        tables = [schema.facts.tables[name].c for name in ("roots", "statements")]
        columns = tables[0].document, tables[1].data
        kinds = sa.true(), tables[1].kind != PROPOSAL
        papers = [
            [
                bytes(row[0])
                for row in _rows(node, sa.select(column).where(table.mesh == mesh, kind))
            ]
            for table, column, kind in zip(tables, columns, kinds, strict=True)
        ]
        name = hashlib.sha256(b"".join([*sorted(papers[0]), b"|", *sorted(papers[1])])).digest()
        if name not in self._laws:
            try:
                self._laws[name] = Law(mesh, *papers)
            except Unlawful as error:
                raise ViolationError(f"{node.name} believes {error}") from None
            if mesh == self.mesh:
                self._check_grants(node, self._laws[name])
        return self._laws[name]

    def _check_grants(self, node: Subject, law: Law) -> None:
        """Nobody has ever got more than the plan once gave."""
        for entry in law.everybody():
            given = self._granted.get(entry.node)
            if given and not any(entry.within(each) for each in given):
                raise ViolationError(f"{node.name}: {entry.node[:8]} has got {entry[2:4]}")

    def survey(self, node: Subject) -> tuple[bytes, str]:
        """Look at all that counts on an honest node; return digests of its records and catalog."""
        law = self.law(node)
        records = schema.facts.tables["records"].c
        query = sa.select(records.id, records.author, records.incarnation, records.seq)
        rows = node.disk.port.look(
            lambda connection: connection.execute(
                query.where(records.status == VALID).order_by(records.id)
            ).all()
        )
        self._read([bytes(row[0]) for row in rows], node)
        for row in rows:
            self._check_record(node, law, bytes(row[0]))
        self._check_keys(node, law)
        self._check_chains(node)
        return self._check_catalog(node, law, [bytes(row[0]) for row in rows])

    def _read(self, ids: Sequence[bytes], node: Subject) -> None:
        """Learn what records say that have not been seen before."""
        new = [id_ for id_ in ids if id_ not in self._lines]
        records = schema.facts.tables["records"].c
        query = sa.select(records.id, records.header, records.body)
        for start in range(0, len(new), 500):
            part = query.where(records.id.in_(new[start : start + 500]))
            rows = _rows(node, part)
            self._lines.update({bytes(i): line_of(bytes(h), b and bytes(b)) for i, h, b in rows})

    def _check_record(self, node: Subject, law: Law, record: bytes) -> None:
        """One that counts was really written, by one who might, and before it was shut out."""
        line = self._lines[record]
        who = f"{node.name}: counts record {line.seq} of"
        if record in self.stolen:
            author, key = self.stolen[record]
            kept = law.checkpointed(author, line.incarnation, line.seq, key)
            if (author, key) in law.rotations and not kept:
                raise ViolationError(f"{who} {author[:8]}, by a key that was given up")
        elif record not in self.written and record not in self.unacknowledged:
            raise ViolationError(f"{who} {line.author[:8]}, which had no right to be")
        if not law.allows(line):
            raise ViolationError(f"{who} {line.author[:8]}, which its papers do not give")
        removals = self.removals.get(line.author, {})
        seqs = [removals[id_].get(line.incarnation, 0) for id_ in removals if id_ in law.documents]
        if seqs and line.seq > min(seqs) and record not in self.stolen:
            raise ViolationError(f"{who} removed {line.author[:8]}")

    def _check_chains(self, node: Subject) -> None:
        """No record is stored without all that its author wrote before it."""
        records = schema.facts.tables["records"].c
        chain = (records.author, records.incarnation)
        query = sa.select(*chain, sa.func.count(), sa.func.max(records.seq)).group_by(*chain)
        for author, _, count, last in node.disk.port.look(lambda c: c.execute(query).all()):
            if count != last:
                raise ViolationError(f"{node.name}: stores {author[:8]} up to {last} with a gap")

    def _check_keys(self, node: Subject, law: Law) -> None:
        """Every chain ends under the key that was its author's there."""
        heads = schema.facts.tables["heads"].c
        query = sa.select(heads.author, heads.incarnation, heads.seq, heads.key)
        rows = node.disk.port.look(lambda c: c.execute(query.where(heads.seq > 0)).all())
        for author, incarnation, seq, key in rows:
            if not law.signs(author, incarnation, seq, bytes(key)):
                raise ViolationError(
                    f"{node.name}: believes record {seq} of {author[:8]} under a wrong key"
                )

    def _check_catalog(self, node: Subject, law: Law, valid: Sequence[bytes]) -> tuple[bytes, str]:
        """Equal records, roots and forks give equal catalogs, wherever and whenever."""
        forks = node.disk.port.look(forks_of)
        roots = sorted(law.documents)
        state = hashlib.sha256(b"".join(valid) + b"|" + b"".join(roots) + repr(forks).encode())
        tables = node.disk.port.look(_catalog)
        catalog = hashlib.sha256(tables.encode()).hexdigest()[:16]
        known = self._catalogs.setdefault(state.digest(), (catalog.encode(), node.name))
        if known[0] != catalog.encode():
            raise ViolationError(f"{node.name} and {known[1]}: equal records, different catalogs")
        return state.digest(), catalog


def _rows(node: Subject, query: sa.Select[Any]) -> Sequence[Any]:
    return node.disk.port.look(lambda connection: connection.execute(query).all())


def _catalog(connection: sa.Connection) -> str:
    """Return the whole catalog as text, the same for equal catalogs."""
    lines = []
    for name in CATALOG:
        rows = connection.execute(sa.select(schema.facts.tables[name]))
        lines += sorted(f"{name} {tuple(row)!r}" for row in rows)
    return "\n".join(lines)
