"""The ledger's shell: appending, ranges, applying, authority, incarnations."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from store import revising, root
from store.errors import DeniedError, RejectedError, UnavailableError, VersionExistsError
from store.facts import Delete, Flag, Point, Restore, Setting
from store.ledger import Ledger
from store.records import BATCH_MAX, canonical
from tests.store.ledgers import NOW, Clock, MemoryPort, deliver, identity, mesh, publish, single


async def test_an_append_is_a_signed_record_and_a_catalog_row() -> None:
    node = await single()
    record = await node.append(publish("a/1.txt", "hello"))
    (row,) = node.rows("files")
    assert (row["path"], row["size"], row["record"]) == ("a/1.txt", 5, record)
    assert node.rows("packages")[0] | {"hlc": 0} == {
        "repository": "generic",
        "package": "demo",
        "files": 1,
        "size": 5,
        "hlc": 0,
    }
    heads = await node.ledger.heads()
    assert heads == {(node.ledger.node, node.ledger.incarnation): (1, record)}


async def test_a_failing_check_leaves_no_trace() -> None:
    node = await single()

    def check(connection: sa.Connection) -> None:
        raise VersionExistsError("taken")

    with pytest.raises(VersionExistsError):
        await node.ledger.append([publish("a")], actor="me", check=check)
    assert node.rows("records") == node.rows("files") == []


async def test_records_travel_and_replays_change_nothing() -> None:
    first, second, third = await mesh(3)
    for number in range(5):
        await first.append(publish(f"f{number}", str(number)))
    await first.append(Point("generic", "demo", "latest", b"4"))
    await deliver(first, second)
    await deliver(second, third)  # over a node in between
    assert third.catalog() == first.catalog()
    before = third.catalog()
    outcomes = await third.ledger.apply(await first.batches())
    assert not any(outcome.stored or outcome.refused for outcome in outcomes)
    assert third.catalog() == before


async def test_range_answers_end_on_signed_heads_within_a_frame() -> None:
    node = await single()
    value = bytes(20_000)
    await node.ledger.append(
        [Point("r", "p", f"n{number}", value) for number in range(9)], actor="me"
    )
    key = (node.ledger.node, node.ledger.incarnation)
    batches = await node.chain(*key, max_bytes=BATCH_MAX)
    assert len(batches) > 2
    assert all(len(canonical.encode(batch)) <= 64 << 10 for batch in batches)
    assert sum(len(batch.records) for batch in batches) == (await node.ledger.heads())[key][0]
    assert await node.ledger.range(*key, 100) is None


async def test_a_delete_hides_and_burns_and_restore_undoes() -> None:
    node = await single()
    await node.append(publish("a", "one"))
    await node.append(Delete("generic", "a", ()))
    assert node.rows("files") == node.rows("packages") == []
    (burnt,) = node.rows("burnt")
    assert burnt["digest"] == publish("a", "one").files[0].digest
    await node.append(Restore("generic", "a", ()))
    assert [row["path"] for row in node.rows("files")] == ["a"]
    assert node.rows("burnt") == []


async def test_registers_supersede_what_this_node_knows() -> None:
    node = await single()
    for value in (b"1", b"2", None, b"3"):
        last = await node.append(Point("r", "p", "latest", value))
    (row,) = node.rows("pointers")
    assert (row["value"], row["records"]) == (b"3", last)
    await node.append(Flag("r", "p", "1", "", "yanked", b"bad"))
    assert [row["value"] for row in node.rows("flags")] == [b"bad"]
    await node.append(Flag("r", "p", "1", "", "yanked", None))
    assert node.rows("flags") == []


async def test_joining_takes_content_along_and_leaves_settings_behind() -> None:
    clock = Clock()
    joiner = await single(9, clock)
    await joiner.append(publish("mine", "bytes"), Setting("user", "admin", b'{"evil":true}'))
    await joiner.append(Point("generic", "demo", "latest", b"mine"))
    await joiner.append(Point("generic", "demo", "latest", b"mine2"))
    owner, member = await mesh(2)
    await owner.append(Setting("user", "admin", b"{}"))
    from store import root
    from tests.store.ledgers import revise

    everyone = [*owner.ledger.authority.members().values(), root.member_of(joiner.identity)]
    await revise(owner, everyone)
    old = joiner.ledger.incarnation
    await joiner.ledger.rebase(await owner.ledger.roots())
    assert joiner.ledger.incarnation > old
    assert joiner.ledger.mesh == owner.ledger.mesh
    assert [row["path"] for row in joiner.rows("files")] == ["mine"]
    assert joiner.rows("settings") == []
    await deliver(joiner, owner)
    await deliver(owner, joiner)
    await deliver(owner, member)
    assert [row["value"] for row in owner.rows("settings")] == [b"{}"]
    assert owner.rows("pointers")[0]["value"] == b"mine2"
    assert owner.rows("pointers")[0]["siblings"] == canonical.encode([])
    assert owner.catalog() == joiner.catalog() == member.catalog()


async def test_what_may_not_be_written_is_refused_before_it_is_signed() -> None:
    owner, other = await mesh(2, roles=("writer",))
    with pytest.raises(DeniedError):
        await other.append(Setting("user", "me", b"{}"))
    with pytest.raises(RejectedError):
        await owner.append(publish("nul\0"))
    assert other.rows("settings") == []


async def test_an_authority_that_could_not_be_read_after_a_commit_is_read_later() -> None:
    class Port(MemoryPort):
        broken = False

        async def read(self, unit):
            if self.broken:
                raise UnavailableError("input/output error")
            return await super().read(unit)

    port = Port()
    owner = identity(1)
    ledger = Ledger(port, owner, clock=lambda: NOW)
    await ledger.initialise()
    members = [root.member_of(owner, roles=root.ROLES), root.member_of(identity(2))]
    draft = revising.revise(
        ledger.mesh, ledger.authority.in_force, members=members, heads={}, now=NOW
    )
    port.broken = True
    with pytest.raises(UnavailableError):
        await ledger.adopt(root.sign(draft, owner))  # committed all the same
    assert ledger.authority.version == 1
    port.broken = False
    await ledger.recheck()
    assert ledger.authority.version == 2
    port.engine.dispose()
