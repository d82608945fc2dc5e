"""Virtual repositories: one answer of several members', and nothing of those one may not read."""

from __future__ import annotations

import gzip
import json
import random
import time
from pathlib import Path

import pytest

from tests.formats import test_npm
from tests.node.repositories.goods import GOODS, sent, sha256
from tests.node.repositories.remotes import make_remote, settle
from tests.node.repositories.virtuals import Party, party
from tests.upstreams import upstream

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


@pytest.mark.parametrize("form", [form for form in FORMATS if not GOODS[form].by_path])
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
        await p.change("PUT", "virtual", unguarded=["al*", "corp:al*"])
        assert len(await goods.listed(p, "alpha", "")) == 2


@pytest.mark.parametrize("form", FORMATS)
async def test_reserved_names_and_routing_rules(form: str, tmp_path: Path) -> None:
    goods = GOODS[form]
    async with party(tmp_path, form) as p:
        goods.offer(p.server, "beta", {"1.0.0": b"theirs"})
        await p.change("PUT", "virtual", reserved=[goods.beta])
        assert await goods.listed(p, "beta", p.ann) == {}
        await p.change("PUT", "virtual", reserved=[])
        for rules in ({"deny": [goods.beta]}, {"allow": ["other*"]}):
            await p.change("PUT", "members/up", **rules)
            assert await goods.listed(p, "beta", p.ann) == {}
            for path in goods.routes("beta", "1.0.0"):
                answer = await p.get(path)
                assert b"1.0.0" not in answer.body or answer.status >= 400, path
        await p.change("PUT", "members/up", allow=[goods.beta])
        assert len(await goods.listed(p, "beta", "")) == 1


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


# --- what single formats ask for ----------------------------------------------------------------
async def bearer(p: Party, credentials: str, scope: str) -> str:
    url = f"/v2/token?scope={scope}"
    answer = await p.node.ask("GET", url, password=credentials or None)
    return str(answer.json["token"])


async def test_a_registry_token_reaches_the_members_that_its_user_may_read(tmp_path: Path) -> None:
    async with party(tmp_path, "docker") as p:
        await GOODS["docker"].publish(p, "secret", "hidden", "1.0.0", b"hush")
        for credentials, status in ((p.ann, 200), (p.bob, 404), ("", 404)):
            token = await bearer(p, credentials, "repository:all/hidden:pull")
            answer = await p.get("/hidden/manifests/1.0.0", authorization=f"Bearer {token}")
            assert answer.status == status
        token = await bearer(p, p.ann, "repository:ours/x:pull")
        answer = await p.get("/hidden/manifests/1.0.0", authorization=f"Bearer {token}")
        assert answer.status == 401


async def test_the_catalog_shows_images_of_readable_members(tmp_path: Path) -> None:
    async with party(tmp_path, "docker") as p:
        await GOODS["docker"].publish(p, "secret", "hidden", "1.0.0", b"hush")
        await GOODS["docker"].publish(p, "ours", "open", "1.0.0", b"ours")
        theirs = await p.node.ask("GET", "/v2/_catalog", password=p.bob)
        assert theirs.json["repositories"] == ["all/open", "ours/open"]
        mine = await p.node.ask("GET", "/v2/_catalog", password=p.ann)
        assert "all/hidden" in mine.json["repositories"]


async def test_who_pushes_is_told_what_the_target_has(tmp_path: Path) -> None:
    """Else a client would not push a layer that only another member has."""
    async with party(tmp_path, "docker") as p:
        GOODS["docker"].offer(p.server, "alpha", {"1.0.0": b"layer"})
        path = f"/alpha/blobs/sha256:{sha256(b'layer')}"
        assert (await p.ask("HEAD", path, token=p.bob)).status == 200
        assert (await p.ask("HEAD", path, token=p.ann)).status == 404
        await sent(
            p, "POST", f"/alpha/blobs/uploads/?digest=sha256:{sha256(b'new')}", b"new", "all"
        )
        waiting = f"/alpha/blobs/sha256:{sha256(b'new')}"  # for its manifest; docker looks for it
        assert (await p.ask("HEAD", waiting, token=p.ann)).status == 200
        assert (await p.ask("HEAD", waiting, token=p.bob)).status == 404
        p.node.token = p.ann
        await GOODS["docker"].publish(p, "all", "alpha", "2.0.0", b"layer")
        assert (await p.get("/alpha/manifests/2.0.0")).status == 200


async def test_a_change_to_an_npm_package_is_made_on_the_targets_view(tmp_path: Path) -> None:
    async with party(tmp_path, "npm") as p:
        await GOODS["npm"].publish(p, "ours", "alpha", "1.0.0", b"ours")
        await GOODS["npm"].publish(p, "secret", "alpha", "2.0.0", b"secret")
        seen = (await p.get("/alpha?write=true", token=p.ann)).json
        assert list(seen["versions"]) == ["1.0.0"]
        seen["versions"]["1.0.0"]["deprecated"] = "old"
        seen.pop("_attachments")
        body = json.dumps(seen).encode()
        done = await p.ask("PUT", "/alpha", body, token=p.ann)
        assert done.status == 201, done.body
        merged = (await p.get("/alpha", token=p.ann)).json
        assert merged["versions"]["1.0.0"]["deprecated"] == "old"
        assert list(merged["versions"]) == ["1.0.0", "2.0.0"]


@pytest.mark.parametrize("form", ["generic", "maven", "docker"])
async def test_nobody_stands_in_for_a_member_that_is_known_to_have_a_name(
    form: str, tmp_path: Path
) -> None:
    """The upstream has a newer version that was never fetched, and is away; others have one, too."""
    goods = GOODS[form]
    async with party(tmp_path, form, ["up", "ours"]) as p:
        await p.change("PUT", "virtual", guard=False)
        goods.offer(p.server, "beta", {"1.0.0": b"theirs"})
        path = next(iter(await goods.listed(p, "beta", "")))
        assert (await p.get(path)).status == 200
        if form != "generic":
            await goods.publish(p, "ours", "beta", "2.0.0", b"another")
            p.server.refuse = True
            other = path.replace("1.0.0", "2.0.0")
            assert (await p.get(other)).status in {502, 503}
        p.server.refuse = True
        assert (await p.get(path)).status == 200


@pytest.mark.parametrize("form", ["npm", "pypi"])
async def test_no_list_stands_in_for_one_of_a_member_that_is_known_to_have_the_name(
    form: str, tmp_path: Path
) -> None:
    """Two upstreams with other bytes of one file: what is listed of the second is not the first's."""
    goods = GOODS[form]
    async with party(tmp_path, form, ["up"]) as p, upstream() as second:
        await make_remote(p.node, second.url, key="up2", form=form)
        for name in ("index_ttl", "cache_ttl", "negative_ttl", "stale_while_revalidate"):
            await p.node.api("PUT", "/repositories/up2/cache-ttl", {f"{name}_seconds": 0})
        added = await p.node.api("POST", "/repositories/all/members", {"member_key": "up2"})
        assert added.status == 200
        await settle(p.node, stale_max_seconds=60)
        goods.offer(p.server, "beta", {"1.0.0": b"first"})
        goods.offer(second, "beta", {"1.0.0": b"second", "2.0.0": b"second"})
        goods.offer(second, "gamma", {"1.0.0": b"second"})
        before = await goods.listed(p, "beta", "")
        assert len(before) == 2
        p.server.refuse = True
        p.node.core.engine.clock = lambda: time.time() + 3600  # what is kept is too old by now
        for path in goods.routes("beta", "1.0.0")[:6]:
            if "beta" in path:
                answer = await p.get(path)
                assert answer.status in {404, 502, 503}, path
                assert b"second" not in answer.body
        assert len(await goods.listed(p, "gamma", "")) == 1  # it is not known to have this
        p.server.refuse = False
        p.node.core.engine.states.drop("up")
        p.node.core.engine.clients["up"].client.breaker.succeeded()
        assert await goods.listed(p, "beta", "") == before


async def test_a_member_that_fails_is_told_of(tmp_path: Path) -> None:
    async with party(tmp_path, "pypi") as p:
        await GOODS["pypi"].publish(p, "ours", "alpha", "1.0.0", b"ours")
        await p.change("PUT", "virtual", guard=False)
        p.server.refuse = True
        answer = await p.get("/simple/alpha/")
        assert answer.status == 200
        assert answer.headers["warning"].startswith("199")
        assert (await p.get("/simple/beta/")).status in {502, 503}
        scraped = (await p.node.ask("GET", "/metrics", password=p.node.token)).body.decode()
        assert 'atoll_virtual_answers_total{outcome="partial",repository="all"} 1.0' in scraped


async def test_the_management_api_shows_what_members_keep(tmp_path: Path) -> None:
    async with party(tmp_path, "pypi") as p:
        await GOODS["pypi"].publish(p, "secret", "hidden", "1.0.0", b"hush")
        path = "/api/v1/repositories/all"
        file = "hidden/hidden-1.0.0-py3-none-any.whl"
        for token, status, names in ((p.bob, 404, []), (p.ann, 200, ["hidden"])):
            given = {"authorization": f"Bearer {token}"}
            listed = await p.node.ask("GET", f"{path}/packages", headers=given)
            assert listed.json["items"] == names
            for kind in ("artifacts", "download"):
                answer = await p.node.ask("GET", f"{path}/{kind}/{file}", headers=given)
                assert answer.status == status
        gone = await p.node.api("DELETE", f"/repositories/all/artifacts/{file}")
        assert gone.status == 404


# --- members of members, order, and changes -----------------------------------------------------
async def test_members_of_members_answer_in_their_place(tmp_path: Path) -> None:
    async with party(tmp_path, "npm") as p:
        await GOODS["npm"].publish(p, "ours", "alpha", "1.0.0", b"ours")
        await GOODS["npm"].publish(p, "secret", "alpha", "2.0.0", b"secret")
        body = {"key": "outer", "format": "npm", "repo_type": "virtual", "is_public": True}
        body["member_repos"] = [{"repo_key": "all"}]
        assert (await p.node.api("POST", "/repositories", body)).status == 201
        for token, versions in ((p.bob, ["1.0.0"]), (p.ann, ["1.0.0", "2.0.0"])):
            found = await p.get("/alpha", key="outer", token=token)
            assert list(found.json["versions"]) == versions
            for each in found.json["versions"].values():
                assert "/npm/outer/alpha/-/" in each["dist"]["tarball"]
        hidden = {"is_public": False}
        assert (await p.node.api("PATCH", "/repositories/all", hidden)).status == 200
        assert (await p.get("/alpha", key="outer", token=p.ann)).status == 404


async def test_scoped_names_in_every_spelling(tmp_path: Path) -> None:
    async with party(tmp_path, "npm") as p:
        document = test_npm.document("@corp/alpha", "1.0.0")
        body = json.dumps(document).encode()
        done = await p.ask("PUT", "/@corp%2falpha", body, key="secret", token=p.ann)
        assert done.status == 201
        paths = ["/@corp/alpha", "/@corp%2falpha", "/@corp/alpha/1.0.0", "/@corp%2Falpha/latest"]
        paths += ["/@corp/alpha/-/alpha-1.0.0.tgz", "/@corp/alpha/-/@corp/alpha-1.0.0.tgz"]
        paths += ["/-/package/@corp%2falpha/dist-tags", "/@corp%2falpha/-/alpha-1.0.0.tgz"]
        for path in paths:
            assert (await p.get(path, token=p.ann)).status == 200, path
            assert (await p.get(path, token=p.bob)).status in {404, 502, 503}, path


async def test_another_order_is_another_answer(tmp_path: Path) -> None:
    async with party(tmp_path, "pypi") as p:
        for key in ("ours", "secret"):
            await GOODS["pypi"].publish(p, key, "alpha", "1.0.0", key.encode())
        path, page = "/simple/alpha/alpha-1.0.0-py3-none-any.whl", "/simple/alpha/"
        before = await p.get(path, token=p.ann), await p.get(page, token=p.ann)
        order = [
            {"member_key": key, "priority": n} for n, key in enumerate(("secret", "ours", "up"))
        ]
        await p.change("PUT", "members", members=order)
        tags = [each.headers["etag"] for each in before]
        after = [
            await p.get(at, token=p.ann, if_none_match=tag)
            for at, tag in zip((path, page), tags, strict=True)
        ]
        assert [each.status for each in after] == [200, 200]
        assert after[0].body != before[0].body
        assert "last-modified" not in after[0].headers
        await p.change("DELETE", "members/secret")
        again = await p.get(path, token=p.ann, if_none_match=tags[0])
        assert again.status == 304
        assert "immutable" not in again.headers["cache-control"]


async def test_marks_and_deletes_reach_the_deploy_target_alone(tmp_path: Path) -> None:
    async with party(tmp_path, "pypi") as p:
        await GOODS["pypi"].publish(p, "ours", "alpha", "1.0.0", b"ours")
        await GOODS["pypi"].publish(p, "secret", "alpha", "2.0.0", b"secret")
        reason = json.dumps({"reason": "broken"}).encode()
        assert (await p.ask("PUT", "/yank/alpha/1.0.0", reason, token=p.bob)).status == 403
        assert (await p.ask("PUT", "/yank/alpha/2.0.0", reason, token=p.ann)).status == 404
        assert (await p.ask("PUT", "/yank/alpha/1.0.0", reason, token=p.ann)).status == 204
        accept = "application/vnd.pypi.simple.v1+json"
        page = await p.get("/simple/alpha/", token=p.ann, accept=accept)
        yanked = {each["filename"]: each["yanked"] for each in page.json["files"]}
        assert sorted(map(str, yanked.values())) == ["False", "broken"]
        legacy = await p.get("/pypi/alpha/json", token=p.ann)
        assert legacy.json["info"]["version"] == "2.0.0"
        assert legacy.json["releases"]["1.0.0"][0]["yanked_reason"] == "broken"


async def test_a_path_that_a_local_member_has_is_not_looked_up_outside(tmp_path: Path) -> None:
    async with party(tmp_path, "generic", ["up", "ours"]) as p:
        await GOODS["generic"].publish(p, "ours", "alpha", "1.0.0", b"ours")
        GOODS["generic"].offer(p.server, "alpha", {"1.0.0": b"theirs", "2.0.0": b"theirs"})
        assert (await p.get("/alpha/1.0.0.bin")).body == b"ours"
        assert p.server.asked == []
        assert (await p.get("/alpha/2.0.0.bin")).body == b"theirs"


async def test_a_member_whose_index_is_away_is_left_out_until_it_is_there(tmp_path: Path) -> None:
    async with party(tmp_path, "debian") as p:
        goods = GOODS["debian"]
        await goods.publish(p, "ours", "alpha", "1.0.0", b"ours")
        goods.offer(p.server, "beta", {"1.0.0": b"theirs"})
        page = p.server.pages.pop("/dists/stable/main/binary-amd64/Packages")
        partial = await p.get("/dists/stable/InRelease")
        assert partial.status == 200
        assert len(await goods.listed(p, "alpha", "")) == 1
        assert await goods.listed(p, "beta", "") == {}
        p.server.pages["/dists/stable/main/binary-amd64/Packages"] = page
        assert len(await goods.listed(p, "beta", "")) == 1


async def test_a_suite_is_narrowed_by_options_and_signed_by_its_own_key(tmp_path: Path) -> None:
    options = {"architectures": ["amd64"], "components": ["main"], "label": "Both"}
    async with party(tmp_path, "debian", options=options) as p:
        await GOODS["debian"].publish(p, "ours", "alpha", "1.0.0", b"ours")
        GOODS["debian"].offer(p.server, "beta", {"1.0.0": b"theirs"})
        release = (await p.get("/dists/stable/Release")).body.decode()
        assert "Label: Both\n" in release
        assert "Architectures: amd64\n" in release
        packages = (await p.get("/dists/stable/main/binary-amd64/Packages.gz")).body
        assert b"members/up/pool" in gzip.decompress(packages)
        keys = [(await p.get("/gpg-key.asc", key=key)).body for key in ("all", "ours")]
        assert keys[0] != keys[1]
        for path in ("/dists/none/InRelease", "/members/up/dists/stable/Release"):
            assert (await p.get(path)).status == 404


async def test_a_name_in_capitals_is_the_same_package_to_apt(tmp_path: Path) -> None:
    """apt and dpkg read names in lower case: an upstream's ``Alpha`` would be our ``alpha``."""
    goods = GOODS["debian"]
    async with party(tmp_path, "debian", ["up", "ours"]) as p:
        goods.offer(p.server, "Alpha", {"9.0.0": b"an attack"})
        assert len(await goods.listed(p, "Alpha", "")) == 1
        await goods.publish(p, "ours", "alpha", "1.0.0", b"ours")
        assert len(await goods.listed(p, "alpha", "")) == 1
        assert await goods.listed(p, "Alpha", "") == {}
        for path in goods.routes("Alpha", "9.0.0"):
            answer = await p.get(path)
            assert b"9.0.0" not in answer.body or answer.status >= 400, path


async def test_webdav_shows_what_a_caller_may_read(tmp_path: Path) -> None:
    async with party(tmp_path, "generic") as p:
        await GOODS["generic"].publish(p, "secret", "hidden", "1.0.0", b"hush")
        await GOODS["generic"].publish(p, "ours", "open", "1.0.0", b"ours")
        for path, names in (("/", b"hidden"), ("/hidden/", b"1.0.0.bin")):
            mine = await p.ask("PROPFIND", path, token=p.ann, depth="1")
            theirs = await p.ask("PROPFIND", path, token=p.bob, depth="1")
            assert names in mine.body
            assert names not in theirs.body


async def test_what_a_member_answers_and_nobody_can_read_is_no_fault_of_ours(
    tmp_path: Path,
) -> None:
    async with party(tmp_path, "npm", ["up"]) as all_:
        odd = {"name": "odd", "versions": {"1.0.0": {}}, "dist-tags": {"latest": 7}}
        headers = {"content-type": "application/json"}
        all_.server.put("/odd", json.dumps(odd).encode(), headers=headers)
        answer = await all_.get("/odd")
        assert answer.status in {404, 502, 503}, answer.body
        assert b"error" in answer.body
