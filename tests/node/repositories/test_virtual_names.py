"""Names that were a local member's: an outsider does not get them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from node.repositories.virtual import owned
from tests.node.repositories.goods import GOODS, PYPI_JSON
from tests.node.repositories.virtuals import Party, grant, party

FORMATS = sorted(GOODS)
ATTACK = {"1.0.0": b"an attack", "9.0.0": b"an attack"}


async def narrow(p: Party, user: str, *repositories: str) -> str:
    """A token of a user that reaches some repositories only."""
    made = await p.node.core.accounts.create_token(
        user, "narrow", ["read"], actor=user, repositories=repositories
    )
    return made[0]


@pytest.mark.parametrize("form", FORMATS)
async def test_names_of_a_hidden_member_are_nobodys_outside(form: str, tmp_path: Path) -> None:
    """A build whose token is lost, or too narrow, is not given a stranger's package."""
    goods = GOODS[form]
    async with party(tmp_path, form, ["up", "secret", "ours"]) as p:
        await goods.publish(p, "ours", "open", "1.0.0", b"ours")  # so that there is a suite
        await goods.publish(p, "secret", "alpha", "1.0.0", b"hush")
        goods.offer(p.server, "beta", {"1.0.0": b"theirs"})
        goods.offer(p.server, "alpha", ATTACK)
        p.server.asked.clear()
        version = "1.0.0" if goods.by_path else "9.0.0"
        narrowed = await narrow(p, "ann", "all", "up")
        for token in ("", p.bob, narrowed):
            found = [path for path in await goods.listed(p, "alpha", token) if version in path]
            assert found == [], token
            for path in goods.routes("alpha", version):
                for method in ("GET", "HEAD"):
                    answer = await p.ask(method, path, token=token)
                    assert b"an attack" not in answer.body, path
                    assert answer.status >= 400 or version.encode() not in answer.body, path
        asked = [e.path for e in p.server.asked if "alpha" in e.path and version in e.path]
        assert asked == []
        await p.change("PUT", "virtual", guard_for="readers")
        assert any(version in path for path in await goods.listed(p, "alpha", p.bob))
        mine = await goods.listed(p, "alpha", p.ann)
        assert goods.by_path or not any("9.0.0" in path for path in mine)
        await p.change("PUT", "virtual", guard_for="everybody", unguarded=["*alpha*"])
        assert any(version in path for path in await goods.listed(p, "alpha", p.bob))


@pytest.mark.parametrize("form", FORMATS)
async def test_a_guarded_name_is_answered_like_one_that_nobody_has(
    form: str, tmp_path: Path
) -> None:
    goods = GOODS[form]
    async with party(tmp_path, form, ["up", "secret", "ours"]) as p:
        await goods.publish(p, "ours", "open", "1.0.0", b"ours")
        goods.offer(p.server, "beta", {"1.0.0": b"theirs"})
        await goods.publish(p, "secret", "alpha", "1.0.0", b"hush")
        goods.offer(p.server, "alpha", ATTACK)
        pairs = zip(goods.routes("alpha", "1.0.0"), goods.routes("amber", "1.0.0"), strict=True)
        for ours, nobodys in pairs:
            for method in ("GET", "HEAD"):
                one = await p.ask(method, ours, token=p.bob)
                other = await p.ask(method, nobodys, token=p.bob)
                assert one.status == other.status, ours
                assert one.body.replace(b"alpha", b"amber") == other.body, ours
                assert one.headers.keys() == other.headers.keys(), ours


async def test_owners_behind_a_hidden_virtual_member_keep_their_names(tmp_path: Path) -> None:
    async with party(tmp_path, "npm", ["secret", "ours"], is_public=False) as p:
        await GOODS["npm"].publish(p, "ours", "alpha", "1.0.0", b"ours")
        await GOODS["npm"].publish(p, "secret", "beta", "1.0.0", b"hush")
        for name in ("alpha", "beta"):
            GOODS["npm"].offer(p.server, name, ATTACK)
        body = {"key": "outer", "format": "npm", "repo_type": "virtual", "is_public": True}
        body["member_repos"] = [{"repo_key": "all"}, {"repo_key": "up"}]
        assert (await p.node.api("POST", "/repositories", body)).status == 201
        p.server.asked.clear()
        for name in ("alpha", "beta"):
            for path in (f"/{name}", f"/{name}/-/{name}-9.0.0.tgz"):
                assert (await p.get(path, key="outer", token=p.bob)).status == 404
        assert p.server.asked == []
        await grant(p.node, "ann", "all", "read")
        assert list((await p.get("/beta", key="outer", token=p.ann)).json["versions"]) == ["1.0.0"]


async def test_a_list_of_projects_shows_what_there_is_a_page_of(tmp_path: Path) -> None:
    """Not what somebody else owns, or did: hidden members, and files deleted since."""
    goods = GOODS["pypi"]
    async with party(tmp_path, "pypi") as p:
        kind = {"content-type": PYPI_JSON}
        names = [{"name": name} for name in ("Alpha", "beta", "gamma")]
        index = {"meta": {"api-version": "1.1"}, "projects": names}
        goods.offer(p.server, "beta", {"1.0.0": b"theirs"})
        p.server.put("/simple/", json.dumps(index).encode(), headers=kind)

        async def listed(token: str) -> list[str]:
            answer = await p.get("/simple/", token=token, accept=PYPI_JSON)
            return [each["name"] for each in answer.json["projects"]]

        assert await listed("") == ["alpha", "beta", "gamma"]
        await goods.publish(p, "secret", "alpha", "1.0.0", b"hush")
        await goods.publish(p, "ours", "gamma", "1.0.0", b"ours")
        assert await listed("") == await listed(p.bob) == ["beta", "gamma"]
        assert await listed(p.ann) == ["alpha", "beta", "gamma"]
        for each in await p.node.core.catalog.files("ours"):  # and the metadata beside it
            gone = await p.node.api("DELETE", f"/repositories/ours/artifacts/{each.path}")
            assert gone.status == 204
        assert await listed("") == ["beta"]
        await p.change("PUT", "virtual", unguarded=["gamma"], guard_for="readers")
        assert await listed("") == ["alpha", "beta", "gamma"]


async def test_owners_names_are_read_when_a_list_is_made_and_not_to_find_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not at each request, even where there are more of them than are kept."""
    read: list[object] = []

    def gather(pages: Iterable[Sequence[str]]) -> owned.Names:
        read.append(threading.current_thread())
        return measured(pages)

    measured = owned._gather
    monkeypatch.setattr(owned, "_gather", gather)
    monkeypatch.setattr(owned, "KEPT_MAX", 0)
    async with party(tmp_path, "pypi") as p:
        index = {"meta": {"api-version": "1.1"}, "projects": [{"name": "a"}, {"name": "b"}]}
        kind = {"content-type": PYPI_JSON}
        p.server.put("/simple/", json.dumps(index).encode(), headers=kind)
        await GOODS["pypi"].publish(p, "secret", "a", "1.0.0", b"hush")
        for _ in range(3):
            answer = await p.get("/simple/", accept=PYPI_JSON)
            assert [each["name"] for each in answer.json["projects"]] == ["b"]
        assert len(read) == 2, "once of each owner"
        assert threading.current_thread() not in read
        await GOODS["pypi"].publish(p, "secret", "b", "1.0.0", b"hush")
        assert (await p.get("/simple/", accept=PYPI_JSON)).json["projects"] == []
        assert len(read) == 4


async def test_a_merged_suite_follows_owners_that_it_has_no_document_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    goods = GOODS["debian"]
    monkeypatch.setattr(owned, "_gather", None)  # whose names they are is told without reading any
    async with party(tmp_path, "debian") as p:
        await goods.publish(p, "ours", "open", "1.0.0", b"ours")
        goods.offer(p.server, "alpha", ATTACK)
        assert len(await goods.listed(p, "alpha", p.bob)) == 2
        await goods.publish(p, "secret", "alpha", "1.0.0", b"hush")
        assert await goods.listed(p, "alpha", p.bob) == {}
        assert len(await goods.listed(p, "open", p.bob)) == 1


async def test_a_deleted_name_is_not_given_away(tmp_path: Path) -> None:
    """Else whoever deletes the last version, retention for one, lets outsiders take the name."""
    async with party(tmp_path, "pypi") as p:
        await GOODS["pypi"].publish(p, "ours", "alpha", "1.0.0", b"ours")
        GOODS["pypi"].offer(p.server, "alpha", {"9.0.0": b"an attack"})
        file = "alpha/alpha-1.0.0-py3-none-any.whl"
        gone = await p.node.api("DELETE", f"/repositories/ours/artifacts/{file}")
        assert gone.status == 204
        assert await GOODS["pypi"].listed(p, "alpha", "") == {}
        assert [each.path for each in p.server.asked if "alpha" in each.path] == []
        await p.change("PUT", "virtual", unguarded=["alpha"])
        assert len(await GOODS["pypi"].listed(p, "alpha", "")) == 1


async def test_a_deleted_path_is_not_given_away(tmp_path: Path) -> None:
    async with party(tmp_path, "generic") as p:
        await GOODS["generic"].publish(p, "ours", "alpha", "1.0.0", b"ours")
        GOODS["generic"].offer(p.server, "alpha", {"1.0.0": b"an attack"})
        path = "/alpha/1.0.0.bin"
        assert (await p.get(path)).body == b"ours"
        assert (await p.ask("DELETE", path, key="ours", token=p.ann)).status in {200, 204}
        assert (await p.get(path)).status == 404
        assert p.server.asked == []
