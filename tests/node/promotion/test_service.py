"""Requests, approvals, checks, age, atomicity and rollback, through the API, by several users."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from node.directory import RepositoryEntry, UserEntry
from node.promotion import book
from store.digest import Digest
from store.errors import VersionExistsError
from tests.node.promotion.staged import Staged, staged


async def decide(stage: Staged, user: str, what: str, id_: str) -> tuple[int, str]:
    answer = await stage.call(user, "POST", f"/approval/{id_}/{what}", {})
    found = answer.json
    return answer.status, found.get("promotion", found).get("status", found.get("message", ""))


async def waiting(stage: Staged, user: str = "dev") -> str:
    answer = await stage.ask(user)
    assert answer.status == 200, answer.body
    assert not answer.json["promoted"]
    return str(answer.json["promotion_id"])


async def test_approvals_by_distinct_others(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        await stage.rules(approvals=2)
        await stage.publish()
        id_ = await waiting(stage)
        assert (await decide(stage, "dev", "approve", id_))[0] == 403, "no right there, and his own"
        assert await decide(stage, "lead", "approve", id_) == (200, "pending")
        assert await decide(stage, "lead", "approve", id_) == (200, "pending"), "once counts once"
        assert not await stage.listed()
        shown = (await stage.call("dev", "GET", f"/approval/{id_}")).json
        assert shown["policy_violations"][0]["message"] == "1 of 2 approvals"
        assert await decide(stage, "chief", "approve", id_) == (200, "promoted")
        assert await stage.listed()
        assert (await decide(stage, "admin", "approve", id_))[0] == 409
        assert (await decide(stage, "admin", "reject", id_))[0] == 409


async def test_who_published_cannot_approve_though_another_asked(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        await stage.rules(approvals=1)
        await stage.publish(user="lead")
        id_ = await waiting(stage)
        assert await decide(stage, "lead", "approve", id_) == (
            403,
            "who published or asked for it cannot approve it",
        )
        assert await decide(stage, "chief", "approve", id_) == (200, "promoted")


async def test_approvals_of_who_lost_the_right_do_not_count(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        await stage.rules(approvals=2)
        await stage.publish()
        id_ = await waiting(stage)
        await decide(stage, "lead", "approve", id_)
        core = stage.node.core
        gone = core.directory.get(UserEntry, "lead")
        assert gone is not None
        gone.disabled = True
        await core.ledger.append([core.directory.change("lead", gone)], actor="t")
        assert await decide(stage, "chief", "approve", id_) == (200, "pending")
        assert await decide(stage, "admin", "approve", id_) == (200, "promoted")


async def test_who_may_not_write_there_waits_for_somebody_who_may(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        await stage.publish()
        id_ = await waiting(stage)
        assert (await decide(stage, "dev", "run", id_))[0] == 403
        assert await decide(stage, "chief", "approve", id_) == (200, "promoted")
        assert (await stage.ask("chief")).json["promoted"], "who may read there and write here may"


async def test_rejections_and_second_thoughts(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        await stage.publish()
        first, second = await waiting(stage), await waiting(stage)
        assert await decide(stage, "lead", "reject", first) == (200, "rejected")
        assert (await decide(stage, "chief", "approve", first))[0] == 409
        assert await decide(stage, "dev", "reject", second) == (200, "rejected"), "one's own"
        assert (await decide(stage, "dev", "rollback", first))[0] == 403
        assert (await decide(stage, "lead", "rollback", first))[0] == 409
        listed = (await stage.call("dev", "GET", "/approval/history?limit=1")).json
        assert [each["id"] for each in listed["items"]] == [max(first, second)]
        more = (await stage.call("dev", "GET", f"/approval/history?before={listed['next']}")).json
        assert [each["id"] for each in more["items"]] == [min(first, second)]
        assert (await stage.call("dev", "GET", "/approval/pending")).json["items"] == []


async def test_checks_are_about_the_bytes_that_were_checked(tmp_path: Path) -> None:
    async with staged(tmp_path, "generic", options={"versioned": True}) as stage:
        await stage.rules(checks=["scan"], checkers=["lead"])
        await stage.publish()
        report = {"package": "demo", "version": "1.0.bin", "check": "scan"}
        path = "/promotion/repositories/stage/checks"
        assert (await stage.call("chief", "POST", path, {**report, "passed": True})).status == 403
        assert (await stage.call("dev", "POST", path, {**report, "passed": True})).status == 201
        id_ = await waiting(stage, "lead")
        assert (await stage.call("lead", "POST", path, {**report, "passed": False})).status == 201
        shown = (await stage.call("lead", "GET", f"/approval/{id_}")).json
        assert "check scan failed, says lead" in shown["message"]
        assert (await decide(stage, "lead", "run", id_))[0] == 503
        assert (await stage.call("lead", "POST", path, {**report, "passed": True})).status == 201
        token = stage.tokens["dev"]
        await stage.node.ask("PUT", "/general/stage/demo/1.0.bin", b"new", password=token)
        status, message = await decide(stage, "lead", "run", id_)
        assert status == 503
        assert "demo 1.0.bin changed since it was asked for" in message
        assert not (await stage.ask("lead")).json["promoted"], "other bytes, another check"


async def test_age_counts_from_the_newest_file(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        await stage.rules(min_age=3600.0)
        await stage.publish()
        id_ = await waiting(stage, "lead")
        promotions = stage.node.core.promotions
        clock = promotions._judge._clock
        promotions._judge._clock = lambda: clock() + 3601.0
        assert await decide(stage, "lead", "run", id_) == (200, "promoted")


async def test_several_versions_enter_together_or_not_at_all(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        await stage.publish("1.0")
        await stage.publish("2.0")
        assert (await stage.ask("lead", ("demo", "1.0"), ("demo", "3.0"))).status == 404
        assert not await stage.listed()
        records = await stage.node.core.ledger.heads()
        answer = await stage.ask("lead", ("demo", "1.0"), ("demo", "2.0"))
        assert answer.json["promoted"]
        [before], [after] = (
            [seq for seq, _ in h.values()] for h in (records, await stage.node.core.ledger.heads())
        )
        assert after == before + 1, "one record"
        page = (await stage.get("/simple/demo/")).body
        assert page.count(b"demo-1.0")
        assert page.count(b"demo-2.0")


async def test_immutability_quota_and_format_rules_of_the_target_hold(tmp_path: Path) -> None:
    async with staged(tmp_path, "generic") as stage:
        await stage.publish("1.0")
        token = stage.tokens["lead"]
        await stage.node.ask("PUT", "/general/rel/demo/1.0.bin", b"other", password=token)
        refused = await stage.ask("lead")
        assert refused.status == VersionExistsError.status
        assert (await stage.get("/demo/1.0.bin")).body == b"other"
        await stage.publish("2.0")
        await stage.node.api("PATCH", "/repositories/rel", {"quota_bytes": 10})
        assert (await stage.ask("lead", ("demo", "2.0.bin"))).status == 507
        await stage.node.api("PATCH", "/repositories/rel", {"quota_bytes": 10_000})
        await stage.node.ask("PUT", "/general/rel/demo/2.0.bin/x", b"x", password=token)
        assert (await stage.ask("lead", ("demo", "2.0.bin"))).status == 409, "a folder there"


async def test_rollback_keeps_what_was_published_otherwise(tmp_path: Path) -> None:
    async with staged(tmp_path, "generic") as stage:
        await stage.publish("1.0")
        await stage.publish("1.0", user="lead", key="rel")
        answer = await stage.ask("lead")
        assert answer.json["promoted"]
        undone = await stage.call(
            "lead", "POST", f"/approval/{answer.json['promotion_id']}/rollback", {}
        )
        assert undone.json["status"] == "rolled_back"
        assert (await stage.get("/demo/1.0.bin")).status == 200
        first, second = [(await stage.ask("lead")).json["promotion_id"] for _ in range(2)]
        found = await stage.node.core.catalog.find("rel", "demo/1.0.bin")
        assert found is not None
        for id_ in (first, second):
            await stage.call("lead", "POST", f"/approval/{id_}/rollback", {})
            assert (await stage.get("/demo/1.0.bin")).status == 200, "the first publish stands"


async def test_rollback_puts_tags_back_unless_they_moved_since(tmp_path: Path) -> None:
    async with staged(tmp_path, "npm") as stage:

        async def latest() -> str:
            return str((await stage.get("/-/package/demo/dist-tags")).json["latest"])

        await stage.publish("1.0")
        assert (await stage.ask("lead", ("demo", "1.0.0"))).json["promoted"]
        await stage.publish("2.0")
        second = (await stage.ask("lead", ("demo", "2.0.0"))).json["promotion_id"]
        assert await latest() == "2.0.0"
        assert await decide(stage, "lead", "rollback", second) == (200, "rolled_back")
        assert await latest() == "1.0.0"


async def test_rollback_brings_back_what_was_replaced(tmp_path: Path) -> None:
    """A path whose revisions are kept: the former bytes are there again, with their revision."""
    async with staged(tmp_path, "generic", options={"versioned": True}) as stage:

        async def write(user: str, key: str, body: bytes) -> None:
            path = f"/general/{key}/demo/1.0.bin"
            answer = await stage.node.ask("PUT", path, body, password=stage.tokens[user])
            assert answer.status in {200, 201}

        async def promote() -> str:
            answer = (await stage.ask("lead")).json
            assert answer["promoted"]
            return str(answer["promotion_id"])

        async def shown() -> bytes:
            answer = await stage.get("/demo/1.0.bin")
            return answer.body if answer.status == 200 else b""

        await write("lead", "rel", b"former")
        await write("dev", "stage", b"promoted")
        first = await promote()
        assert await shown() == b"promoted"
        assert await decide(stage, "lead", "rollback", first) == (200, "rolled_back")
        assert await shown() == b"former"
        row = await stage.node.core.catalog.find("rel", "demo/1.0.bin")
        assert row is not None
        assert row.mutable
        second = await promote()
        third = await promote()
        assert await decide(stage, "lead", "rollback", third) == (200, "rolled_back")
        assert await shown() == b"promoted", "the one before it had brought the same"
        assert await decide(stage, "lead", "rollback", second) == (200, "rolled_back")
        assert await shown() == b"former"
        await write("lead", "rel", b"since")
        fourth = await promote()
        await write("lead", "rel", b"later")
        assert await decide(stage, "lead", "rollback", fourth) == (200, "rolled_back")
        assert await shown() == b"later", "somebody has replaced it since"


async def test_what_was_deleted_or_collected_does_not_come_back(tmp_path: Path) -> None:
    async with staged(tmp_path, "maven") as stage:
        path = "/org/example/demo/1.0-SNAPSHOT/demo-1.0-SNAPSHOT.jar"

        async def write(user: str, key: str, body: bytes) -> None:
            token = stage.tokens[user]
            answer = await stage.node.ask("PUT", f"/maven/{key}{path}", body, password=token)
            assert answer.status in {200, 201}, answer.body

        async def promoted() -> str:
            answer = (await stage.ask("lead", ("org.example:demo", "1.0-SNAPSHOT"))).json
            return str(answer["promotion_id"])

        await write("dev", "stage", b"promoted")
        await write("lead", "rel", b"former")
        id_ = await promoted()
        await decide(stage, "lead", "rollback", id_)
        assert (await stage.get(path)).body == b"former"
        former = Digest.of(b"former")
        id_ = await promoted()
        await stage.node.core.blobs.store.delete(former)
        await decide(stage, "lead", "rollback", id_)
        assert (await stage.get(path)).status == 404
        await write("lead", "rel", b"former")
        gone = f"/repositories/rel/artifacts{path}"
        assert (await stage.node.api("DELETE", gone)).status == 204
        id_ = await promoted()
        assert (await stage.get(path)).body == b"promoted"
        await decide(stage, "lead", "rollback", id_)
        assert (await stage.get(path)).status == 404


async def test_what_waits_is_found_without_reading_the_book(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        await stage.publish()
        wait = [await waiting(stage) for _ in range(3)]
        done = [(await stage.ask("lead")).json["promotion_id"] for _ in range(3)]
        await decide(stage, "lead", "reject", wait[1])
        promotions = stage.node.core.promotions
        found = await promotions.page("rel", status="pending")
        assert [each.id for each in found] == sorted([wait[0], wait[2]], reverse=True)
        every = await promotions.page("rel")
        assert {each.id for each in every} == {*wait, *done}
        assert [e for e in every if e.state == "pending"] == found
        older = await promotions.page("rel", status="pending", before=found[0].id)
        assert older == found[1:]

        asked: list[str] = []

        def watched(connection: sa.Connection) -> list[book.Promotion]:
            engine = connection.engine
            listen = lambda *told: asked.append(told[2])  # noqa: E731  connection, cursor, statement
            sa.event.listen(engine, "before_cursor_execute", listen)
            try:
                return book.waiting(connection, "rel")
            finally:
                sa.event.remove(engine, "before_cursor_execute", listen)

        assert await stage.node.core.catalog.read(watched) == found
        assert len(asked) == 1 + len(found)

        def plan(connection: sa.Connection) -> list[str]:
            sql = asked[0].replace("?", "''")
            rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}")
            return [str(row[3]) for row in rows]

        (step,) = await stage.node.core.catalog.read(plan)
        assert "COVERING INDEX" in step
        assert "(repository=? AND package=?)" in step


async def test_the_release_target_is_the_default_and_artifacts_name_versions(
    tmp_path: Path,
) -> None:
    async with staged(tmp_path) as stage:
        await stage.publish()
        path = "/promotion/repositories/stage/release-target"
        body = {"artifacts": ["demo/demo-1.0-py3-none-any.whl"]}
        promote = "/promotion/repositories/stage/promote"
        assert (await stage.call("lead", "POST", promote, body)).status == 400
        assert (await stage.call("dev", "PUT", path, {"target_repository": "rel"})).status == 403
        assert (await stage.call("admin", "PUT", path, {"target_repository": "rel"})).status == 200
        assert (await stage.call("lead", "GET", path)).json == {"target_repository": "rel"}
        assert (await stage.call("lead", "POST", promote, body)).json["promoted"]
        one = "/promotion/repositories/stage/artifacts/demo/demo-1.0-py3-none-any.whl/promote"
        assert (await stage.call("lead", "POST", one, {})).json["promoted"]
        history = "/promotion/repositories/stage/promotion-history"
        assert len((await stage.call("lead", "GET", history)).json["items"]) == 2


async def test_what_cannot_be_promoted_is_said(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        await stage.publish()
        for body, status in (
            ({"target_repository": "none"}, 404),
            ({"target_repository": "npm"}, 400),
            ({"target_repository": "stage"}, 400),
            ({"packages": []}, 400),
            ({"packages": [{"package": "demo", "version": "1.0"}] * 2}, 400),
        ):
            assert (await stage.ask("admin", **body)).status == status, body
        assert (await stage.ask("chief", source="x")).json["promoted"]
        assert (await stage.call("dev", "GET", "/approval/nothing")).status == 404
        await stage.rules(sources=["other-*"])
        refused = (await stage.ask("lead")).json["policy_violations"]
        assert [each["rule"] for each in refused] == ["sources"]


async def test_a_deleted_repository_takes_its_book_along(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        await stage.publish()
        await waiting(stage)
        assert (await stage.node.api("DELETE", "/repositories/rel?force=true")).status == 204
        assert stage.node.core.directory.get(RepositoryEntry, "rel") is None
        await stage.node.api("POST", "/repositories", {"key": "rel", "format": "pypi"})
        assert await stage.node.core.promotions.page("rel") == []
