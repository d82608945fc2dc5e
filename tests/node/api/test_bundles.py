"""Bundles over the management API: between two nodes of one mesh that have no network."""

from __future__ import annotations

from pathlib import Path

from mesh.bundle.codec import Reader
from mesh.bundle.parts import Head
from store import revising, root
from store.identity import Identity
from store.root import member_of
from tests.node.world import Answer, World, world

DATA = b"data of a file" * 40_000  # several chunks


async def put(node: World, name: str, data: bytes) -> None:
    headers = {"authorization": f"Bearer {node.token}"}
    answer = await node.ask("PUT", f"/general/generic/demo/1/{name}", data, headers)
    assert answer.status in (200, 201), answer.body


async def befriend(a: World, b: World) -> None:
    """A lists B in its root document; B moves to A's mesh."""
    ledger, other = a.core.ledger, b.core.identity
    assert isinstance(other, Identity)
    members = [*ledger.root.members, member_of(other, roles=root.ROLES)]
    draft = revising.revise(
        ledger.mesh,
        ledger.authority.in_force,
        members=members,
        heads=await ledger.heads(),
        now=1_700_000_000.0,
    )
    await ledger.adopt(root.sign(draft, a.core.identity))
    await b.core.ledger.rebase(await ledger.roots())


async def take(node: World, bundle: bytes, query: str = "", **headers: str) -> Answer:
    pieces = [bundle[at : at + 50_000] for at in range(0, len(bundle), 50_000)]
    control = {"authorization": f"Control {node.core.control.secret}", **headers}
    return await node.ask("POST", f"/api/v1/mesh/bundles{query}", pieces, control)


async def test_a_file_travels_by_bundle(tmp_path: Path) -> None:
    async with world(tmp_path / "a") as a, world(tmp_path / "b") as b:
        await befriend(a, b)
        await put(a, "one.bin", DATA)
        whole = (await a.api("GET", "/mesh/bundles?repositories=generic")).body
        report = (await take(b, whole)).json
        assert report["complete"]
        assert report["blobs"] == 1
        found = await b.ask("GET", "/general/generic/demo/1/one.bin")
        assert found.body == DATA

        standing = (await b.api("GET", "/mesh/standing")).json
        assert standing["lacking"] == []
        await put(a, "two.bin", b"two")
        body = {"since": standing, "repositories": ["*"]}
        news = (await a.api("POST", "/mesh/bundles/exports", body)).body
        assert len(news) < 5000
        assert (await take(b, news)).json["blobs"] == 1
        metrics = b.core.metrics.render().decode()
        assert 'atoll_bundles_total{direction="import",outcome="complete"} 2.0' in metrics
        actions = [entry.action for entry in await b.core.audit.entries()]
        assert "bundle.import" in actions


async def test_an_interrupted_import_goes_on(tmp_path: Path) -> None:
    async with world(tmp_path / "a") as a, world(tmp_path / "b") as b:
        await befriend(a, b)
        await put(a, "one.bin", DATA)
        await put(a, "two.bin", DATA[::-1])
        whole = (await a.api("GET", "/mesh/bundles")).body
        reader = Reader()
        reader.feed(whole)
        head = reader.next()
        assert isinstance(head, Head)
        report = (await take(b, whole[: len(whole) * 2 // 3])).json
        assert not report["complete"]
        progress = (await b.api("GET", f"/mesh/bundles/{head.id.hex()}")).json
        assert progress["offset"] == report["offset"] > 0

        query = f"?bundle={head.id.hex()}"
        offset = progress["offset"]
        wrong = await take(b, whole[1:], query, **{"content-range": "bytes 1-/*"})
        assert wrong.status == 416 or b"goes on at byte" in wrong.body
        rest = await take(b, whole[offset:], query, **{"content-range": f"bytes {offset}-/*"})
        assert rest.json["complete"]
        assert (await b.ask("GET", "/general/generic/demo/1/two.bin")).body == DATA[::-1]
        assert (await b.api("GET", f"/mesh/bundles/{head.id.hex()}")).json["offset"] == 0


async def test_who_may_not_and_what_is_no_bundle(tmp_path: Path) -> None:
    async with world(tmp_path / "a") as a:
        assert (await a.ask("GET", "/api/v1/mesh/bundles")).status == 401
        assert (await a.ask("POST", "/api/v1/mesh/bundles", b"x")).status == 401
        answer = await take(a, b"no bundle at all")
        assert answer.status == 400
        assert b"not a bundle" in answer.body
        assert (await a.api("GET", "/mesh/bundles?for=nobody")).status == 404
        bad = {"since": {"chains": [], "lacking": ["junk"]}}
        assert (await a.api("POST", "/mesh/bundles/exports", bad)).status == 400
        assert (await a.api("GET", "/mesh/bundles/..%2f..%2fnode.key")).status in (200, 404)
