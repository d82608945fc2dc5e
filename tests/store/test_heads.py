"""The signed head at the end of what is stored: without it, nobody can have the records from us."""

from __future__ import annotations

import msgspec

from store import canonical
from store.records import Batch, read_records
from tests.store.ledgers import Node, clone, deliver, identity, mesh, publish, revise


async def robbed() -> tuple[Node, Node, list[Batch]]:
    """A reader that knows of the victim's new key only, the victim, and what the thief carries."""
    _, victim, reader = await mesh(3)
    await victim.append(publish("mine"))
    await victim.append(publish("mine too"))
    stolen = await clone(victim)
    await stolen.append(publish("malware"))
    await victim.ledger.council.rotate()
    for document in await victim.ledger.roots():
        await reader.ledger.adopt(document)
    node, life = victim.ledger.node, victim.ledger.incarnation
    return reader, victim, await stolen.chain(node, life, max_bytes=1 << 20)


async def test_records_that_only_a_rotation_vouched_for_get_their_head_later() -> None:
    reader, victim, (whole,) = await robbed()
    (outcome,) = await reader.ledger.apply([whole])
    assert outcome.stored == 2, "the rotation names the second record; the third is the thief's"
    place = (victim.ledger.node, victim.ledger.incarnation)
    assert place not in await reader.ledger.heads()
    grown = reader.ledger.subscribe()
    (outcome,) = await reader.ledger.apply((await victim.batches_of(1 << 20))[-1:])
    assert (outcome.stored, outcome.headed, outcome.refused) == (0, True, "")
    assert (await reader.ledger.heads())[place] == (await victim.ledger.heads())[place]
    grown.receive_nowait()  # or peers would never be told
    (again,) = await reader.ledger.apply((await victim.batches_of(1 << 20))[-1:])
    assert not again.headed


async def test_who_got_the_head_later_can_pass_the_records_on() -> None:
    reader, victim, (whole,) = await robbed()
    await reader.ledger.apply([whole])
    await deliver(victim, reader)
    node, life = victim.ledger.node, victim.ledger.incarnation
    (passed,) = await reader.chain(node, life, max_bytes=1 << 20)
    assert (len(passed.records), passed.head.seq) == (2, 2)


async def test_a_missing_head_is_kept_below_others_so_that_every_range_fits_a_message() -> None:
    """A carrier gave the first half without its head, which a checkpoint vouched for."""
    owner, author, reader, far = await mesh(4)
    for number in range(200):
        await author.append(publish(f"f{number}"))
    first, second = await author.batches_of(60 << 10)
    await owner.ledger.apply([first])
    members = owner.ledger.authority.members()
    narrow = msgspec.structs.replace(members[author.ledger.node], scopes=("other",))
    members[author.ledger.node] = narrow
    await revise(owner, members.values())
    paper = (await owner.ledger.roots())[-1]
    for node in (reader, far):
        await node.ledger.adopt(paper)
    following = read_records(second)[0]
    head = msgspec.structs.replace(
        first.head, seq=first.head.seq + 1, record=following.id, key=identity(77).key
    )
    forged = Batch((*first.records, second.records[0]), head)
    for batch in (forged, second, first):
        await reader.ledger.apply([batch])
    answer = await reader.ledger.range(author.ledger.node, author.ledger.incarnation, 1)
    (outcome,) = await far.ledger.apply([canonical.encode(answer)])
    assert (outcome.refused, outcome.reach) == ("", first.head.seq)
