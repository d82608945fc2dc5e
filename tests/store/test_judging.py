"""Verdicts: what becomes of a record whose place is proven."""

from __future__ import annotations

import hashlib

import msgspec
import pytest

from store import canonical, hlc, judging, root
from store.authority import Authority
from store.chain import HELD, REFUSED, VALID
from store.facts import Body, Fact
from store.judging import Verdict
from store.records import CONTENT, ZERO, Header, build
from store.root import read_document
from tests.store.ledgers import NOW, deliver, identity, mesh, publish, revise

ME = identity(1)
FOUNDING = root.genesis(ME, now=NOW, nonce=b"n")
MESH = FOUNDING.id.hex()
AUTHORITY = Authority(MESH, {FOUNDING.id: read_document(FOUNDING.document)})


def verdict(
    *facts: Fact, body: bytes | None = None, fork: int | None = None, **changes: object
) -> Verdict:
    data = canonical.encode(Body("me", facts)) if body is None else body
    header = Header(
        ME.node,
        1,
        3,
        ZERO,
        hlc.stamp(NOW),
        MESH,
        1,
        CONTENT,
        "generic",
        hashlib.sha256(data).digest(),
    )
    record = build(msgspec.structs.replace(header, **changes), data)
    return judging.judge(record, AUTHORITY, now=NOW, fork=fork)


def test_what_its_author_may_say_is_valid() -> None:
    found = verdict(publish("a"))
    assert (found.status, found.reason, found.facts) == (VALID, "", (publish("a"),))


def test_each_reason_is_told() -> None:
    assert verdict(publish("a"), fork=3)[:2] == (REFUSED, "its author's chain forks at seq 3")
    assert verdict(publish("a"), fork=4).status == VALID
    newer = canonical.encode(["me", [[99, "x"]]])
    assert verdict(body=newer).reason.startswith(judging.NEWER)
    assert verdict(body=b"\x01").status == REFUSED
    assert (
        verdict(publish("a"), scope="other").reason == "a fact outside its record's kind or scope"
    )
    assert verdict(publish("a"), mesh="ab" * 32).reason == "written in another mesh"
    assert verdict(publish("a"), author="cd" * 32).status == REFUSED
    assert verdict(publish("a"), root_version=2).status == HELD
    ahead = verdict(publish("a"), hlc=hlc.bound(NOW) + 1)
    assert (ahead.status, ahead.facts) == (HELD, (publish("a"),))
    assert verdict(publish("a"), hlc=hlc.bound(NOW)).status == VALID


def test_a_refusal_outweighs_a_wait() -> None:
    found = verdict(publish("a"), mesh="ab" * 32, hlc=hlc.bound(NOW) + 1)
    assert found.status == REFUSED


async def test_judging_again_pages_through_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "PAGE", 5)
    owner, other, reader = await mesh(3)
    await other.append(*(publish(f"f{n}", repository=f"r{n}") for n in range(12)))
    await deliver(other, reader)
    assert len(reader.rows("files")) == 12
    members = owner.ledger.authority.members()
    del members[other.ledger.node]
    await revise(owner, members.values())  # the owner knows none of it, so none of it counts
    await deliver(owner, reader)
    assert reader.catalog() == owner.catalog()
    assert reader.rows("files") == reader.rows("packages") == reader.rows("claims") == []
    assert {row["status"] for row in reader.rows("records")} == {REFUSED}


async def test_an_upgrade_takes_what_was_not_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    owner, reader = await mesh(2)
    await owner.append(publish("a"))

    def older(body: bytes) -> Body:
        raise canonical.UnknownTagError("fact type 1 needs a newer version")

    with monkeypatch.context() as patch:
        patch.setattr(judging, "read_body", older)
        await deliver(owner, reader)
        assert await reader.ledger.recheck(upgraded=True) == 0
    assert reader.rows("files") == []
    (status,) = await reader.ledger.authors_status()
    assert "newer version" in next(iter(status.reasons))
    await reader.ledger.initialise()
    assert reader.catalog() == owner.catalog()
