"""The management API: every endpoint answers, and every error has the one shape."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import trio

from node.api.app import ENDPOINTS
from node.api.contract import PAGE_MAX
from node.directory import GroupEntry
from store.digest import Digest
from store.errors import NoHolderError
from store.facts import File, Point, Publish
from tests.node.world import PASSWORD, Answer, World, world

OWN = (  # toured apart
    "browse",
    "bundles",
    "events",
    "invitations",
    "members",
    "mirrors",
    "placement",
    "promotions",
    "retention",
    "roots",
    "search",
    "transfers",
    "couriers",
    "upstreams",
    "virtuals",
)
MESH = {"/mesh/peers", "/mesh/topology", "/mesh/invitations", "/mesh/join"}


def judge_error(answer: Answer, status: int, code: str) -> None:
    assert answer.status == status, answer.body
    assert answer.headers["content-type"] == "application/json"
    assert set(answer.json) == {"code", "message"}
    assert answer.json["code"] == code
    assert answer.json["message"]


async def test_each_endpoint_answers_its_operator(tmp_path: Path) -> None:
    """A tour that calls every row of the table; what it misses fails the test."""
    toured: set[tuple[str, str]] = set()
    async with world(tmp_path) as node:

        async def call(
            method: str, template: str, body: object = None, status: int = 200, **params: str
        ) -> Any:
            toured.add((method, re.sub(r"\?.*", "", template)))
            path = re.sub(r"\{(\w+)(:path)?\}", lambda m: params[m[1]], template)
            answer = await node.api(method, path, body)
            assert answer.status == status, (method, path, answer.status, answer.body)
            json = answer.headers.get("content-type") == "application/json"
            return answer.json if json and status < 300 else answer

        await call("POST", "/repositories", {"key": "mine", "format": "generic"}, 201)
        listed = await call("GET", "/repositories?format=generic&q=MIN&per_page=5")
        assert [each["key"] for each in listed["items"]] == ["mine"]
        assert listed["pagination"] == {"page": 1, "per_page": 5, "total": 1, "total_pages": 1}
        changed = await call("PATCH", "/repositories/{key}", {"description": "d"}, key="mine")
        assert (await call("GET", "/repositories/{key}", key="mine")) == changed
        assert changed["description"] == "d"
        await tour_artifacts(node, call)
        await tour_conflicts(node, call)
        await tour_uploads(node, call)
        await tour_people(call)
        await tour_sessions(node, call)
        await tour_node(call)
        await call("DELETE", "/repositories/{key}?force=true", status=204, key="mine")
        assert (await node.api("GET", "/repositories/mine")).status == 404
    own = {e.handler.__module__ for e in ENDPOINTS} & {f"node.api.{name}" for name in OWN}
    expected = {(e.method, e.path) for e in ENDPOINTS if e.handler.__module__ not in own}
    assert toured - {("POST", "/mesh/invitations")} == expected


async def tour_artifacts(node: World, call: Any) -> None:
    path = "/repositories/{key}/artifacts/{path:path}"
    put = await node.ask(
        "PUT", "/api/v1/repositories/mine/artifacts/a/b.txt", b"hello", control(node)
    )
    assert put.status == 201, put.body
    toured_put = await call("GET", path, key="mine", path="a/b.txt")
    assert toured_put == put.json
    assert (toured_put["size_bytes"], toured_put["local"]) == (5, True)
    listed = await call("GET", "/repositories/{key}/artifacts?limit=1", key="mine")
    assert [each["path"] for each in listed["items"]] == ["a/b.txt"]
    assert (await call("GET", "/repositories/{key}/packages", key="mine"))["items"] == ["a"]
    sha = toured_put["checksum_sha256"]
    found = (await node.api("GET", f"/search/checksum?sha256={sha.upper()}")).json
    assert [each["path"] for each in found["items"]] == ["a/b.txt"]
    quick = (await node.api("GET", "/search/quick?q=B.TX")).json
    assert quick["items"][0]["repository_key"] == "mine"
    assert (await node.api("GET", "/search/quick")).json["items"] == []
    sent = await node.api("GET", "/repositories/mine/download/a/b.txt")
    assert (sent.status, sent.body, sent.headers["content-length"]) == (200, b"hello", "5")
    head = await node.ask("HEAD", "/api/v1/repositories/mine/download/a/b.txt", b"", control(node))
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", "5")
    await call("DELETE", path, status=204, key="mine", path="a/b.txt")
    await call(
        "GET", "/repositories/{key}/download/{path:path}", None, 404, key="mine", path="a/b.txt"
    )
    await call("PUT", path, None, 201, key="mine", path="empty")


async def tour_conflicts(node: World, call: Any) -> None:
    assert (await call("GET", "/conflicts"))["items"] == []
    one, two = await disputed(node, "mine", "c/d.txt")
    assert (await call("GET", "/conflicts"))["items"] == [
        {"repository_key": "mine", "files": 1, "pointers": 1, "pending": 0}
    ]
    place = "/repositories/{key}/conflicts"
    (found,) = (await call("GET", place, key="mine"))["items"]
    assert [(r["digest"], r["winner"]) for r in found["rivals"]] == [(one, True), (two, False)]
    for rival, text in zip(found["rivals"], (b"one", b"two"), strict=True):
        path = rival["download_url"].partition("/api/v1")[2]
        assert (await node.api("GET", path)).body == text
    assert (await node.api("GET", path.replace(two, str(Digest.of(b"other"))))).status == 404
    (tag,) = (await call("GET", f"{place}/tags", key="mine"))["items"]
    assert (tag["tag"], tag["value"], tag["siblings"]) == ("latest", "2", ["1"])
    assert (await call("GET", "/repositories/{key}/pending", key="mine"))["items"] == []
    decide = f"{place}/resolve"
    await call("POST", decide, {"path": "c/d.txt", "digest": one, "tag": "x"}, 400, key="mine")
    await call("POST", decide, {"path": "c/d.txt", "digest": "sha256:0"}, 400, key="mine")
    await call("POST", decide, {"path": "c/e.txt", "digest": one}, 404, key="mine")
    await call("POST", decide, {"path": "c/d.txt", "digest": two}, 204, key="mine")
    await call("POST", decide, {"path": "c/d.txt", "digest": one}, 409, key="mine")
    for value, status in (("3", 400), ("1", 204), ("1", 409)):
        body = {"package": "c", "tag": "latest", "value": value}
        await call("POST", decide, body, status, key="mine")
    assert (await call("GET", "/conflicts"))["items"] == []
    assert (await node.api("GET", "/repositories/mine/download/c/d.txt")).body == b"two"
    audited = await node.core.audit.entries(action="conflict.lost")
    assert [(each.target, each.detail) for each in audited] == [("mine c/d.txt", one)]


async def disputed(node: World, key: str, path: str) -> tuple[str, str]:
    """Publish two contents at one coordinate and move one tag twice, as two sites would unseen."""
    digests = []
    for number, text in enumerate((b"one", b"two"), 1):
        async with node.core.blobs.ingest() as ingest:
            await ingest.write(text)
        stored = ingest.result
        digests.append(str(stored.digest))
        file = File(path, "file", digests[-1], len(text), stored.manifest.id)
        tag = Point(key, "c", "latest", str(number).encode(), seen=(bytes(32),))
        await node.core.ledger.append([Publish(key, "c", "1", (file,)), tag], actor="test")
    return digests[0], digests[1]


async def tour_uploads(node: World, call: Any) -> None:
    wanted = {"repository_key": "mine", "artifact_path": "big/file"}
    made = await call("POST", "/uploads", wanted, 201)
    place = {"id": made["session_id"]}
    sent = await node.ask(
        "PATCH",
        f"/api/v1/uploads/{place['id']}",
        b"0123456789",
        {**control(node), "content-range": "bytes 0-9/10"},
    )
    assert sent.json["bytes_received"] == 10
    await call("PATCH", "/uploads/{id}", None, 416, **place)
    assert (await call("GET", "/uploads/{id}", **place))["bytes_received"] == 10
    done = await call("PUT", "/uploads/{id}/complete", {}, 201, **place)
    assert done["path"] == "big/file"
    other = await call("POST", "/uploads", {**wanted, "artifact_path": "x"}, 201)
    await call("DELETE", "/uploads/{id}", status=204, id=other["session_id"])


async def tour_people(call: Any) -> None:
    ann = {"username": "ann", "password": "password of hers", "email": "a@b"}
    assert (await call("POST", "/users", ann, 201))["email"] == "a@b"
    assert (await call("GET", "/users/{id}", id="ann"))["is_active"] is True
    await call("PATCH", "/users/{id}", {"display_name": "Ann"}, id="ann")
    await call("POST", "/users/{id}/password", {"new_password": "new password"}, 204, id="ann")
    assert [u["username"] for u in (await call("GET", "/users"))["items"]] == ["admin", "ann"]
    crew = {"name": "crew", "members": ["ann"]}
    await call("PUT", "/groups/{name}", crew, name="crew")
    assert (await call("GET", "/groups"))["items"][0]["members"] == ["ann"]
    wish = {"principal_type": "group", "principal": "crew", "repository": "m*", "actions": ["read"]}
    grant = await call("POST", "/permissions", wish, 201)
    assert (await call("GET", "/permissions?repository=m*"))["items"] == [grant]
    await call("DELETE", "/permissions/{id}", status=204, id=grant["id"])
    await call("DELETE", "/groups/{name}", status=204, name="crew")
    await call("DELETE", "/users/{id}", status=204, id="ann")


async def tour_sessions(node: World, call: Any) -> None:
    credentials = {"username": "admin", "password": PASSWORD}
    tokens = await call("POST", "/auth/login", credentials)
    await call("POST", "/auth/refresh", {"refresh_token": tokens["refresh_token"]})
    assert (await call("GET", "/auth/me"))["is_admin"] is True
    made = await call("POST", "/auth/tokens", {"name": "n", "scopes": ["read"]}, 201)
    assert made["token"].startswith("atoll_")
    listed = (await call("GET", "/auth/tokens"))["items"]
    assert {each["name"] for each in listed} == {"n", "t"}
    assert all("token" not in each for each in listed)
    await call("DELETE", "/auth/tokens/{id}", status=204, id=made["id"])
    assert (await call("POST", "/auth/operator"))["token"].count(".") == 2
    await call("POST", "/auth/logout", status=204)


async def tour_node(call: Any) -> None:
    assert (await call("GET", "/node"))["version"] == (await call("GET", "/version"))["version"]
    assert "pypi" in {each["name"] for each in (await call("GET", "/formats"))["items"]}
    page = (await call("GET", "/admin/audit?limit=2"))["items"]
    rest = (await call("GET", f"/admin/audit?before={page[-1]['id']}"))["items"]
    assert {each["id"] for each in page}.isdisjoint(each["id"] for each in rest)
    assert "user.delete" in {each["action"] for each in [*page, *rest]}
    await call("GET", "/admin/metrics")
    assert b"verdict" in (await call("POST", "/verify", {})).body
    for path in sorted(MESH):  # without a network there is no mesh
        method = "POST" if path in {"/mesh/invitations", "/mesh/join"} else "GET"
        body = {"invitation": "x"} if method == "POST" else None
        judge_error(await call(method, path, body, 503), 503, "UNAVAILABLE")


def control(node: World) -> dict[str, str]:
    return {"authorization": f"Control {node.core.control.secret}"}


WRONG: list[tuple[str, str, object, int, str]] = [
    ("POST", "/repositories", {}, 400, "REJECTED"),
    ("POST", "/repositories", [], 400, "REJECTED"),
    ("POST", "/repositories", {"key": "A B", "format": "npm"}, 400, "NAME_INVALID"),
    ("POST", "/repositories", {"key": "x" * 300, "format": "npm"}, 400, "REJECTED"),
    ("POST", "/repositories", {"key": "x", "format": "tape"}, 400, "NAME_INVALID"),
    ("POST", "/repositories", {"key": "token", "format": "docker"}, 400, "NAME_INVALID"),
    ("POST", "/repositories", {"key": "pypi", "format": "pypi"}, 409, "CONFLICT"),
    ("POST", "/repositories", {"key": "x", "format": "npm", "quota_bytes": -1}, 400, "REJECTED"),
    (
        "POST",
        "/repositories",
        {"key": "x", "format": "npm", "repo_type": "odd"},
        415,
        "UNSUPPORTED",
    ),
    ("PATCH", "/repositories/pypi", {"quota_bytes": -1}, 400, "REJECTED"),
    ("PATCH", "/repositories/none", {}, 404, "REPOSITORY_UNKNOWN"),
    ("DELETE", "/repositories/none", None, 404, "NOT_FOUND"),
    ("GET", "/repositories/none", None, 404, "REPOSITORY_UNKNOWN"),
    ("GET", "/repositories?page=x", None, 400, "REJECTED"),
    ("GET", "/repositories?page=" + "9" * 5000, None, 400, "REJECTED"),
    ("GET", "/repositories?page=%D9%A1", None, 400, "REJECTED"),
    ("GET", "/repositories/pypi/artifacts/none", None, 404, "NOT_FOUND"),
    ("GET", "/repositories/pypi/download/none", None, 404, "NOT_FOUND"),
    ("DELETE", "/repositories/pypi/artifacts/none", None, 404, "NOT_FOUND"),
    ("GET", "/search/checksum?sha256=xyz", None, 400, "DIGEST_INVALID"),
    ("POST", "/users", {"username": "../x", "password": "long enough"}, 400, "NAME_INVALID"),
    ("POST", "/users", {"username": "x", "password": "short"}, 400, "REJECTED"),
    ("POST", "/users", {"username": "x", "password": "x" * 2000}, 400, "REJECTED"),
    ("POST", "/users", {"username": "admin", "password": "long enough"}, 409, "CONFLICT"),
    ("GET", "/users/none", None, 404, "NOT_FOUND"),
    ("DELETE", "/users/admin", None, 409, "CONFLICT"),
    ("PATCH", "/users/admin", {"is_admin": False}, 409, "CONFLICT"),
    ("PATCH", "/users/admin", {"is_active": False}, 409, "CONFLICT"),
    ("PUT", "/groups/a", {"name": "b"}, 400, "NAME_INVALID"),
    ("PUT", "/groups/a", {"name": "a", "members": ["none"]}, 404, "NOT_FOUND"),
    ("DELETE", "/groups/none", None, 404, "NOT_FOUND"),
    ("DELETE", "/permissions/none", None, 404, "NOT_FOUND"),
    ("DELETE", "/auth/tokens/none", None, 404, "NOT_FOUND"),
    ("POST", "/auth/tokens", {"name": "x", "scopes": ["fly"]}, 400, "NAME_INVALID"),
    ("POST", "/auth/tokens", {"name": "x" * 300, "scopes": ["read"]}, 400, "REJECTED"),
    (
        "POST",
        "/auth/tokens",
        {"name": "x", "scopes": ["read"], "username": "none"},
        404,
        "NOT_FOUND",
    ),
    (
        "POST",
        "/auth/tokens",
        {"name": "x", "scopes": ["read"], "expires_in_days": 0},
        400,
        "REJECTED",
    ),
    ("POST", "/auth/login", {"username": "x"}, 400, "REJECTED"),
    ("POST", "/auth/refresh", {"refresh_token": "x"}, 401, "UNAUTHORIZED"),
    (
        "POST",
        "/uploads",
        {"repository_key": "none", "artifact_path": "x"},
        404,
        "REPOSITORY_UNKNOWN",
    ),
    ("POST", "/uploads", {"repository_key": "npm", "artifact_path": "x"}, 415, "UNSUPPORTED"),
    ("GET", "/uploads/none", None, 404, "SESSION_UNKNOWN"),
    ("GET", "/nothing", None, 404, "NOT_FOUND"),
    ("GET", "", None, 404, "NOT_FOUND"),
    ("PUT", "/version", None, 405, "METHOD_NOT_ALLOWED"),
]


async def test_every_error_has_one_shape(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        for method, path, body, status, code in WRONG:
            answer = await node.api(method, path, body)
            assert (answer.status, method, path) == (status, method, path), answer.body
            judge_error(answer, status, code)


@pytest.mark.parametrize("actions", [[], ["fly"]])
async def test_permissions_name_known_actions_and_principals(
    tmp_path: Path, actions: list[str]
) -> None:
    async with world(tmp_path) as node:
        wish: dict[str, object] = {
            "principal": "admin",
            "repository": "*",
            "principal_type": "user",
        }
        judge_error(
            await node.api("POST", "/permissions", {**wish, "actions": actions}), 400, "REJECTED"
        )
        wish = {**wish, "principal_type": "robot", "actions": ["read"]}
        judge_error(await node.api("POST", "/permissions", wish), 400, "REJECTED")


async def test_bodies_that_are_no_json_are_told_so(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        bodies = [b"{", b"\xff", b"[" * 100_000, b'"\\ud800"', b"null", b'{"key": 1, "format": 2}']
        for body in bodies:
            answer = await node.ask("POST", "/api/v1/repositories", body, control(node))
            judge_error(answer, 400, "REJECTED")
        huge = (b" " * 65536 for _ in range(20))
        answer = await node.ask("POST", "/api/v1/repositories", huge, control(node))
        judge_error(answer, 413, "TOO_LARGE")


async def test_a_bug_is_answered_without_its_details(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path) as node:

        def fail(key: str) -> None:
            raise ZeroDivisionError("secret detail")

        monkeypatch.setattr(type(node.core), "entry", lambda self, key: fail(key))
        answer = await node.api("GET", "/repositories/x")
        judge_error(answer, 500, "INTERNAL_SERVER_ERROR")
        assert b"secret" not in answer.body


async def test_errors_in_groups_are_told_like_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path) as node:

        async def fail(*args: object, **options: object) -> None:
            async with trio.open_nursery():
                raise NoHolderError("nobody has it")

        monkeypatch.setattr(node.core.catalog, "files", fail)
        answer = await node.api("GET", "/repositories/pypi/artifacts")
        judge_error(answer, 503, "NO_HOLDER")


async def test_a_blob_that_is_nowhere_is_said_to_be_so_before_the_head(tmp_path: Path) -> None:
    """The head had gone before the first byte was asked for: the client saw a broken 200."""
    async with world(tmp_path) as node:
        put = await node.ask("PUT", "/general/generic/x", b"bytes", control_free(node))
        assert put.status == 201
        found = await node.core.catalog.find("generic", "x")
        assert found is not None
        await node.core.blobs.store.delete(found.digest)
        answer = await node.api("GET", "/repositories/generic/download/x")
        judge_error(answer, 503, "NO_HOLDER")


def control_free(node: World) -> dict[str, str]:
    return {"authorization": f"Bearer {node.token}"}


async def test_writes_of_other_sites_pages_are_refused(tmp_path: Path) -> None:
    """A browser that remembers Basic credentials sends them with anybody's form."""
    async with world(tmp_path) as node:
        body = b'{"key": "mine", "format": "generic"}'
        foreign = {**control(node), "sec-fetch-site": "cross-site"}
        judge_error(await node.ask("POST", "/api/v1/repositories", body, foreign), 403, "DENIED")
        own = {**control(node), "sec-fetch-site": "same-origin"}
        assert (await node.ask("POST", "/api/v1/repositories", body, own)).status == 201
        assert (await node.ask("GET", "/api/v1/repositories", b"", foreign)).status == 200


async def test_writes_over_the_api_count_too(tmp_path: Path) -> None:
    from node.config import Access, Config
    from node.run import build_front
    from node.service import open_core

    access = Access(admin_password=PASSWORD, writes_per_minute=2)
    async with open_core(Config(data=str(tmp_path / "d"), access=access)) as core:
        node = World(core, build_front(core))
        headers = {"x-forwarded-for": "1.2.3.4"}
        body = b'{"username": "x", "password": "y"}'
        tries = [await node.ask("POST", "/api/v1/auth/login", body, headers) for _ in range(3)]
        assert [each.status for each in tries] == [401, 401, 429]
        assert int(tries[2].headers["retry-after"]) >= 1
        assert (
            await node.api("POST", "/repositories", {"key": "a", "format": "npm"})
        ).status == 201


async def test_searches_are_limited_per_caller(tmp_path: Path) -> None:
    """By the API and by npm's own route together: each may look at everything there is."""
    from node.config import Access, Config
    from node.run import build_front
    from node.service import open_core

    access = Access(admin_password=PASSWORD, searches_per_minute=3)
    async with open_core(Config(data=str(tmp_path / "d"), access=access)) as core:
        node = World(core, build_front(core))
        token, _ = await core.accounts.create_token("admin", "t", ["*"], actor="t")
        paths = ["/api/v1/search/advanced?q=a", "/npm/npm/-/v1/search?text=a"]
        paths += ["/api/v1/search/suggest?prefix=a", *paths]
        tries = [await node.ask("GET", path) for path in paths]
        assert [each.status for each in tries] == [200, 200, 200, 429, 429]
        assert all(int(each.headers["retry-after"]) >= 1 for each in tries[3:])
        other = await node.ask("GET", paths[0], address="192.0.2.7")
        named = await node.ask("GET", paths[0], headers={"authorization": f"Bearer {token}"})
        assert (other.status, named.status) == (200, 200)
        assert (await node.ask("GET", "/npm/npm/-/ping")).status == 200
        for _ in range(5):
            assert (await node.api("GET", "/search/quick?q=a")).status == 200


async def test_a_page_is_bounded_whatever_is_asked(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        asked: list[int] = []
        original = node.core.catalog.files

        async def files(*args: Any, **options: Any) -> Any:
            asked.append(options["limit"])
            return await original(*args, **options)

        node.core.catalog.files = files  # type: ignore[method-assign]  # a fake in its place
        await node.api("GET", "/repositories/pypi/artifacts?limit=999999")
        assert asked == [PAGE_MAX + 1]


async def test_pages_follow_each_other_without_a_gap(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        for name in "abcde":
            await node.ask("PUT", f"/general/generic/{name}", name.encode(), control_free(node))
        seen, after = [], ""
        while True:
            path = f"/repositories/generic/artifacts?limit=2&after={after}"
            page = (await node.api("GET", path)).json
            seen += [each["path"] for each in page["items"]]
            if page["next"] is None:
                break
            after = page["next"]
        assert seen == list("abcde")


async def test_a_deleted_repository_leaves_nothing_to_its_successor(tmp_path: Path) -> None:
    """Files of a private repository came to light again in a public one of its name."""
    async with world(tmp_path) as node:
        await node.api("POST", "/repositories", {"key": "r", "format": "generic"})
        for name in ("a", "dir/b"):
            put = await node.ask("PUT", f"/general/r/{name}", b"secret", control_free(node))
            assert put.status == 201
        assert (await node.api("DELETE", "/repositories/r")).status == 409
        assert (await node.api("DELETE", "/repositories/r?force=true")).status == 204
        again = {"key": "r", "format": "generic", "is_public": True}
        assert (await node.api("POST", "/repositories", again)).status == 201
        assert (await node.ask("GET", "/general/r/a")).status == 404
        assert (await node.api("GET", "/repositories/r")).json["artifact_count"] == 0
        assert (await node.api("GET", "/repositories/r/packages")).json["items"] == []


async def test_a_deleted_user_leaves_no_rights_to_a_namesake(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        ann = {"username": "ann", "password": "password of hers"}
        await node.api("POST", "/users", ann)
        await node.api("PUT", "/groups/crew", {"name": "crew", "members": ["ann"]})
        assert (await node.api("DELETE", "/users/ann")).status == 204
        crew = node.core.directory.get(GroupEntry, "crew")
        assert crew is not None
        assert crew.members == ()
        assert node.core.directory.groups_of("ann") == frozenset()


async def test_of_two_who_create_one_repository_one_is_told_so(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        statuses: list[int] = []

        async def create(description: str) -> None:
            body = {"key": "r", "format": "generic", "description": description}
            statuses.append((await node.api("POST", "/repositories", body)).status)

        await node.api("GET", "/version")  # the API is built once
        async with trio.open_nursery() as nursery:
            nursery.start_soon(create, "one")
            nursery.start_soon(create, "two")
        assert sorted(statuses) == [201, 409]


async def test_what_a_repositorys_administrator_may_not_change(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        await node.api("POST", "/users", {"username": "ann", "password": "password of hers"})
        grant = {"principal_type": "user", "principal": "ann", "repository": "pypi"}
        await node.api("POST", "/permissions", {**grant, "actions": ["admin"]})
        token, _ = await node.core.accounts.create_token("ann", "t", ["*"], actor="t")
        headers = {"authorization": f"Bearer {token}"}

        async def patch(key: str, body: bytes) -> int:
            return (await node.ask("PATCH", f"/api/v1/repositories/{key}", body, headers)).status

        assert await patch("pypi", b'{"description": "hers"}') == 200
        assert await patch("pypi", b'{"quota_bytes": 0}') == 403
        assert await patch("pypi", b'{"home": "elsewhere"}') == 403
        assert await patch("npm", b'{"description": "hers"}') == 403


async def test_nobody_learns_who_exists(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        await node.api("POST", "/users", {"username": "ann", "password": "password of hers"})
        token, _ = await node.core.accounts.create_token("ann", "t", ["*"], actor="t")
        headers = {"authorization": f"Bearer {token}"}
        body = b'{"new_password": "long enough"}'
        for name in ("admin", "nobody"):
            path = f"/api/v1/users/{name}"
            assert (await node.ask("GET", path, b"", headers)).status == 403
            assert (await node.ask("POST", f"{path}/password", body, headers)).status == 403
