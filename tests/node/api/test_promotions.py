"""Who sees which promotion, and what bodies are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.node.promotion.staged import staged


async def test_a_request_is_hidden_from_who_may_not_read_its_source(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        await stage.publish()
        id_ = (await stage.ask("dev")).json["promotion_id"]
        grants = (await stage.node.api("GET", "/permissions")).json["items"]
        for each in grants:
            if each["principal"] == "chief" and each["repository"] == "stage":
                await stage.node.api("DELETE", f"/permissions/{each['id']}")
        assert (await stage.call("chief", "GET", f"/approval/{id_}")).status == 404
        assert (await stage.call("chief", "GET", "/approval/pending")).json["items"] == []
        found = await stage.call("lead", "GET", "/approval/pending")
        assert [each["id"] for each in found.json["items"]] == [id_]
        assert (await stage.node.ask("GET", "/api/v1/approval/pending")).status == 401


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "/promotion/repositories/rel/rules", {"approvals": -1}),
        ("PUT", "/promotion/repositories/rel/rules", {"min_age": "long"}),
        ("POST", "/promotion/repositories/stage/checks", {"package": "demo", "check": "x"}),
        (
            "POST",
            "/promotion/repositories/stage/checks",
            {"package": "demo", "version": "1.0", "check": "a\nb", "passed": True},
        ),
        ("POST", "/promotion/repositories/stage/promote", {"packages": [{"package": ""}]}),
        ("POST", "/promotion/repositories/stage/promote", {"packages": [{"package": "demo"}]}),
    ],
)
async def test_bodies_that_make_no_sense_are_refused(
    method: str, path: str, body: object, tmp_path: Path
) -> None:
    async with staged(tmp_path) as stage:
        await stage.publish()
        assert (await stage.call("admin", method, path, body)).status == 400


async def test_rules_and_targets_are_shown_and_kept(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        await stage.rules(approvals=2, checks=["scan"], promotion_only=True)
        found = (await stage.call("lead", "GET", "/promotion/repositories/rel/rules")).json
        assert (found["rules"]["approvals"], found["promotion_only"]) == (2, True)
        await stage.rules(approvals=1)
        shown = (await stage.node.api("GET", "/repositories/rel")).json
        assert shown["promotion_only"], "left out, so it stays"
        refused = await stage.call("lead", "PUT", "/promotion/repositories/rel/rules", {})
        assert refused.status == 403
        body = {"source_repository": "stage", "packages": [{"package": "a", "version": "1"}]}
        unknown = await stage.call("lead", "POST", "/approval/request", body)
        assert unknown.status == 400, "no release target"
        await stage.publish()
        body = {**body, "target_repository": "rel"}
        body["packages"] = [{"package": "demo", "version": "1.0"}]
        assert (await stage.call("lead", "POST", "/approval/request", body)).status == 201
