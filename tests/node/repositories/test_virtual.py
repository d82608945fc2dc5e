"""Virtual repositories: one answer of several members', and nothing of those one may not read."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.node.repositories.virtuals import GOODS, party, sha256

FORMATS = sorted(GOODS)


@pytest.mark.parametrize("form", FORMATS)
async def test_members_answer_as_one(form: str, tmp_path: Path) -> None:
    goods = GOODS[form]
    async with party(tmp_path, form) as p:
        await goods.publish(p, "ours", "alpha", "1.0.0", b"ours")
        goods.offer(p.server, "beta", {"1.0.0": b"theirs", "2.0.0": b"newer"})
        found = {}
        for name in ("alpha", "beta"):
            found |= await goods.listed(p, name, "")
        assert len(found) == 3
        for path, digest in found.items():
            answer = await p.get(path)
            assert answer.status == 200, (path, answer.body)
            assert sha256(answer.body) == digest, path
            head = await p.ask("HEAD", path)
            assert (head.status, head.body) == (200, b"")
            assert head.headers["content-length"] == str(len(answer.body))
            part = await p.get(path, range="bytes=1-3")
            assert (part.status, part.body) == (206, answer.body[1:4])


@pytest.mark.parametrize("form", FORMATS)
async def test_index_and_download_never_disagree(form: str, tmp_path: Path) -> None:
    """Overlapping names and versions, other bytes in each member, the guard on and off."""
    goods, dice = GOODS[form], random.Random(form)
    async with party(tmp_path, form, ["up", "secret", "ours"]) as p:
        names, versions = ("alpha", "beta"), ("1.0.0", "1.1.0", "2.0.0")
        for name in names:
            for key in ("ours", "secret"):
                for version in dice.sample(versions, 2):
                    content = f"{key} {name} {version}".encode()
                    await goods.publish(p, key, name, version, content)
            chosen = dice.sample(versions, 2)
            goods.offer(p.server, name, {v: f"up {name} {v}".encode() for v in chosen})
        for guard in (True, False):
            await p.change("PUT", "virtual", guard=guard)
            for token in ("", p.bob, p.ann):
                for name in names:
                    found = await goods.listed(p, name, token)
                    assert found
                    for path, digest in found.items():
                        answer = await p.get(path, token=token)
                        assert answer.status == 200, (path, answer.body)
                        assert sha256(answer.body) == digest, (path, guard, token)


@pytest.mark.parametrize("form", FORMATS)
async def test_a_private_member_is_as_if_it_were_not_there(form: str, tmp_path: Path) -> None:
    """Every route, every caller without rights: the same answers with and without its content."""
    goods = GOODS[form]
    async with party(tmp_path, form) as p:
        await goods.publish(p, "ours", "alpha", "1.0.0", b"ours")
        routes = [r for n in ("alpha", "hidden") for r in goods.routes(n, "2.0.0")]
        routes += goods.routes("alpha", "1.0.0")

        async def seen(token: str) -> list[object]:
            answers: list[object] = []
            for method in ("GET", "HEAD"):
                for path in routes:
                    answer = await p.ask(method, path, token=token)
                    told = {k: v for k, v in answer.headers.items() if k != "x-request-id"}
                    answers.append((method, path, answer.status, told, answer.body))
            return answers

        before = {token: await seen(token) for token in ("", p.bob)}
        await goods.publish(p, "secret", "alpha", "2.0.0", b"hush")
        await goods.publish(p, "secret", "hidden", "2.0.0", b"hush")
        allowed = await seen(p.ann)
        for token, answers in before.items():
            after = await seen(token)
            for old, new in zip(answers, after, strict=True):
                assert old == new
        assert allowed != before[""]
        for path in await goods.listed(p, "hidden", p.ann):
            mine = await p.get(path, token=p.ann)
            assert mine.status == 200
            assert "private" in mine.headers["cache-control"]
            for headers in ({}, {"if-none-match": mine.headers["etag"]}, {"range": "bytes=0-1"}):
                for method in ("GET", "HEAD"):
                    theirs = await p.ask(method, path, token=p.bob, **headers)
                    nobodys = await p.ask(method, path, **headers)
                    assert theirs.status == nobodys.status == 404


@pytest.mark.parametrize("form", FORMATS)
async def test_what_is_owned_is_not_looked_up_outside(form: str, tmp_path: Path) -> None:
    goods = GOODS[form]
    async with party(tmp_path, form, ["up", "secret", "ours"]) as p:
        await goods.publish(p, "ours", "alpha", "1.0.0", b"ours")
        goods.offer(p.server, "alpha", {"9.0.0": b"an attack"})
        p.server.asked.clear()
        assert len(await goods.listed(p, "alpha", "")) == 1
        for path in goods.routes("alpha", "9.0.0"):
            answer = await p.get(path)
            assert b"9.0.0" not in answer.body or answer.status == 404, path
        asked = [each.path for each in p.server.asked if "alpha" in each.path]
        assert asked == []
        await p.change("PUT", "virtual", unguarded=["al*"])
        assert len(await goods.listed(p, "alpha", "")) == 2


@pytest.mark.parametrize("form", FORMATS)
async def test_reserved_names_and_routing_rules(form: str, tmp_path: Path) -> None:
    goods = GOODS[form]
    async with party(tmp_path, form) as p:
        goods.offer(p.server, "beta", {"1.0.0": b"theirs"})
        pattern = PATTERNS.get(form, "beta*")
        await p.change("PUT", "virtual", reserved=[pattern])
        assert await goods.listed(p, "beta", p.ann) == {}
        await p.change("PUT", "virtual", reserved=[])
        for rules in ({"deny": [pattern]}, {"allow": ["other*"]}):
            await p.change("PUT", "members/up", **rules)
            assert await goods.listed(p, "beta", p.ann) == {}
            for path in goods.routes("beta", "1.0.0"):
                answer = await p.get(path)
                assert b"1.0.0" not in answer.body or answer.status >= 400, path
        await p.change("PUT", "members/up", allow=[pattern])
        assert len(await goods.listed(p, "beta", "")) == 1


PATTERNS = {"pypi": "B?t[a]"}


@pytest.mark.parametrize("form", FORMATS)
async def test_publishes_go_to_the_deploy_target_with_the_rights_held_there(
    form: str, tmp_path: Path
) -> None:
    goods = GOODS[form]
    async with party(tmp_path, form) as p:
        p.node.token, admin = p.ann, p.node.token
        await goods.publish(p, "all", "alpha", "1.0.0", b"ours")
        assert len(await goods.listed(p, "alpha", "")) == 1
        assert await p.node.core.catalog.packages("all") == []
        assert await p.node.core.catalog.packages("ours") != []
        p.node.token = p.bob
        with pytest.raises(AssertionError):
            await goods.publish(p, "all", "alpha", "2.0.0", b"ours")
        p.node.token = admin
        await p.change("PUT", "virtual", deploy_repo="")
        with pytest.raises(AssertionError, match="deploy target"):
            await goods.publish(p, "all", "alpha", "3.0.0", b"ours")


@pytest.mark.parametrize("form", FORMATS)
async def test_members_answer_without_the_upstream(form: str, tmp_path: Path) -> None:
    goods = GOODS[form]
    async with party(tmp_path, form) as p:
        await goods.publish(p, "ours", "alpha", "1.0.0", b"ours")
        goods.offer(p.server, "beta", {"1.0.0": b"theirs"})
        before = {path: await p.get(path) for path in await goods.listed(p, "beta", "")}
        p.server.refuse = True
        assert set(await goods.listed(p, "beta", "")) == set(before)
        for path, answer in before.items():
            assert (await p.get(path)).body == answer.body
        assert len(await goods.listed(p, "alpha", "")) == 1
