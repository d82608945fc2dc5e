"""Plans, removals, what saves a version, restoring it, and what races with a removal."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from node import garbage
from node.directory import RepositoryEntry, RetentionEntry
from node.retention.policy import Policy
from node.retention.service import Retention
from node.retention.use import last_read
from store.digest import Digest
from store.facts import File, Publish
from store.usage import Usage
from tests.node.promotion.staged import KINDS, Staged, staged
from tests.node.retention.parted import exchange, parted
from tests.node.world import Answer

DAY = 86400.0


async def policy(stage: Staged, **fields: Any) -> Answer:
    body = {"id": "p", "repositories": ["stage"], **fields}
    answer = await stage.node.api("POST", "/admin/lifecycle", body)
    assert answer.status == 200, answer.body
    return answer


async def plan(stage: Staged, path: str = "preview-all") -> Any:
    return (await stage.node.api("POST", f"/admin/lifecycle/{path}")).json


def meanwhile(
    retention: Retention, patch: pytest.MonkeyPatch, happens: Callable[[], Awaitable[object]]
) -> None:
    """Let something happen between the look and the transaction."""
    ledger = retention._ledger

    class Late:
        async def append(self, facts: Any, *, actor: str, check: Any = None) -> Any:
            await happens()
            return await ledger.append(facts, actor=actor, check=check)

    patch.setattr(retention, "_ledger", Late())


async def apply(stage: Staged, path: str = "execute-all") -> Any:
    answer = await stage.node.api("POST", f"/admin/lifecycle/{path}")
    assert answer.status == 200, answer.body
    return answer.json


@pytest.mark.parametrize("form", sorted(KINDS))
async def test_the_oldest_go_in_every_format_and_the_index_says_so(
    form: str, tmp_path: Path
) -> None:
    async with staged(tmp_path, form) as stage:
        await stage.publish("1.0")
        await stage.publish("2.0")
        await policy(stage, keep_last=1)
        found = await plan(stage)
        assert (found["versions"], found["kept"]) == (1, 0), found
        assert found["items"][0]["why"] == "1 newer versions"
        assert await stage.listed("stage"), "a plan removes nothing"
        done = await apply(stage)
        assert (done["removed"], done["missed"]) == (1, 0), done
        assert not await stage.listed("stage")
        assert (await stage.get(stage.kind.index, "stage")).status == 200, "2.0 is there"
        assert (await plan(stage))["versions"] == 0
        assert b"atoll_retention_removed_versions_total 1.0" in stage.node.core.metrics.render()


async def test_pins_placement_and_requests_save_a_version(tmp_path: Path) -> None:
    async with staged(tmp_path, "generic") as stage:
        for version in ("1.0", "2.0", "3.0"):
            await stage.publish(version)
        await policy(stage, keep_last=1)
        assert (await plan(stage))["versions"] == 2
        pin = {"repository": "stage", "path": "demo/1.*", "node": stage.node.core.identity.node}
        pinned = (await stage.node.api("POST", "/pins", pin)).json
        asked = await stage.ask("dev", ("demo", "2.0.bin"))
        assert asked.status == 200, asked.body
        found = await plan(stage)
        assert found["versions"] == 0, [each["kept"] for each in found["items"]] + [pinned]
        assert [each["kept"] for each in found["items"]] == [
            f"pin {pinned['id'][:8]}",
            "a promotion waits for it",
        ]
        assert (await apply(stage))["removed"] == 0
        await stage.node.api("DELETE", f"/pins/{pinned['id']}")
        rule = {"id": "kernel", "target": "everywhere", "repositories": ["stage"]}
        assert (await stage.node.api("PUT", "/mesh/placement/rules", rule)).status == 200
        assert (await plan(stage))["items"][0]["kept"] == "placement rule kernel"
        await policy(stage, keep_last=1, placed=True)
        assert (await apply(stage))["removed"] == 1
        assert (await stage.get("/demo/2.0.bin", "stage")).status == 200


async def test_pins_and_policies_of_the_last_moment_count(tmp_path: Path) -> None:
    async with staged(tmp_path, "generic") as stage:
        for version in ("1.0", "2.0"):
            await stage.publish(version)
        await policy(stage, keep_last=1)
        retention = stage.node.core.retention
        (planned,) = [each async for each in retention.plan()]
        pin = {"repository": "stage", "path": "demo/1.*", "node": stage.node.core.identity.node}
        pinned = (await stage.node.api("POST", "/pins", pin)).json
        assert not await retention._remove(planned, "t"), "a run takes minutes"
        await stage.node.api("DELETE", f"/pins/{pinned['id']}")
        await policy(stage, id="k", keep=True, include=["demo@1.*"])
        assert not await retention._remove(planned, "t")
        await stage.node.api("DELETE", "/admin/lifecycle/k")
        await policy(stage, keep_last=1, disabled=True)
        assert not await retention._remove(planned, "t")
        await policy(stage, keep_last=1)
        assert await retention._remove(planned, "t")


async def test_policies_keep_from_each_other_and_may_be_off(tmp_path: Path) -> None:
    async with staged(tmp_path, "generic") as stage:
        for version in ("1.0", "2.0"):
            await stage.publish(version)
        await policy(stage, keep_last=1)
        await policy(stage, id="k", keep=True, include=["demo@1.*"])
        assert (await plan(stage))["items"][0]["kept"] == "policy k"
        await policy(stage, id="k", keep=True, include=["demo@1.*"], disabled=True)
        assert (await plan(stage, "p/preview"))["versions"] == 1
        assert (await plan(stage, "k/preview"))["versions"] == 0
        listed = (await stage.node.api("GET", "/admin/lifecycle")).json["items"]
        assert [(each["id"], each["disabled"]) for each in listed] == [("k", True), ("p", False)]
        assert (await stage.node.api("DELETE", "/admin/lifecycle/p")).status == 204
        assert (await stage.node.api("GET", "/admin/lifecycle/p")).status == 404
        assert (await plan(stage))["versions"] == 0


async def test_age_and_use_by_a_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with staged(tmp_path, "generic") as stage:
        await stage.publish("1.0")
        core, later = stage.node.core, time.time() + 10 * DAY
        await policy(stage, max_age=9 * DAY, unused_for=5 * DAY)
        read: dict[Digest, float] = {}

        async def used(digests: Any) -> dict[Digest, float]:
            return {each: read[each] for each in digests if each in read}

        monkeypatch.setattr(core.metrics, "counter", lambda *_: None)
        retention = Retention(core, core.ledger, used, clock=lambda: later)
        assert [each async for each in core.retention.plan()] == [], "it is young by our own clock"
        (found,) = [each async for each in retention.plan()]
        assert found.verdict.why == "published 10.0 days ago, not read for 10.0 days"
        read[Digest.of(b"bytes 1.0")] = later - DAY
        assert [each async for each in retention.plan()] == []

        async def told(
            repository: str, packages: Sequence[str], versions: Sequence[str]
        ) -> dict[tuple[str, str], Usage]:
            assert (repository, list(packages), list(versions)) == ("stage", ["demo"], [])
            return {("demo", ""): Usage(0, later - DAY)}

        read.clear()
        retention = Retention(core, core.ledger, used, told=told, clock=lambda: later)
        assert [each async for each in retention.plan()] == [], "some node has served it"


async def test_downloads_of_other_nodes_count_once_they_are_heard_of(tmp_path: Path) -> None:
    async with parted(tmp_path) as sites:
        await sites.begin()
        here, there = sites
        files = [File(f"{name}/1.bin", "file", f"sha256:{name * 64}", 1) for name in "ab"]
        await here.write(*(Publish("stage", each.path[0], "", (each,)) for each in files))
        rare = Policy(id="p", repositories=("stage",), downloads_below=2, max_age=2 * DAY)
        await here.write(here.core.directory.change("p", RetentionEntry(id="p", policy=rare)))
        await exchange(here, there)
        for site, name in ((here, "a"), (there, "a"), (there, "b")):
            (row,) = await site.core.catalog.files("stage", prefix=name)
            site.core.usage.sent(row, begun=True)
        assert [each async for each in here.core.retention.plan()] == [], "there is time to hear"
        sites.clock.pass_by(DAY)
        assert await there.core.usage.tell() == 2
        assert [each async for each in here.core.retention.plan()] == []
        await exchange(there, here)
        sites.clock.pass_by(2 * DAY)
        (going,) = [each async for each in here.core.retention.plan()]
        assert (going.package, going.verdict.why) == ("b", "published 3.0 days ago, 1 downloads")


async def test_reads_are_known_from_the_inventory(tmp_path: Path) -> None:
    async with staged(tmp_path, "generic") as stage:
        inventory, digest = stage.node.core.placer.inventory, Digest.of(b"x")
        assert await last_read(inventory, [digest]) == {}
        await inventory.hold({digest.raw: 1})
        await inventory.read({digest.raw: (2, 5e9)})
        assert await last_read(inventory, [digest]) == {digest: 5e9}


async def test_what_is_published_or_tagged_meanwhile_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with staged(tmp_path, "docker") as stage:
        await stage.publish("1.0")
        await stage.publish("2.0")
        await policy(stage, keep_last=1)
        retention = stage.node.core.retention
        (planned,) = [each async for each in retention.plan()]
        manifest = await stage.get("/app/manifests/1.0", "stage")
        kind = {"content-type": manifest.headers["content-type"]}
        path = "/v2/stage/app/manifests/precious"
        token = stage.tokens["dev"]
        assert (
            await stage.node.ask("PUT", path, manifest.body, kind, password=token)
        ).status == 201
        (retried,) = [each async for each in retention.plan()]
        assert retried.verdict.edition.names == ("1.0", "precious")

        async def push() -> None:
            other = "/v2/stage/app/manifests/other"
            await stage.node.ask("PUT", other, manifest.body, kind, password=token)

        with monkeypatch.context() as patch:
            meanwhile(retention, patch, push)
            assert not await retention._remove(planned, "t")
        assert (await stage.get("/app/manifests/precious", "stage")).status == 200


async def test_a_pin_set_between_the_look_and_the_transaction_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with staged(tmp_path, "generic") as stage:
        for version in ("1.0", "2.0"):
            await stage.publish(version)
        await policy(stage, keep_last=1)
        retention = stage.node.core.retention
        (planned,) = [each async for each in retention.plan()]
        pin = {"repository": "stage", "path": "demo/1.*", "node": stage.node.core.identity.node}

        async def set_it() -> None:
            assert (await stage.node.api("POST", "/pins", pin)).status < 300

        with monkeypatch.context() as patch:
            meanwhile(retention, patch, set_it)
            assert not await retention._remove(planned, "t")
        assert (await stage.get("/demo/1.0.bin", "stage")).status == 200


async def test_a_tag_set_after_the_look_keeps_what_policies_keep_for_it(tmp_path: Path) -> None:
    async with staged(tmp_path, "docker") as stage:
        await stage.publish("1.0")
        await stage.publish("2.0")
        await policy(stage, keep_last=1, exclude=["app@precious"])
        retention = stage.node.core.retention
        (planned,) = [each async for each in retention.plan()]
        manifest = await stage.get("/app/manifests/1.0", "stage")
        kind, token = {"content-type": manifest.headers["content-type"]}, stage.tokens["dev"]
        for tag, stays in (("precious", True), ("other", True)):
            path = f"/v2/stage/app/manifests/{tag}"
            put = await stage.node.ask("PUT", path, manifest.body, kind, password=token)
            assert put.status == 201
            assert await retention._remove(planned, "t") is not stays
        gone = "/v2/stage/app/manifests/precious"
        assert (await stage.node.ask("DELETE", gone, password=token)).status == 202
        assert await retention._remove(planned, "t"), "a tag that keeps nothing does not save it"


async def test_a_removed_file_can_be_restored_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with staged(tmp_path, "generic") as stage:
        await stage.publish("1.0")
        await stage.publish("2.0")
        await policy(stage, keep_last=1)
        await apply(stage)
        path = "/repositories/stage/artifacts/demo/1.0.bin/restore"
        assert (await stage.call("chief", "POST", path)).status == 403
        with monkeypatch.context() as patch:
            patch.setattr("node.api.retention.RESTORABLE", -60.0)
            assert (await stage.call("dev", "POST", path)).status == 409
        assert (await stage.call("dev", "POST", path)).status == 200
        assert (await stage.get("/demo/1.0.bin", "stage")).body == b"bytes 1.0"
        assert (await stage.call("dev", "POST", path)).status == 404, "it is there"


async def test_garbage_is_collected_on_request_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with staged(tmp_path, "generic") as stage:
        await stage.publish("1.0")
        await stage.publish("2.0")
        await policy(stage, keep_last=1)
        await apply(stage)
        monkeypatch.setattr(garbage, "RESTORABLE", -60.0)
        wish = await stage.node.api("POST", "/admin/storage-gc", {"dry_run": True})
        assert wish.json["blobs"] == 0, "too young to go"
        for blob in (tmp_path / "data" / "blobs").rglob("*"):
            if blob.is_file():
                os.utime(blob, (1.0, 1.0))
        wish = await stage.node.api("POST", "/admin/storage-gc", {"dry_run": True})
        assert (wish.json["blobs"], wish.json["bytes"]) == (1, 9)
        assert await stage.node.core.holds(Digest.of(b"bytes 1.0"))
        freed = await stage.node.api("POST", "/admin/storage-gc", {})
        assert (freed.json["blobs"], freed.json["bytes"]) == (1, 9)
        assert not await stage.node.core.holds(Digest.of(b"bytes 1.0"))
        shown = (await stage.node.api("GET", "/admin/storage-gc")).json
        assert (shown["running"], shown["last"]["blobs"]) == (False, 1)
        assert b"atoll_gc_bytes_total 9.0" in stage.node.core.metrics.render()
        assert stage.node.core.directory.get(RepositoryEntry, "stage") is not None
