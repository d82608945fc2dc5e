"""Paths: which route answers, what a parameter may hold."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from formats import discover
from formats.contract import Request, Response, Route
from node.routing import Router, RouteTable, decode, split_repository
from store.errors import MethodNotAllowedError, NotFoundError, PathInvalidError, RegistryError


async def handler(request: Request, repository: object) -> Response:
    return Response()


TABLE = RouteTable(
    [
        Route("GET", "/simple/", handler),
        Route("GET", "/simple/{project}/", handler),
        Route("PUT", "/{path*}", handler),
        Route("GET", "/{image*}/blobs/{digest}", handler),
        Route("GET", "/{package}", handler, encoded_slash=True),
    ]
)


@pytest.mark.parametrize(
    ("method", "path", "template", "params"),
    [
        ("GET", "/simple", "/simple/", {}),
        ("HEAD", "/simple/demo", "/simple/{project}/", {"project": "demo"}),
        ("GET", "//simple///demo//", "/simple/{project}/", {"project": "demo"}),
        ("PUT", "/a/b%20c/d", "/{path*}", {"path": "a/b c/d"}),
        (
            "GET",
            "/x/y/blobs/sha256:1",
            "/{image*}/blobs/{digest}",
            {"image": "x/y", "digest": "sha256:1"},
        ),
        ("GET", "/blobs/blobs/d", "/{image*}/blobs/{digest}", {"image": "blobs", "digest": "d"}),
        ("GET", "/@scope%2fname", "/{package}", {"package": "@scope/name"}),
    ],
)
def test_first_match_answers(method: str, path: str, template: str, params: dict[str, str]) -> None:
    found = TABLE.match(method, path)
    assert (found.route.path, found.params) == (template, params)


@pytest.mark.parametrize(
    "path",
    [
        "/simple/..%2fx",
        "/simple/%2e%2e",
        "/simple/.",
        "/simple/..",
        "/simple/a%00",
        "/simple/a%5cb",
        "/simple/%ff",
        "/simple/" + "a" * 256,
        "/simple/%252e%252e",
        "/simple/a%2500",
        "/simple/%c2%85",
        "/simple/%ef%bf%be",
    ],
)
def test_hostile_components_are_refused(path: str) -> None:
    with pytest.raises(PathInvalidError):
        TABLE.match("GET", path)


def test_other_methods_are_named() -> None:
    with pytest.raises(MethodNotAllowedError, match="GET"):
        RouteTable([Route("GET", "/a", handler)]).match("DELETE", "/a")
    with pytest.raises(NotFoundError):
        RouteTable([Route("GET", "/a", handler)]).match("GET", "/b")


@given(st.text(alphabet="abc/%2Ef.\\0", max_size=40))
def test_any_path_gives_a_route_or_an_error_a_client_can_be_told(text: str) -> None:
    try:
        params = TABLE.match("PUT", "/" + text).params
    except RegistryError:
        return
    for value in params.values():
        assert not set(value.split("/")) & {"..", "."}
        assert "\\" not in value


@pytest.mark.parametrize(
    "text", ["a", "a.b-c_1.0+x~1", "a/b/c", "a" * 201, "..a", "a/.b", "1.0..", "é"]
)
def test_what_is_decoded_stays_as_it_is(text: str) -> None:
    assert decode("x", text, star=True, encoded_slash=False) == text


@pytest.mark.parametrize("text", ["..", ".", "a/..", "./a", "a/./b", "a" * 256, "a/" + "b" * 256])
def test_no_short_cut_past_the_rules(text: str) -> None:
    with pytest.raises(PathInvalidError):
        decode("x", text, star=True, encoded_slash=False)


def test_the_root_of_a_mount_and_what_is_none() -> None:
    router = Router(discover())
    found = router.find("/pypi")
    assert found is not None
    assert (found[0].mount, found[1]) == ("/pypi", "/")
    assert [router.find(path) for path in ("", "/", "*", "pypi/x", "//pypi/x", "/nowhere/x")] == [
        None
    ] * 6


def test_repository_keys_split_off() -> None:
    assert split_repository("/main/simple/x") == ("main", "/simple/x")
    assert split_repository("//main") == ("main", "/")
    with pytest.raises(NotFoundError):
        split_repository("/")


def test_every_format_has_mounts_of_its_own() -> None:
    router = Router(discover())
    for each in discover():
        for mount in each.mounts:
            found = router.find(f"{mount}/key/rest")
            assert found is not None
            assert (found[0].format, found[1]) == (each, "/key/rest")
