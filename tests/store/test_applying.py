"""What peers carry: forged, truncated, replayed, re-ordered, future-dated and forked ledgers."""

from __future__ import annotations

import hashlib

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given, settings

from store import canonical, hlc
from store.facts import Point, Setting
from store.forks import PROOF_MAX
from store.identity import Identity
from store.records import Batch, build, read_header, sign_head
from tests.store.ledgers import (
    NOW,
    Clock,
    Node,
    deliver,
    identity,
    mesh,
    publish,
    revise,
    single,
)


async def pair(count: int = 3) -> tuple[Node, Node, list[Batch]]:
    """Two members; what the first has written, a batch a record, and the second lacks."""
    author, reader = await mesh(2)
    for number in range(count):
        author.clock.now += 1
        await author.append(publish(f"f{number}"))
    return author, reader, await author.batches()


async def refused(node: Node, batch: Batch | bytes, reason: str) -> None:
    """The batch is refused for this reason, visibly, and leaves no trace."""
    before = node.catalog(), node.rows("records"), node.rows("heads")
    (outcome,) = await node.ledger.apply([batch])
    assert reason in outcome.refused
    assert (outcome.stored, outcome.accepted) == (0, 0)
    assert (node.catalog(), node.rows("records"), node.rows("heads")) == before
    if not outcome.refused.startswith("a gap"):
        assert any(reason in status.rejected for status in await node.ledger.authors_status())


def resigned(batch: Batch, signer: Identity, **changes: object) -> Batch:
    """The batch with its last header changed and everything signed again."""
    data, body = batch.records[-1]
    header = msgspec.structs.replace(read_header(data), **changes)
    record = build(header, body or b"")
    head = sign_head(record, signer)
    return Batch((*batch.records[:-1], (record.header_bytes, body)), head)


async def test_forged_heads_are_refused() -> None:
    _, reader, (batch, *_) = await pair()
    forged = msgspec.structs.replace(batch.head, signature=bytes(64))
    await refused(reader, Batch(batch.records, forged), "forged")
    mallory = identity(66)
    await refused(reader, resigned(batch, mallory), "not its author's")
    await refused(reader, resigned(batch, mallory, author=mallory.node), "not a member")


async def test_truncated_reordered_and_tampered_batches_are_refused() -> None:
    author, reader, _ = await pair()
    (whole,) = await author.batches_of(60 << 10)
    first, second, third = whole.records
    await refused(reader, Batch((first, second), whole.head), "truncated")
    await refused(reader, Batch((second, first, third), whole.head), "chain breaks")
    await refused(reader, Batch((first, third), whole.head), "chain breaks")
    tampered = (third[0], canonical.encode(["mallory", []]))
    await refused(reader, Batch((first, second, tampered), whole.head), "not what its header names")
    await refused(reader, b"\x93garbage", "malformed")
    assert (await reader.ledger.apply([whole]))[0].accepted == 3


async def test_gaps_name_what_is_missing() -> None:
    _, reader, batches = await pair()
    (outcome,) = await reader.ledger.apply([batches[2]])
    assert (outcome.resend_from, outcome.reach, outcome.stored) == (1, 0, 0)
    await reader.ledger.apply([batches[0]])
    (outcome,) = await reader.ledger.apply([batches[2]])
    assert (outcome.resend_from, outcome.reach) == (2, 1)
    await refused(reader, batches[2], "a gap")
    assert [o.stored for o in await reader.ledger.apply(batches[1:])] == [1, 1]


async def test_replays_change_nothing() -> None:
    author, reader, batches = await pair()
    await reader.ledger.apply(batches)
    before = reader.catalog(), reader.rows("records"), reader.rows("heads")
    for _ in range(2):
        assert not any(o.stored or o.refused for o in await reader.ledger.apply(batches))
    whole = await author.batches_of(60 << 10)
    assert not any(o.stored or o.refused for o in await reader.ledger.apply([*whole, *batches]))
    assert (reader.catalog(), reader.rows("records"), reader.rows("heads")) == before


async def test_what_overlaps_is_extended() -> None:
    author, reader, batches = await pair()
    await reader.ledger.apply(batches[:2])
    (outcome,) = await reader.ledger.apply(await author.batches_of(60 << 10))
    assert (outcome.stored, outcome.reach) == (1, 3)


async def test_records_from_the_future_are_held_and_counted_later() -> None:
    author, reader = await mesh(2)
    reader.ledger._clock = honest = Clock()  # the author's clock runs 20 minutes ahead
    author.clock.now += 1200
    await author.append(publish("early"))
    (outcome,) = await reader.ledger.apply(await author.batches())
    assert (outcome.accepted, outcome.stored) == (0, 1)
    assert "runs ahead" in outcome.results[0].reason
    assert reader.rows("files") == []
    (status,) = await reader.ledger.authors_status()
    assert (status.held, status.name) == (1, "node1")
    assert any("runs ahead" in reason for reason in status.reasons)
    honest.now += 599
    assert await reader.ledger.recheck() == 0
    honest.now += 2
    assert await reader.ledger.recheck() == 1
    assert reader.catalog() == author.catalog()
    assert (await reader.ledger.authors_status())[0].held == 0


@pytest.mark.parametrize("ahead", [540.0, 1200.0, 1e9])
async def test_a_clock_far_ahead_drags_nobody_along(ahead: float) -> None:
    author, reader = await mesh(2)
    reader.ledger._clock = Clock()
    author.clock.now += ahead
    await author.append(publish("early"))
    await reader.ledger.apply(await author.batches())
    for number in range(3):
        await reader.append(publish(f"mine{number}"))
    own = [row["hlc"] for row in reader.rows("files") if row["path"].startswith("mine")]
    assert len(own) == 3
    assert max(map(hlc.seconds, own)) <= NOW + (ahead if ahead <= 600.0 else 0.0) + 0.1


async def test_a_clock_that_runs_backwards_is_refused() -> None:
    author, reader, batches = await pair()
    await reader.ledger.apply(batches[:2])
    back = resigned(batches[2], author.identity, hlc=hlc.stamp(1.0))
    await refused(reader, back, "backwards")


async def test_forks_are_kept_as_evidence_and_quarantined_from_there_on() -> None:
    author, reader, batches = await pair(4)
    twin = resigned(
        batches[2], author.identity, scope="generic", hlc=read_header(batches[3].records[0][0]).hlc
    )
    await reader.ledger.apply(batches)
    assert len(reader.rows("files")) == 4
    (outcome,) = await reader.ledger.apply([twin])
    assert outcome.forked == 3
    assert sorted(row["path"] for row in reader.rows("files")) == ["f0", "f1"]
    (status,) = await reader.ledger.authors_status()
    assert (status.forked, status.refused) == (3, 2)
    assert any("forks at seq 3" in reason for reason in status.reasons)
    (evidence,) = reader.rows("forks")
    assert len(canonical.parse(evidence["evidence"])) == 2
    (later,) = await reader.ledger.apply([twin])  # nothing more happens
    assert (later.forked, later.stored, len(reader.rows("forks"))) == (3, 0, 1)


async def test_who_forks_ever_earlier_leaves_one_proof() -> None:
    author, reader, batches = await pair(6)
    await reader.ledger.apply(batches)
    for seq in (5, 4, 6, 2):
        late = hlc.stamp(author.clock.now + 5)
        await reader.ledger.apply([resigned(batches[seq - 1], author.identity, hlc=late)])
    (evidence,) = reader.rows("forks")
    assert evidence["seq"] == 2
    assert len(evidence["evidence"]) <= PROOF_MAX
    assert [row["path"] for row in reader.rows("files")] == ["f0"]


async def test_whichever_branch_came_first_the_catalog_is_the_same() -> None:
    author, one = await mesh(2)
    other, third = await single(2, author.clock), await single(2, author.clock)
    for node in (other, third):
        await node.ledger.rebase(await author.ledger.roots())
    for number in range(4):
        author.clock.now += 1
        await author.append(publish(f"f{number}"))
    batches = await author.batches()
    twin = resigned(batches[1], author.identity, hlc=hlc.stamp(author.clock.now + 5))
    await one.ledger.apply([*batches, twin])
    await other.ledger.apply([batches[0], twin, *batches])
    assert one.catalog() == other.catalog()
    assert [row["path"] for row in one.rows("files")] == ["f0"]
    for evidence in await one.ledger.forks():  # a node that saw one branch learns of the other
        assert await third.ledger.accept_fork(evidence)
        assert not await third.ledger.accept_fork(evidence)
    await third.ledger.apply(batches)
    assert third.catalog() == one.catalog()


async def test_evidence_must_be_proven() -> None:
    author, reader, batches = await pair()
    mallory = identity(66)
    twin = resigned(batches[1], mallory, hlc=hlc.stamp(author.clock.now + 5))
    for branches in (
        [batches[1], twin],
        [batches[1], batches[1]],
        [batches[1]],
        [batches[1], batches[2]],
    ):
        proof = canonical.encode(
            [Batch(tuple((h, None) for h, _ in b.records), b.head) for b in branches]
        )
        assert not await reader.ledger.accept_fork(proof)
    assert not await reader.ledger.accept_fork(b"\x90")
    assert reader.rows("forks") == []


async def test_a_branch_whose_start_is_unknown_asks_for_what_is_before() -> None:
    author, reader, batches = await pair(4)
    await reader.ledger.apply(batches[:2])
    twin = resigned(batches[1], author.identity, hlc=hlc.stamp(author.clock.now + 5))
    after = resigned(
        batches[2], author.identity, prev=twin.head.record, hlc=hlc.stamp(author.clock.now + 6)
    )
    (outcome,) = await reader.ledger.apply([after])
    assert "branch" in outcome.refused
    assert outcome.resend_from is not None
    assert outcome.resend_from <= 2
    (outcome,) = await reader.ledger.apply([Batch((*twin.records, *after.records), after.head)])
    assert outcome.forked == 2


async def test_our_own_fork_begins_a_new_incarnation_and_keeps_what_was_published() -> None:
    author, reader, batches = await pair(3)
    await author.append(Setting("user", "me", b"{}"))
    twin = resigned(batches[1], author.identity, hlc=hlc.stamp(author.clock.now + 5))
    before = author.ledger.incarnation
    await author.ledger.apply([twin])
    assert [row["path"] for row in author.rows("files")] == ["f0"]
    author.clock.now += 10
    await author.append(publish("after"))
    assert author.ledger.incarnation > before
    assert sorted(row["path"] for row in author.rows("files")) == ["after", "f0", "f1", "f2"]
    assert len(author.rows("settings")) == 1
    await deliver(author, reader)
    await reader.ledger.apply([twin])
    assert reader.catalog() == author.catalog()


async def test_a_restored_backup_takes_its_own_records_back_from_peers() -> None:
    author, reader, batches = await pair(3)
    await reader.ledger.apply(batches)
    restored = Node(1, author.clock)
    author.port.engine.raw_connection().driver_connection.backup(  # type: ignore[union-attr]  # an open connection has a driver's
        restored.port.engine.raw_connection().driver_connection
    )
    await restored.ledger.initialise(renew=True)
    await author.append(publish("lost at the restore"))
    await deliver(author, reader)
    await restored.append(publish("after the restore"))
    await deliver(restored, reader)
    await deliver(reader, restored)
    assert restored.catalog() == reader.catalog()
    assert not reader.rows("forks")
    assert len(reader.rows("files")) == 5


async def test_withheld_bodies_count_when_they_come() -> None:
    author, reader, batches = await pair(2)
    hollow = [Batch(tuple((h, None) for h, _ in b.records), b.head) for b in batches]
    outcomes = await reader.ledger.apply(hollow)
    assert [o.stored for o in outcomes] == [1, 1]
    assert reader.rows("files") == []
    await reader.ledger.apply(batches)
    assert reader.catalog() == author.catalog()


async def test_bad_bodies_are_refused_and_the_chain_goes_on() -> None:
    author, reader = await mesh(2)
    await author.append(Point("r", "p", "n", b"1"))
    (good,) = await author.batches()
    bodies = {
        b"\x80": "plain values",
        canonical.encode(["me", [[0x33, "newer"]]]): "newer version",
        canonical.encode(["me", [[2, "other", "p", "n", b"1", []]]]): "outside its record",
        canonical.encode(["me", [[2, "r", "p", "\0", b"1", []]]]): "NUL",
        canonical.encode(["me", [[2, "r", "p", "n", b"1", [b"short"]]]]): "no record",
        canonical.encode(["me", [[1, "r", "p", "1", [["a", "f", "md5:00", 1]]]]]): "no digest",
    }
    header = read_header(good.records[0][0])
    previous = bytes(32)
    for seq, (body, reason) in enumerate(bodies.items(), 1):
        record = build(
            msgspec.structs.replace(
                header,
                seq=seq,
                prev=previous,
                hlc=header.hlc + seq,
                body_digest=hashlib.sha256(body).digest(),
            ),
            body,
        )
        previous = record.id
        batch = Batch(((record.header_bytes, body),), sign_head(record, author.identity))
        (outcome,) = await reader.ledger.apply([batch])
        assert (outcome.stored, outcome.accepted, outcome.refused) == (1, 0, "")
        assert reason in outcome.results[0].reason
    assert reader.rows("claims") == []
    (status,) = await reader.ledger.authors_status()
    assert (status.refused, status.seq) == (len(bodies), len(bodies))


async def test_a_chain_begins_at_one_and_names_nothing_before() -> None:
    author, reader, batches = await pair(1)
    await refused(reader, resigned(batches[0], author.identity, seq=0), "before the first")
    await refused(reader, resigned(batches[0], author.identity, prev=bytes([1]) * 32), "before it")


async def test_a_root_document_vouches_where_no_signature_can() -> None:
    owner, leaver, reader = await mesh(3)
    for number in range(3):
        await leaver.append(publish(f"f{number}"))
    members = owner.ledger.authority.members()
    await owner.ledger.apply((await leaver.batches())[:2])
    del members[leaver.ledger.node]
    await revise(owner, members.values())
    await reader.ledger.adopt((await owner.ledger.roots())[-1])
    (whole,) = await leaver.batches_of(60 << 10)  # ends beyond what the document covers
    (outcome,) = await reader.ledger.apply([whole])
    assert (outcome.stored, outcome.reach, outcome.refused) == (2, 2, "")
    assert [row["path"] for row in reader.rows("files")] == ["f0", "f1"]
    # what has no head yet is told to nobody: the head alone is news
    who = (leaver.ledger.node, leaver.ledger.incarnation)
    assert who not in await reader.ledger.heads()
    first, second, _ = await leaver.batches()
    for batch, seq in ((first, 1), (second, 2), (first, 2), (second, 2)):
        (outcome,) = await reader.ledger.apply([batch])
        assert (outcome.stored, outcome.refused) == (0, "")
        assert (await reader.ledger.heads())[who][0] == seq
    assert await reader.chain(*who) == [first, second]


async def test_with_a_pinned_record_no_head_is_kept_that_never_was_its_authors() -> None:
    owner, leaver, reader = await mesh(3)
    await leaver.append(publish("f"))
    (batch,) = await leaver.batches()
    await owner.ledger.apply([batch])
    members = owner.ledger.authority.members()
    del members[leaver.ledger.node]
    await revise(owner, members.values())
    await reader.ledger.adopt((await owner.ledger.roots())[-1])
    for changes in ({"key": identity(9).key}, {"key": owner.identity.key}):
        head = msgspec.structs.replace(batch.head, **changes)
        await refused(reader, Batch(batch.records, head), "not its author's")
    (outcome,) = await reader.ledger.apply([batch])
    assert (outcome.stored, outcome.refused) == (1, "")


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.text(max_size=12)
    | st.binary(max_size=40),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=12,
)
digests = st.just("sha256:" + "ab" * 32) | st.text(max_size=8)
texts = st.sampled_from(["generic", "p", "", "\0", "x" * 2000, "é"])
ids = st.lists(st.just(bytes(32)) | st.binary(max_size=33), max_size=3)
likely = st.one_of(
    st.tuples(
        st.sampled_from([1, 9]),
        texts,
        texts,
        texts,
        st.lists(
            st.tuples(texts, texts, digests, st.integers(-1, (1 << 64) - 1)).map(list), max_size=3
        ),
    ),
    st.tuples(st.just(2), texts, texts, texts, st.none() | st.binary(max_size=9), ids),
    st.tuples(st.just(3), texts, texts, texts, texts, texts, st.none() | st.binary(), ids),
    st.tuples(st.integers(4, 5), texts, texts, ids),
    st.tuples(st.just(6), texts, texts, st.binary(max_size=33)),
    st.tuples(st.just(7), texts, texts, digests, ids),
    st.tuples(st.just(8), texts, texts, st.none() | st.binary(max_size=9), ids),
).map(list)
bodies = st.tuples(texts, st.lists(likely | plain, max_size=4)).map(list) | plain


@settings(max_examples=25, deadline=None)
@given(
    st.lists(bodies, min_size=1, max_size=6),
    st.sampled_from(["generic", "", "p"]),
    st.integers(0, 4),
    st.sampled_from([1, 1 << 62, (1 << 63) - 50]),
)
async def test_whatever_a_member_signs_is_judged_and_nothing_breaks(
    said: list[object], scope: str, kind: int, start: int
) -> None:
    node = await single()
    await node.append(publish("a"))
    (good,) = await node.batches()
    last = read_header(good.records[0][0])
    previous, batches = good.head.record, []
    for number, value in enumerate(said, 1):
        body = canonical.encode(value)
        header = msgspec.structs.replace(
            last,
            seq=1 + number,
            prev=previous,
            hlc=max(last.hlc, start) + number,
            kind=kind,
            scope=scope,
            body_digest=hashlib.sha256(body).digest(),
        )
        record = build(header, body)
        previous = record.id
        batches.append(Batch(((record.header_bytes, body),), sign_head(record, node.identity)))
    outcomes = await node.ledger.apply(batches)
    assert [outcome.stored for outcome in outcomes] == [1] * len(said)
    await node.ledger.authors_status()
    await node.append(publish("b"))


@pytest.mark.parametrize("changes", [{"scope": "nul\0"}, {"kind": 1 << 31}, {"author": "short"}])
async def test_headers_that_no_table_takes_are_refused(changes: dict[str, object]) -> None:
    author, reader, batches = await pair(1)
    bad = resigned(batches[0], author.identity, **changes)
    (outcome,) = await reader.ledger.apply([bad])
    assert outcome.refused
    assert reader.rows("records") == []
