"""What every format that can be proxied owes to the engine, over ``formats.discover()``."""

from __future__ import annotations

import pytest

import formats
from formats.contract import Format, Request
from formats.remote import Aim, Freshness, Kept, Origin, Promise, cached
from store.facts import Cached, File
from tests.formats.fake import find_route

PROXIED = [each for each in formats.discover() if each.remote is not None]
each_format = pytest.mark.parametrize("fmt", PROXIED, ids=[each.name for each in PROXIED])
BASE = "https://upstream.test/root/"
PATHS = {
    "debian": [
        *("/dists/stable/InRelease", "/dists/stable/main/binary-amd64/Packages.xz"),
        f"/dists/stable/main/binary-amd64/by-hash/SHA256/{'a' * 64}",
        *("/pool/main/h/hello/hello_1.0+b1_amd64.deb", "/Packages", "/x/y/z_1_all.deb"),
    ],
    "generic": ["/a/b.bin", "/a b/c+d~e.bin"],
    "maven": [
        *("/org/demo/a/1.0/a-1.0.jar", "/org/demo/a/1.0/a-1.0.jar.sha1"),
        *("/org/demo/a/maven-metadata.xml", "/org/demo/a/1-SNAPSHOT/a-1-SNAPSHOT.pom"),
    ],
    "npm": [
        *("/demo", "/@s/demo", "/@s%2fdemo", "/demo/1.0.0", "/demo/-/demo-1.0.0.tgz"),
        *("/@s/demo/-/demo-1.0.0.tgz", "/-/package/demo/dist-tags", "/-/npm/v1/keys"),
    ],
    "oci": [
        *("/demo/manifests/latest", f"/a/b/manifests/sha256:{'a' * 64}"),
        *(f"/demo/blobs/sha256:{'a' * 64}", "/demo/tags/list", f"/d/referrers/sha256:{'a' * 64}"),
    ],
    "pypi": ["/simple/", "/simple/demo/", "/simple/demo/demo-1.0.tar.gz"],
}


def request(fmt: Format, path: str, **headers: str) -> Request:
    """A GET below the mount, its parameters decoded."""
    _, params = find_route(fmt, "GET", path)
    base = f"https://node.test{fmt.mounts[0]}/r"
    return Request("GET", path, base, "https://node.test", params=params, headers=headers)


def aim_of(fmt: Format, path: str, **headers: str) -> Aim | None:
    """What of the upstream answers a GET."""
    assert fmt.remote is not None
    base = fmt.remote.base(BASE)
    return fmt.remote.aim(request(fmt, path, **headers), base, {})


@each_format
def test_reads_have_an_aim_that_is_the_same_each_time(fmt: Format) -> None:
    assert fmt.remote is not None
    for path in PATHS[fmt.name]:
        aim = aim_of(fmt, path)
        assert aim is not None, path
        assert aim == aim_of(fmt, path)
        assert aim.path
        assert isinstance(fmt.remote.classify(aim.path), Freshness)


@each_format
def test_paths_and_urls_hold_nothing_that_breaks_a_request(fmt: Format) -> None:
    for path in PATHS[fmt.name]:
        aim = aim_of(fmt, path)
        assert aim is not None
        for url in (aim.url, *(each for _, each in aim.sidecars)):
            assert url.isascii()
            assert not set(url) & set(" \r\n\t\\#"), url
            assert ".." not in url.split("/")


@each_format
def test_what_clients_send_along_does_not_choose_what_is_kept(fmt: Format) -> None:
    """Host, coding and identity of a client neither change the place nor reach the upstream."""
    for path in PATHS[fmt.name]:
        plain = aim_of(fmt, path)
        odd = {"host": "evil.test", "accept-encoding": "br", "authorization": "Basic x"}
        assert aim_of(fmt, path, **odd, cookie="c") == plain


def test_a_fetched_file_is_recorded_under_its_path() -> None:
    aim = Aim("a/b", package="a", version="1", promise=Promise())
    file = File("a/b", "file", "sha256:" + "0" * 64, 1)
    assert cached("r", aim, file, Kept(Origin())) == (Cached("r", "a", "1", (file,)),)
