"""Records: golden ids and signatures, and everything a batch may get wrong."""

from __future__ import annotations

import hashlib

import msgspec
import pytest

from store import canonical
from store.errors import RejectedError
from store.facts import Body, Delete, Fact, File, Flag, Point, Publish, Setting, Used
from store.records import (
    BODY_MAX,
    CONTENT,
    ZERO,
    Batch,
    Header,
    Record,
    build,
    head_holds,
    read_batch,
    read_body,
    read_header,
    read_records,
    sign_head,
    split_facts,
)
from tests.store.ledgers import file, identity

ME = identity(1)


def record(seq: int = 1, prev: bytes = ZERO, path: str = "a", incarnation: int = 7) -> Record:
    body = canonical.encode(
        Body(
            "alice",
            (Publish("generic", "demo", "1", (File(path, "file", "sha256:" + "ab" * 32, 3),)),),
        )
    )
    header = Header(
        author=ME.node,
        incarnation=incarnation,
        seq=seq,
        prev=prev,
        hlc=(1_700_000_000_000 << 16) + seq,
        mesh="cd" * 32,
        root_version=1,
        kind=CONTENT,
        scope="generic",
        body_digest=hashlib.sha256(body).digest(),
    )
    return build(header, body)


def chain(count: int = 3) -> list[Record]:
    made = [record()]
    for number in range(1, count):
        made.append(record(number + 1, made[-1].id, f"a{number}"))
    return made


def batch(records: list[Record]) -> Batch:
    pairs = tuple((r.header_bytes, r.body) for r in records)
    return Batch(pairs, sign_head(records[-1], ME))


def test_golden_identity() -> None:
    assert ME.key.hex() == "544cae853ce39be198bfc435d7e71ead9214a2651ac0d974cb93c13eb33d7ee9"
    assert ME.node == "da354b7ea8e31f5ca81997eda7151568481713e420014952a3d4faa0c0a5ca10"


def test_golden_record() -> None:
    made = record()
    assert made.header_bytes.hex() == (
        "9b01d9406461333534623765613865333166356361383139393765646137313531353638343831373133"
        "65343230303134393532613364346661613063306135636131300701c420000000000000000000000000"
        "0000000000000000000000000000000000000000cf018bcfe568000001d9406364636463646364636463"
        "646364636463646364636463646364636463646364636463646364636463646364636463646364636463"
        "64636463646364636463640101a767656e65726963c420b5f2f93d42ea1f056f9f3ab3d92c3f580f78b4"
        "2b0d94fd024418481d1322caa0"
    )
    assert made.body is not None
    assert made.body.hex() == (
        "92a5616c696365919601a767656e65726963a464656d6fa1319198a161a466696c65d947736861323536"
        "3a6162616261626162616261626162616261626162616261626162616261626162616261626162616261"
        "626162616261626162616261626162616261626162616203c40090c400a0c2"
    )
    assert made.id.hex() == "15d8ea8bae961bebec39afeb1f06a8d0f0a53ffa79053e7f5588f037f055ec53"
    assert sign_head(made, ME).signature.hex() == (
        "02ef7dcff5090a18b065a2fde91fc07b406fdd26904a86ae06380e3f979c4fc377118bd6fc0faafebbd1"
        "8bf15774676330c5e5d1f503f9e1d060d77498329301"
    )


def test_a_batch_survives_the_wire() -> None:
    made = batch(chain())
    again = read_batch(canonical.encode(made))
    assert again == made
    assert head_holds(again.head)
    assert [r.header.seq for r in read_records(again)] == [1, 2, 3]


def test_headers_of_newer_versions_keep_their_ids() -> None:
    longer = canonical.encode([*canonical.parse(record().header_bytes), "appended"])
    assert read_header(longer) == record().header
    made = Batch(
        ((longer, None),),
        sign_head(Record(hashlib.sha256(longer).digest(), record().header, longer, None), ME),
    )
    assert read_records(made)[0].id == hashlib.sha256(longer).digest()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda b: Batch((), b.head), "empty"),
        (lambda b: Batch(b.records[:-1], b.head), "truncated"),
        (lambda b: Batch((b.records[1], b.records[0], b.records[2]), b.head), "chain breaks"),
        (lambda b: Batch((b.records[0], b.records[2]), b.head), "chain breaks"),
        (
            lambda b: Batch((*b.records[:2], (b.records[2][0], b"\x92\xa0\x90")), b.head),
            "body of seq 3",
        ),
        (lambda b: Batch((*b.records, b.records[2]), b.head), "chain breaks"),
        (
            lambda b: Batch(b.records, msgspec.structs.replace(b.head, author="ab" * 32)),
            "another author",
        ),
        (
            lambda b: Batch(b.records, msgspec.structs.replace(b.head, incarnation=8)),
            "another author",
        ),
        (lambda b: Batch(((b"\x90", None), *b.records[1:]), b.head), "malformed"),
    ],
)
def test_a_batch_that_is_not_a_chain_is_refused(change, reason: str) -> None:
    with pytest.raises(RejectedError, match=reason):
        read_records(change(batch(chain())))


def test_every_bit_of_a_signed_head_matters() -> None:
    head = sign_head(record(), ME)
    assert head_holds(head)
    for field, value in {
        "author": "00" * 32,
        "incarnation": 8,
        "seq": 2,
        "record": bytes(32),
        "key": identity(2).key,
        "signature": bytes(64),
    }.items():
        assert not head_holds(msgspec.structs.replace(head, **{field: value}))


def test_facts_are_grouped_by_kind_and_scope_and_split_by_size() -> None:
    facts = [
        Point("a", "p", "n", b"1"),
        Setting("user", "u", b"{}"),
        Delete("b", "x", ()),
        Flag("a", "p", "1", "", "yanked", b""),
    ]
    groups = [(scope, len(parts)) for _, scope, parts in split_facts(facts)]
    assert groups == [("a", 2), ("", 1), ("b", 1)]
    many = Publish("a", "p", "1", tuple(file(f"f{n}", metadata=bytes(4000)) for n in range(50)))
    parts = [part for _, _, members in split_facts([many]) for part in members]
    assert [f.path for part in parts for f in part.files] == [f"f{n}" for n in range(50)]
    for _, _, members in split_facts([many]):
        body = canonical.encode(Body("x" * 255, tuple(members)))
        assert len(body) <= BODY_MAX
        assert read_body(body).facts == tuple(members)


@pytest.mark.parametrize("known", [Point("a", "p", "n", b"1"), Used("a", ME.node, ())])
def test_a_fact_that_may_be_skipped_hides_no_other(known: Fact) -> None:
    """Each type that there is must be known here, too: uses once waited for a newer version."""
    newer = [0x80 | 9, "whatever it is"]
    told = canonical.parse(canonical.encode(known))
    assert read_body(canonical.encode(["alice", [told, newer]])).facts == (known,)
    with pytest.raises(canonical.UnknownTagError):
        read_body(canonical.encode(["alice", [told, [41]]]))
