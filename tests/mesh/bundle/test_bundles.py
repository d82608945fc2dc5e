"""Bundles from node to node: whole, in part, twice, out of order, damaged and forged."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from mesh.bundle.codec import Reader, Writer, encode
from mesh.bundle.parts import (
    Blob,
    Chunks,
    Closing,
    End,
    Head,
    Opening,
    Records,
    read_head,
    sign_end,
    sign_head,
)
from mesh.shell.exporting import Wish
from store import canonical
from store.digest import Digest
from store.errors import RejectedError
from store.records import read_batch
from tests.mesh.bundle.nodes import Place, places
from tests.store.ledgers import identity

BIG = random.Random(1).randbytes(1_500_000)


def parts(bundle: bytes) -> list[Any]:
    reader = Reader()
    reader.feed(bundle)
    return list(reader)


def forge(bundle: bytes, change: Any, signer: int = 1) -> bytes:
    """The bundle with other parts, signed as a whole by a member that lies."""
    head, *middle, _ = parts(bundle)
    who = identity(signer)
    writer = Writer()
    out = writer.begin() + writer.write(head)
    out += b"".join(writer.write(part) for part in change(middle))
    closing = Closing(head.id, 0, 0, 0, 0, 0, 0, writer.digest)
    return out + writer.finish(sign_end(closing, who))


async def bytes_of(place: Place, digest: Digest) -> bytes:
    async with place.store.read(digest) as blocks:
        return b"".join([block async for block in blocks])


async def test_what_one_node_has_the_other_gets_without_meeting_it(tmp_path: Path) -> None:
    a, b = await places(tmp_path, 2)
    small, big = await a.publish("small", b"x" * 1000), await a.publish("big", BIG)
    bundle = await a.export()
    report = await b.take(bundle, piece=7000)
    assert report.complete
    assert (report.blobs, report.size) == (2, len(BIG) + 1000)
    assert (report.refused, report.gaps, report.unnamed_blobs) == ({}, [], 0)
    assert b.node.catalog() == a.node.catalog()
    assert await bytes_of(b, big) == BIG
    assert await bytes_of(b, small) == b"x" * 1000

    again = await b.take(bundle)
    assert again.complete
    assert (again.records, again.blobs, again.size, again.known_blobs) == (0, 0, 0, 2)


async def test_a_later_bundle_brings_only_what_is_new(tmp_path: Path) -> None:
    a, b = await places(tmp_path, 2)
    await a.publish("one", BIG)
    first = await a.export()
    await b.take(first)
    wish = await b.since()
    await a.publish("two", b"two")
    second = await a.export(wish)
    assert len(second) < 5000
    report = await b.take(second)
    assert (report.records, report.blobs, report.known_records) == (1, 1, 0)
    assert b.node.catalog() == a.node.catalog()


async def test_a_gap_names_what_is_missing_and_is_filled_later(tmp_path: Path) -> None:
    a, b = await places(tmp_path, 2)
    await a.publish("one", b"one")
    first = await a.export()
    wish = await a.since(previous=parts(first)[0].id)
    await a.publish("two", b"two")
    second = await a.export(wish)

    early = await b.take(second)
    assert early.complete
    assert [(g.author, g.have, g.first) for g in early.gaps] == [(a.ledger.node, 0, 2)]
    assert early.previous == parts(first)[0].id.hex()
    assert early.unnamed_blobs == 1
    await b.take(first)
    late = await b.take(second)
    assert not late.gaps
    assert late.blobs == 1
    assert b.node.catalog() == a.node.catalog()


@pytest.mark.parametrize("share", [0.01, 0.2, 0.5, 0.9, 0.9999])
async def test_a_truncated_bundle_is_kept_and_gone_on_with(tmp_path: Path, share: float) -> None:
    a, b = await places(tmp_path, 2)
    for number in range(5):
        await a.publish(f"f{number}", random.Random(number).randbytes(400_000))
    bundle = await a.export()
    cut = int(len(bundle) * share)
    report = await b.take(bundle[:cut])
    assert not report.complete
    assert report.offset <= cut
    assert cut - report.offset < 500_000, "all but the blob under way is behind us"
    done = await b.take(bundle, resume=True)
    assert done.complete
    assert b.node.catalog() == a.node.catalog()
    assert len(b.index.manifests) == 5
    assert done.size == 5 * 400_000, "no chunk is stored twice"


async def test_every_cut_of_a_small_bundle_is_survived(tmp_path: Path) -> None:
    a, b = await places(tmp_path, 2)
    await a.publish("one", b"one")
    bundle = await a.export()
    for cut in range(len(bundle) - 16):
        report = await b.take(bundle[:cut])
        assert not report.complete
    assert (await b.take(bundle)).complete
    assert b.node.catalog() == a.node.catalog()


async def test_a_flipped_bit_anywhere_corrupts_nothing(tmp_path: Path) -> None:
    a, b = await places(tmp_path, 2)
    digest = await a.publish("one", b"one" * 100)
    bundle = await a.export()
    rng = random.Random(3)
    for _ in range(150):
        damaged = bytearray(bundle)
        damaged[rng.randrange(len(bundle) - 16)] ^= 1 << rng.randrange(8)
        try:
            report = await b.take(bytes(damaged))
        except RejectedError:
            continue
        assert not report.complete
    if await b.store.has(digest):
        assert await bytes_of(b, digest) == b"one" * 100
    await b.take(bundle)
    assert b.node.catalog() == a.node.catalog()


async def test_strangers_and_other_meshes_are_refused(tmp_path: Path) -> None:
    a, b = await places(tmp_path, 2)
    await a.publish("one", b"one")
    bundle = await a.export()
    opening = read_head(parts(bundle)[0])
    stranger = identity(99)
    own = Opening(opening.mesh, bytes.fromhex(stranger.node), 0, bytes(16), b"", b"", (), True)
    for said in (opening, own):  # in the name of a member, and in its own
        writer = Writer()
        forged = writer.begin() + writer.write(sign_head(said, stranger))
        forged += b"".join(writer.write(part) for part in parts(bundle)[1:-1])
        with pytest.raises(RejectedError, match="not a member"):
            await b.take(forged)
    foreign = Opening(bytes(32), opening.exporter, 0, bytes(16), b"", b"", (), True)
    writer = Writer()
    with pytest.raises(RejectedError, match="a bundle of mesh"):
        await b.take(writer.begin() + writer.write(sign_head(foreign, identity(1))))
    head = parts(bundle)[0]
    writer = Writer()
    with pytest.raises(RejectedError, match="forged"):
        await b.take(writer.begin() + writer.write(Head(head.opening, head.key, bytes(64))))
    assert not b.node.rows("records")


async def test_a_lying_member_gets_no_blob_in_that_no_record_names(tmp_path: Path) -> None:
    a, b = await places(tmp_path, 2)
    await a.publish("one", b"one")
    bundle = await a.export()
    junk = b"junk" * 1000

    def add(middle: list[Any]) -> list[Any]:
        digest = Digest.of(junk)
        return [*middle, Blob(digest.raw, len(junk), b""), Chunks(0, 1, junk)]

    report = await b.take(forge(bundle, add))
    assert report.complete
    assert report.unnamed_blobs == 1
    assert not await b.store.has(Digest.of(junk))


async def test_wrong_sizes_manifests_and_bytes_are_refused(tmp_path: Path) -> None:
    a, b = await places(tmp_path, 2)
    await a.publish("big", BIG)
    small = await a.publish("small", b"small")
    bundle = await a.export()

    def lie(middle: list[Any]) -> list[Any]:
        out: list[Any] = []
        for part in middle:
            match part:
                case Blob() if part.size == 5:
                    out += [Blob(part.digest, 1 << 40, b""), part]
                case Chunks() if part.raw == b"small":
                    out += [Chunks(0, 1, b"wrong")]
                case Chunks():
                    raw = bytes([part.raw[0] ^ 1]) + part.raw[1:]
                    out += [Chunks(part.first, part.count, raw), Chunks(1 << 20, 1, b"beyond")]
                case _:
                    out.append(part)
        return out

    report = await b.take(forge(bundle, lie))
    assert report.complete
    assert report.blobs == 0
    assert not await b.store.has(small)
    assert set(report.refused) == {
        "chunks with wrong bytes",
        "chunks that the manifest does not list",
        "a blob with wrong bytes",
        "a blob of another size than its record names",
    }
    assert (await b.take(bundle)).blobs == 2
    assert b.node.catalog() == a.node.catalog()


async def test_forged_records_are_refused_and_the_rest_is_taken(tmp_path: Path) -> None:
    a, b = await places(tmp_path, 2)
    await a.publish("one", b"one")
    bundle = await a.export()

    def forged(middle: list[Any]) -> list[Any]:
        record = next(part for part in middle if isinstance(part, Records))
        batch = read_batch(record.batch)
        fake = identity(7).sign(b"anything")
        bad = type(batch)(batch.records, type(batch.head)(*(*_fields(batch.head)[:-1], fake)))
        return [Records(canonical.encode(bad)), Records(b"\x93junk"), *middle]

    report = await b.take(forge(bundle, forged))
    assert sum(report.refused.values()) == 2
    assert report.blobs == 1
    assert b.node.catalog() == a.node.catalog()


def _fields(head: Any) -> tuple[Any, ...]:
    return tuple(getattr(head, name) for name in head.__struct_fields__)


async def test_chunks_of_two_versions_travel_once(tmp_path: Path) -> None:
    a, b = await places(tmp_path, 2)
    await a.publish("one", BIG)
    two = await a.publish("two", BIG[:700_000] + b"changed" + BIG[700_000:])
    twice = await a.publish("twice", BIG * 2)
    bundle = await a.export()
    assert len(bundle) < len(BIG) * 1.6
    report = await b.take(bundle)
    assert (report.blobs, report.partial_blobs) == (3, 0)
    assert await bytes_of(b, twice) == BIG * 2
    assert len(await bytes_of(b, two)) == len(BIG) + 7
    assert report.size < len(BIG) * 1.6


async def test_what_the_target_holds_stays_behind_and_is_listed(tmp_path: Path) -> None:
    a, b = await places(tmp_path, 2)
    big, small = await a.publish("big", BIG), await a.publish("small", b"small")
    a.held_by[b.ledger.node] = {big}
    report = await b.take(await a.export(Wish(every=True, target=b.ledger.node)))
    assert (report.blobs, report.omitted, report.lacking) == (1, 1, 1)
    assert await b.store.has(small)

    report = await b.take(await a.export(Wish(every=True, blobs=False)))
    assert (report.known_records, report.blobs, report.omitted) == (2, 0, 2)
    assert (await b.take(await a.export(await b.since(lacking=(big.raw,))))).blobs == 1


async def test_an_end_of_another_bundle_is_not_taken_for_its_own(tmp_path: Path) -> None:
    a, b = await places(tmp_path, 2)
    await a.publish("one", b"one")
    first, second = await a.export(), await a.export()
    end = parts(second)[-1]
    assert isinstance(end, End)
    spliced = first[: first.rindex(encode(parts(first)[-1]))] + encode(end)
    with pytest.raises(RejectedError, match=r"not the bundle that was signed|forged"):
        await b.take(spliced)
