"""Changes of life: joining a mesh, renewing an incarnation."""

from __future__ import annotations

import pytest

from store import rebase, root
from store.errors import RejectedError
from store.facts import Confirm, Delete, Point, Restore
from tests.store.ledgers import Node, deliver, file, mesh, publish, revise, single


async def join(owner: Node, joiner: Node, **rights: object) -> None:
    members = [
        *owner.ledger.authority.members().values(),
        root.member_of(joiner.identity, **rights),  # type: ignore[arg-type]  # keywords of member_of
    ]
    await revise(owner, members)
    await joiner.ledger.rebase(await owner.ledger.roots())


async def test_history_is_written_again_and_reads_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rebase, "FLUSH", 3)  # so that what names earlier records crosses a flush
    (owner,) = await mesh(1)
    joiner = await single(9, owner.clock)
    first = await joiner.append(publish("a"))
    await joiner.append(publish("gone"), publish("back"))
    await joiner.append(Delete("generic", "gone", ()), Delete("generic", "back", ()))
    await joiner.append(Confirm("generic", "a", first), Restore("generic", "back", ()))
    for number in range(5):
        await joiner.append(Point("generic", "demo", "latest", b"%d" % number))
    before = joiner.catalog()
    await join(owner, joiner)
    after = joiner.catalog()
    assert [row["path"] for row in after["files"]] == ["a", "back"]
    for table in ("files", "packages", "pointers"):
        volatile = {"record", "records"}
        assert [
            {name: value for name, value in row.items() if name not in volatile}
            for row in sorted(after[table], key=lambda row: row["hlc"])
        ] == [
            {name: value for name, value in row.items() if name not in volatile}
            for row in sorted(before[table], key=lambda row: row["hlc"])
        ]  # their times included: a joiner does not look newer than it is
    assert after["burnt"][0]["digest"] == file("gone").digest
    await deliver(joiner, owner)
    assert owner.catalog() == joiner.catalog()


async def test_what_the_new_mesh_gives_no_right_to_stays_behind() -> None:
    (owner,) = await mesh(1)
    joiner = await single(9, owner.clock)
    await joiner.append(publish("a", repository="mine"), publish("b", repository="theirs"))
    await join(owner, joiner, scopes=("mine",))
    assert [row["path"] for row in joiner.rows("files")] == ["a"]
    reasons = [r for status in await joiner.ledger.authors_status() for r in status.reasons]
    assert reasons == ["written in another mesh"]


async def test_an_older_tag_of_a_joiner_does_not_win() -> None:
    (owner,) = await mesh(1)
    joiner = await single(9, owner.clock)
    await joiner.append(Point("generic", "demo", "latest", b"joiner's"))
    owner.clock.now += 60
    await owner.append(Point("generic", "demo", "latest", b"mesh's"))
    owner.clock.now += 60
    await join(owner, joiner)
    await deliver(joiner, owner)
    assert owner.rows("pointers")[0]["value"] == b"mesh's"


async def test_a_new_incarnation_goes_on_beside_the_old_one() -> None:
    (node,) = await mesh(1)
    await node.append(publish("a"))
    old = node.ledger.incarnation
    assert await node.ledger.renew_incarnation() > old
    await node.append(publish("b"))
    assert len(await node.ledger.heads()) == 2
    assert len(node.rows("files")) == 2


async def test_going_home_again_counts_what_was_written_there() -> None:
    (owner,) = await mesh(1)
    joiner = await single(9, owner.clock)
    alone = await joiner.ledger.roots()
    await joiner.append(publish("a"))
    await join(owner, joiner)
    await joiner.append(publish("b"))
    await joiner.ledger.rebase(alone)
    assert sorted({row["path"] for row in joiner.rows("files")}) == ["a", "b"]


def test_a_history_must_verify() -> None:
    with pytest.raises(RejectedError, match="no root document"):
        rebase.verify_history([])
    with pytest.raises(RejectedError):
        rebase.verify_history([b"\x90"])
