"""Nodes that fetch a delta instead of a blob: fewer bytes, and right ones whatever comes."""

from __future__ import annotations

import io
import random
import zipfile
import zlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import trio
import trio.testing

from mesh.deltas import OFFERS_MAX, TRIES_MAX, Delta, Deltas
from mesh.download import Download
from store import delta
from store.chunking import WHOLE_MAX
from store.chunks import Manifest
from store.delta_forms import Form, Unpacked
from store.digest import Digest
from store.errors import DeltaInvalidError, DeltaUnfitError, StoreFullError
from store.files import FileStore
from store.partial_folder import PartialFolder
from tests.mesh.nodes import Fleet, Node, Offering, until
from tests.mesh.test_service import linked

OLD = random.Random(1).randbytes(4_000_000)


def edited(new: int = 100_000, mark: int = 1) -> bytes:
    """Return bytes of which no chunk is in OLD, though all but ``new`` of them are."""
    data = bytearray(OLD)
    for at in range(0, len(data), 10_000):
        data[at] ^= mark
    return bytes(data[:2_000_000] + random.Random(2).randbytes(new) + data[2_000_000:])


def made(
    old: bytes,
    new: bytes,
    told: tuple[bytes, bytes] | None = None,
    form: Form | None = None,
) -> bytes:
    """Return a delta from ``old`` to ``new`` that says it is one of ``told``."""
    out = bytearray()
    names = [Digest.of(data) for data in told or (old, new)]
    pairs = [(names[0], io.BytesIO(old)), (names[1], io.BytesIO(new))]
    delta.make(pairs[0], pairs[1], out.extend, limit=1 << 30, form=form)
    return bytes(out)


def zipped(text: bytes, level: int = 6) -> bytes:
    """Return a zip file of one member."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=level) as archive:
        archive.writestr(zipfile.ZipInfo("member"), text, zipfile.ZIP_DEFLATED, level)
    return out.getvalue()


async def shelve(node: Node, data: bytes) -> Digest:
    """Put a delta on a node's shelf, whatever it is."""
    assert node.shelf is not None
    async with node.shelf.store.ingest() as ingest:
        await ingest.write(data)
    await node.shelf.keep(ingest.result.digest, 1.0)
    return ingest.result.digest


@asynccontextmanager
async def pair(
    root: Path, new: bytes, *, tls: bool = False
) -> AsyncGenerator[tuple[Fleet, Node, Node, Manifest]]:
    """Run A, which has both versions, and B, which has the old one."""
    async with Fleet(root, tls=tls, deltas=True).open() as fleet:
        a, b = await fleet.node("a"), await fleet.node("b")
        await fleet.join(b, a)
        await linked(a, b)
        for node in (a, b):
            await node.add(OLD)
        yield fleet, a, b, await a.add(new)


async def used(node: Node) -> bool:
    """Tell whether a delta has been used, and is kept."""
    return node.mesh.deltas.used == 1


async def struck(node: Node, times: int) -> bool:
    """Tell how often its peer misbehaved."""
    return [peer.strikes for peer in node.mesh.peers()] == [times]


async def noted(node: Node) -> bool:
    """Tell whether it is noted that its peer gave a delta that is none."""
    return all("gave a delta that is none" in peer.trouble for peer in node.mesh.peers())


def received(node: Node) -> int:
    return sum(peer.received for peer in node.mesh.peers())


@pytest.mark.parametrize("tls", [False, True], ids=["memory", "tls"])
async def test_who_has_the_old_version_fetches_the_delta(tmp_path: Path, tls: bool) -> None:
    new = edited()
    async with pair(tmp_path, new, tls=tls) as (_, a, b, manifest):
        data = made(OLD, new)
        digest = await shelve(a, data)
        assert await b.read(manifest) == new
        await until(lambda: b.has(manifest))
        assert received(b) < len(data) + 10_000 < 0.05 * len(new)
        await until(lambda: used(b))
        assert b.mesh.deltas.spared > 0.9 * len(new)
        assert b.shelf is not None
        assert [each.digest for each in b.shelf.of(manifest.blob.raw)] == [digest]
        assert not await b.store.has(digest)
        assert await b.index.manifest(digest) is None
        told = b.mesh.insight.why(manifest.blob)
        assert told is not None
        assert [event.what for event in told.events if event.what == "delta"] == ["delta"] * 2
        assert isinstance(a.mesh.deltas.shelf, Offering)
        assert manifest.blob.raw in a.mesh.deltas.shelf.wanted


async def test_who_has_it_from_there_offers_it_on(tmp_path: Path) -> None:
    new = edited()
    async with pair(tmp_path, new) as (fleet, a, b, manifest):
        data = made(OLD, new)
        await shelve(a, data)
        await b.mesh.fetch(manifest.blob, size=manifest.size, manifest_id=manifest.id)
        await until(lambda: used(b))
        c = await fleet.node("c")
        await fleet.join(c, a)
        await c.add(OLD)
        await linked(b, c)
        fleet.world.reachable = lambda one, two: "a" not in (one, two)
        await fleet.world.cut("a", "c")
        await fleet.world.cut("a", "b")
        assert await c.read(manifest) == new
        assert received(c) < len(data) + 20_000


async def test_who_lacks_the_old_version_fetches_the_new_one(tmp_path: Path) -> None:
    new = edited()
    async with pair(tmp_path, new) as (_, a, b, manifest):
        await shelve(a, made(OLD, new))
        await b.store.delete(Digest.of(OLD))
        assert await b.read(manifest) == new
        assert received(b) >= len(new)
        assert b.mesh.deltas.used == 0


def hostile(new: bytes) -> dict[str, bytes]:
    other = random.Random(3).randbytes(len(new))
    good = made(OLD, new)
    return {
        "other bytes": made(OLD, edited(0) + new[:100_000], (OLD, new)),
        "another basis": made(other, new, (OLD, new)),
        "cut off": good[: len(good) // 2],
        "damaged": good[:60_000] + b"damage" + good[60_006:],
    }


@pytest.mark.parametrize("kind", ["other bytes", "another basis", "cut off", "damaged"])
async def test_a_wrong_delta_costs_what_it_weighs(tmp_path: Path, kind: str) -> None:
    new = edited()
    bad = hostile(new)[kind]
    async with pair(tmp_path, new) as (_, a, b, manifest):
        await shelve(a, bad)
        assert await b.read(manifest) == new
        await until(lambda: b.has(manifest))
        assert b.mesh.deltas.used == 0
        assert received(b) <= len(new) + len(bad) + 20_000
        if len(bad) < 0.8 * len(new):  # else it was not worth a try
            assert b.mesh.deltas.refused == 1
            await until(lambda: struck(b, 1))
            (peer,) = b.mesh.peers()
            assert "gave a delta that is none" in peer.trouble
        assert b.shelf is not None
        assert not b.shelf.of(manifest.blob.raw)
        assert b.shelf.store.path(Digest.of(bad)) is None


async def test_who_gives_two_bad_deltas_is_banned_as_for_wrong_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "mesh.shell.deltas.best", lambda _, offers, __: offers[0]
    )  # if ever so fast
    news = [edited(), edited(mark=2)]
    async with pair(tmp_path, news[0]) as (_, a, b, first):
        second = await a.add(news[1])
        for new in news:
            await shelve(a, made(OLD, new[:15_000] + b"lie" + new[15_003:], (OLD, new)))
        assert await b.read(first) == news[0]
        await until(lambda: b.has(first))
        await until(lambda: struck(b, 1))
        async with b.mesh._transfers.wanted(second.blob, second.size, second.id):
            await until(lambda: struck(b, 2))
        (peer,) = b.mesh.peers()
        assert "banned as a source" in peer.trouble


def rots(path: Path) -> None:
    """Change one byte of a file, as a disk may."""
    data = bytearray(path.read_bytes())
    data[1_000] ^= 1
    path.chmod(0o600)
    path.write_bytes(data)


async def test_a_bad_disk_of_ones_own_is_not_the_peers_fault(tmp_path: Path) -> None:
    new = edited()
    async with pair(tmp_path, new) as (_, a, b, manifest):
        await shelve(a, made(OLD, new))
        rots(b.store.locate(Digest.of(OLD)))
        assert await b.read(manifest) == new
        await until(lambda: b.has(manifest))
        assert (b.mesh.deltas.used, b.mesh.deltas.refused) == (0, 1)
        await until(lambda: noted(b))
        assert await struck(b, 0)


@pytest.mark.parametrize("why", ["a bad disk", "another zlib"])
async def test_what_a_basis_or_a_packer_may_have_done_is_nobodys_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    rng = random.Random(4)
    words = [rng.randbytes(6) for _ in range(5000)]
    text = b" ".join(rng.choice(words) for _ in range(100_000))
    old, new = zipped(text), zipped(text[:40_000] + b"new" + text[40_000:])
    async with pair(tmp_path, new) as (_, a, b, manifest):
        for node in (a, b):
            await node.add(old)
        form = Unpacked()
        await shelve(a, made(old, new, form=form))
        form.close()
        monkeypatch.setattr("mesh.shell.deltas.best", lambda _, offers, __: next(iter(offers)))
        if why == "a bad disk":
            rots(b.store.locate(Digest.of(old)))
        else:  # for the level 6, what another one makes: fewer bytes, or more
            monkeypatch.setattr(
                "store.delta_forms.packer", lambda _: zlib.compressobj(9, zlib.DEFLATED, -15, 9)
            )
        assert await b.read(manifest) == new
        await until(lambda: b.has(manifest))
        assert (b.mesh.deltas.used, b.mesh.deltas.refused) == (0, 1)
        await until(lambda: noted(b))
        assert await struck(b, 0)


@pytest.mark.parametrize(
    ("error", "work", "size", "strikes"),
    [
        (DeltaUnfitError("it makes other bytes"), 0, 1000, 1),
        (DeltaUnfitError("it makes other bytes"), 1, 1000, 0),
        (DeltaUnfitError("a delta of less than it says"), 1, 1000, 0),
        (DeltaInvalidError("a truncated delta"), 1, 1000, 1),
        (DeltaInvalidError("a truncated delta"), 1, WHOLE_MAX + 1, 0),
    ],
)
async def test_only_what_is_surely_the_offerers_fault_is_a_strike(
    tmp_path: Path, error: DeltaInvalidError, work: int, size: int, strikes: int
) -> None:
    async with pair(tmp_path, b"new") as (_, a, b, manifest):
        download = Download(manifest.blob.raw, manifest.size, b"", False, 0.0)
        offer = Delta(Digest.of(OLD).raw, Digest.of(b"delta").raw, size, work)
        await b.mesh.deltas._blame(a.id, download, offer, error)
        assert await struck(b, strikes)


async def test_a_manifest_on_hearsay_judges_no_delta(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = edited()
    async with pair(tmp_path, new) as (_, a, b, manifest):
        await shelve(a, made(OLD, new))
        asked: list[object] = []
        monkeypatch.setattr("mesh.shell.deltas.best", lambda *told: asked.append(told))
        await b.mesh.fetch(manifest.blob, size=manifest.size)
        assert await b.has(manifest)
        assert not asked
        assert (b.mesh.deltas.used, b.mesh.deltas.refused) == (0, 0)


async def test_a_delta_that_is_nowhere_is_given_up(tmp_path: Path) -> None:
    new = edited()
    async with pair(tmp_path, new) as (_, a, b, manifest):
        assert isinstance(a.mesh.deltas.shelf, Offering)
        a.mesh.deltas.shelf.lies = [(Digest.of(OLD).raw, Digest.of(b"none").raw, 1000, 0)]
        assert await b.read(manifest) == new
        assert b.mesh.deltas.used == 0


async def test_who_lies_about_a_deltas_size_keeps_it_from_nobody(tmp_path: Path) -> None:
    new = edited()
    async with pair(tmp_path, new) as (_, a, b, manifest):
        digest = await shelve(a, made(OLD, new))
        assert isinstance(a.mesh.deltas.shelf, Offering)
        a.mesh.deltas.shelf.lies = [(Digest.of(OLD).raw, digest.raw, 1, 0)]
        async with b.mesh._transfers.wanted(manifest.blob, manifest.size, manifest.id):
            await until(lambda: noted_delta(b, manifest))
            async with b.mesh._transfers.wanted(digest, 0, b"") as coming:  # on nobody's word
                await coming.done.wait()
                assert coming.error is None
            assert b.mesh.deltas.used == 0
            await until(lambda: b.has(manifest))


async def noted_delta(node: Node, manifest: Manifest) -> bool:
    """Tell whether a delta has been taken in hand."""
    told = node.mesh.insight.why(manifest.blob)
    return told is not None and any(event.what == "delta" for event in told.events)


async def test_a_peer_that_names_ever_new_ones_holds_a_blob_back_three_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob, rng = Digest.of(b"nobody has it"), random.Random(5)
    seen: list[bytes] = []

    async def chosen(_peer: bytes, _download: object, _fetch: object, offers: list[Delta]) -> Delta:
        await trio.lowlevel.checkpoint()
        return offers[0]

    async def take(_peer: bytes, _download: object, _fetch: object, offer: Delta) -> None:
        await trio.lowlevel.checkpoint()
        seen.append(offer.delta)

    async with pair(tmp_path, b"") as (_, a, b, _):
        deltas = b.mesh.deltas
        monkeypatch.setattr(deltas, "_chosen", chosen)
        monkeypatch.setattr(deltas, "_take", take)
        async with b.mesh._transfers.wanted(blob, 4_000_000, b""):
            for _ in range(3 * TRIES_MAX):
                offer = Delta(Digest.of(OLD).raw, rng.randbytes(32), 1000)
                deltas.heard(a.id, Deltas(blob.raw, (offer,)))
                await trio.testing.wait_all_tasks_blocked()
    assert len(seen) == TRIES_MAX


async def test_a_disk_that_fails_while_a_delta_is_applied_costs_that_fetch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was told of as here may be lost: the exchange counted it, and the node ended."""
    new, sync = edited(), PartialFolder.sync
    failed: list[int] = []

    def fails_once(files: PartialFolder) -> None:
        if not failed and files.manifest.size == len(new):
            failed.append(1)
            raise StoreFullError("the disk fails")
        sync(files)

    async with pair(tmp_path, new) as (_, a, b, manifest):
        await shelve(a, made(OLD, new))
        monkeypatch.setattr("store.partial.FLUSH_SIZE", 2_000_000)
        monkeypatch.setattr(PartialFolder, "sync", fails_once)
        with suppress(StoreFullError, ExceptionGroup):
            await b.read(manifest)
        assert failed
        assert await b.read(manifest) == new


async def test_a_delta_that_takes_too_long_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new, begun = edited(), trio.Event()
    monkeypatch.setattr("mesh.shell.deltas.patience", lambda *_: 0.05)

    async def trickle(*_: object) -> None:
        begun.set()
        await trio.sleep_forever()

    async with pair(tmp_path, new) as (_, a, b, manifest):
        await shelve(a, made(OLD, new))
        monkeypatch.setattr(b.mesh.deltas, "_apply", trickle)
        assert await b.read(manifest) == new
        assert begun.is_set()
        assert b.mesh.deltas.used == 0
        assert b.mesh.deltas.refused == 0


async def test_no_more_are_offered_than_may_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Deltas] = []
    async with pair(tmp_path, b"new") as (_, a, b, manifest):
        assert isinstance(a.mesh.deltas.shelf, Offering)
        old = Digest.of(OLD).raw
        a.mesh.deltas.shelf.lies = [(old, bytes([n]) * 32, 1000, 0) for n in range(9)]
        with monkeypatch.context() as patch:
            patch.setattr(a.mesh.deltas._links, "send", lambda _, said: sent.append(said))
            a.mesh.deltas.tell(b.id, manifest.blob.raw)
    assert [len(each.offers) for each in sent] == [OFFERS_MAX]


async def test_a_delta_that_is_half_here_is_resumed(tmp_path: Path) -> None:
    new = edited(1_500_000)
    async with pair(tmp_path, new) as (_, a, b, manifest):
        data = made(OLD, new)
        await shelve(a, data)
        other = FileStore(tmp_path / "elsewhere")
        await other.open()
        async with other.ingest() as ingest:
            await ingest.write(data)
        parts = ingest.result.manifest
        partial = await b.mesh._partials.open(parts)  # as a former life has left it
        half = len(parts.chunks) // 2
        for index in range(half):
            await partial.write(index, data[parts.offset(index) : parts.offset(index + 1)])
        await partial.close()
        assert await b.read(manifest) == new
        await until(lambda: used(b))
        assert received(b) <= len(data) - parts.offset(half) + 20_000


async def test_news_of_a_delta_reach_who_fetches_already(tmp_path: Path) -> None:
    new = edited()
    async with pair(tmp_path, new) as (_, a, b, manifest):
        await shelve(a, made(OLD, new))
        a.mesh.deltas.made(manifest.blob.raw)  # nobody looks for it yet
        b.mesh.deltas.shelf = None
        assert await b.read(manifest) == new
        assert b.mesh.deltas.used == 0
