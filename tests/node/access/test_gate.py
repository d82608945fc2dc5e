"""One gate: what is open, what is refused, and that nothing goes round it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from formats import discover
from formats.contract import Scope
from node.access.gate import ANONYMOUS, Caller, Gate, allowed_by
from node.api.app import ENDPOINTS
from node.api.contract import Access
from node.directory import Directory, GrantEntry, GroupEntry, RepositoryEntry
from store.errors import DeniedError, RepositoryUnknownError, UnauthorizedError
from tests.node.world import world

PUBLIC = RepositoryEntry(key="open", format="pypi", is_public=True)
PRIVATE = RepositoryEntry(key="closed", format="pypi", is_public=False)
ANN = Caller("ann", "user")


class NoSettings:
    async def settings(self, kind: str) -> list[object]:
        return []

    async def setting(self, kind: str, key: str) -> None:
        return None


def gate(*grants: GrantEntry, anonymous_read: bool = True) -> Gate:
    directory = Directory(NoSettings())  # type: ignore[arg-type]  # a fake of it
    directory._entries["group"]["crew"] = GroupEntry(name="crew", members=("ann",))
    directory._entries["grant"] = {each.id: each for each in grants}
    return Gate(directory, anonymous_read=anonymous_read)


def grant(repository: str, *actions: str, principal: str = "ann", kind: str = "user") -> GrantEntry:
    return GrantEntry(
        id=repository,
        principal_type=kind,
        principal=principal,
        repository=repository,
        actions=actions,
    )


def test_reads_of_public_repositories_are_open_and_nothing_else_is() -> None:
    judge = gate()
    assert judge.may(ANONYMOUS, "read", PUBLIC)
    for action in ("write", "delete", "admin"):
        assert not judge.may(ANONYMOUS, action, PUBLIC)
        assert not judge.may(ANN, action, PUBLIC)
    assert not judge.may(ANONYMOUS, "read", PRIVATE)
    assert not gate(anonymous_read=False).may(ANONYMOUS, "read", PUBLIC)


def test_grants_reach_as_far_as_their_pattern_and_actions() -> None:
    judge = gate(grant("clo*", "read", "write"))
    assert judge.may(ANN, "write", PRIVATE)
    assert not judge.may(ANN, "delete", PRIVATE)
    assert not judge.may(ANN, "write", PUBLIC)
    assert gate(grant("*", "read", principal="crew", kind="group")).may(ANN, "read", PRIVATE)
    assert not gate(grant("*", "read", principal="other", kind="group")).may(ANN, "read", PRIVATE)


@pytest.mark.parametrize(
    ("scopes", "action", "expected"),
    [
        (["read"], "write", False),
        (["write"], "write", True),
        (["write"], "delete", False),
        ([], "read", False),
        (["nonsense"], "read", False),
        (["*"], "admin", True),
    ],
)
def test_a_token_never_exceeds_its_scopes(
    scopes: list[str], action: str, *, expected: bool
) -> None:
    admin = Caller("root", "token", admin=True, allowed=allowed_by(scopes))
    assert gate().may(admin, action, PUBLIC) is expected


def test_a_token_stays_within_its_repositories() -> None:
    admin = Caller("root", "token", admin=True, repositories=("clo*",))
    assert gate().may(admin, "write", PRIVATE)
    assert not gate().may(admin, "write", PUBLIC)


def test_a_bearer_token_allows_exactly_its_pairs() -> None:
    caller = Caller("root", "token", admin=True, access=(("closed", frozenset({"read"})),))
    assert gate().may(caller, "read", PRIVATE)
    assert not gate().may(caller, "write", PRIVATE)
    assert not gate().may(caller, "write", PUBLIC)


def test_refusals_say_what_would_help() -> None:
    judge = gate(grant("open", "read"))
    with pytest.raises(UnauthorizedError):
        judge.require(ANONYMOUS, Scope.WRITE, PUBLIC)
    with pytest.raises(DeniedError):
        judge.require(ANN, Scope.WRITE, PUBLIC)
    with pytest.raises(RepositoryUnknownError):
        judge.require(ANN, Scope.READ, PRIVATE)
    with pytest.raises(DeniedError):
        judge.require_management(ANN)


SAMPLE = {"{*}": "a/b"}


def concrete(template: str) -> str:
    """A path that matches a route template."""
    return re.sub(r"\{(\w+)\*\}", "a/b", re.sub(r"\{\w+\}", "x", template))


async def test_every_package_route_is_gated(tmp_path: Path) -> None:
    """Anonymous callers get 401 on every route of a private repository, before any handler runs."""
    async with world(tmp_path) as node:
        for each in discover():
            key = f"private-{each.name}"
            made = await node.api("POST", "/repositories", {"key": key, "format": each.keys[0]})
            assert made.status == 201, made.body
            for route in each.routes:
                if route.scope is Scope.OPEN:
                    continue
                path = f"{each.mounts[0]}/{key}{concrete(route.path)}"
                answer = await node.ask(route.method, path, b"{}")
                assert answer.status == 401, (route.method, path, answer.status, answer.body)
                assert "www-authenticate" in answer.headers


async def test_open_routes_are_few_and_known() -> None:
    """A route that judges by itself is an exception worth a look."""
    found = {
        (each.name, route.method, route.path)
        for each in discover()
        for route in each.routes
        if route.scope is Scope.OPEN
    }
    assert all(name == "npm" for name, _, _ in found), found


async def test_every_write_to_a_public_repository_needs_credentials(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        for each in discover():
            for route in each.routes:
                if route.scope not in {Scope.WRITE, Scope.DELETE, Scope.ADMIN}:
                    continue
                path = f"{each.mounts[0]}/{each.keys[0]}{concrete(route.path)}"
                answer = await node.ask(route.method, path, b"{}")
                assert answer.status == 401, (route.method, path, answer.status)


async def test_every_endpoint_of_the_management_api_is_gated(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        await node.api("POST", "/repositories", {"key": "hidden", "format": "generic"})
        for endpoint in ENDPOINTS:
            if endpoint.path == "/events/stream":
                continue  # open, endless, and judged event by event: tests/node/events
            path = re.sub(r"\{key\}", "hidden", endpoint.path)
            path = re.sub(r"\{\w+(:path)?\}", "x", path)
            answer = await node.ask(endpoint.method, f"/api/v1{path}", b"{}")
            if endpoint.access is Access.OPEN:
                assert answer.status in {200, 400, 401}, (path, answer.status)
            elif endpoint.access is Access.READ:
                assert answer.status in {401, 404}, (path, answer.status)
            else:
                assert answer.status == 401, (endpoint.method, path, answer.status, answer.body)
