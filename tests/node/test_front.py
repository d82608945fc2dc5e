"""What holds for every answer, whichever app gives it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.node.world import world


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/api/v1/auth/login", b"{}"),
        ("PUT", "/general/generic/a/b", b"x"),
        ("DELETE", "/general/generic/a/b", b""),
        ("POST", "/pypi/pypi/legacy/", b""),
    ],
)
@pytest.mark.parametrize("site", ["cross-site", "same-site", "Cross-Site"])
async def test_pages_of_other_sites_change_nothing(
    tmp_path: Path, method: str, path: str, body: bytes, site: str
) -> None:
    async with world(tmp_path) as node:
        answer = await node.ask(method, path, body, {"sec-fetch-site": site}, password=node.token)
        assert answer.status == 403


@pytest.mark.parametrize("site", ["none", "same-origin", ""])
async def test_a_users_own_page_and_every_tool_may(tmp_path: Path, site: str) -> None:
    async with world(tmp_path) as node:
        headers = {"sec-fetch-site": site} if site else {}
        answer = await node.ask("PUT", "/general/generic/a/b", b"x", headers, password=node.token)
        assert answer.status == 201
        from_a_link = {"sec-fetch-site": "cross-site"}
        assert (await node.ask("GET", "/general/generic/a/b", headers=from_a_link)).status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/healthz",
        "/nothing",
        "/api/v1/version",
        "/api/v1/nothing",
        "/general/generic/",
        "/general/generic/nothing",
        "/maven/maven/",
    ],
)
async def test_no_answer_can_run_a_script(tmp_path: Path, path: str) -> None:
    async with world(tmp_path) as node:
        headers = (await node.ask("GET", path)).headers
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"


async def test_answers_of_the_api_are_not_kept(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        assert (await node.ask("GET", "/api/v1/version")).headers["cache-control"] == "no-store"
