"""Whose word counts on which URL a client used."""

from __future__ import annotations

import pytest

from node.packages.urls import ExternalUrl

FORWARDED = {
    "host": "inner:8080",
    "x-forwarded-proto": "https",
    "x-forwarded-host": "packages.example, inner",
    "x-forwarded-prefix": "/registry/",
    "x-forwarded-for": "203.0.113.9, 10.0.0.3",
}


def root(urls: ExternalUrl, headers: dict[str, str], address: str) -> str:
    return urls.root(headers, scheme="http", address=address, server="127.0.0.1:8080")


def test_only_trusted_proxies_are_believed() -> None:
    urls = ExternalUrl("", ["10.0.0.0/8", "::1"])
    assert root(urls, FORWARDED, "10.1.2.3") == "https://packages.example/registry"
    assert root(urls, FORWARDED, "::1") == "https://packages.example/registry"
    assert root(urls, FORWARDED, "::ffff:10.1.2.3") == "https://packages.example/registry"
    for stranger in ("192.0.2.1", "", "unix:", "::2"):
        assert root(urls, FORWARDED, stranger) == "http://inner:8080"
        assert urls.client(FORWARDED, stranger) == stranger
    assert root(ExternalUrl("", []), FORWARDED, "10.1.2.3") == "http://inner:8080"


def test_the_client_is_the_nearest_hop_that_is_not_trusted() -> None:
    urls = ExternalUrl("", ["10.0.0.0/8"])
    assert urls.client(FORWARDED, "10.0.0.3") == "203.0.113.9"
    spoofed = {"x-forwarded-for": "1.1.1.1, 203.0.113.9"}
    assert urls.client(spoofed, "10.0.0.3") == "203.0.113.9"
    assert urls.client({"x-forwarded-for": "10.0.0.9, 10.0.0.3"}, "10.0.0.3") == "10.0.0.3"
    assert urls.client({}, "10.0.0.3") == "10.0.0.3"
    assert len(urls.client({"x-forwarded-for": "x" * 999}, "10.0.0.3")) <= 64


def test_what_is_configured_wins() -> None:
    urls = ExternalUrl("https://packages.example/x/", ["10.0.0.0/8"])
    assert root(urls, {"host": "evil"}, "10.1.2.3") == "https://packages.example/x"


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil/path"},
        {"host": "a b"},
        {"host": 'x"><script>'},
        {"host": "a" * 300},
        {"host": ""},
        {},
        {"host": "", "x-forwarded-host": "a\r\nb"},
    ],
)
def test_a_host_that_is_none_is_not_repeated(headers: dict[str, str]) -> None:
    urls = ExternalUrl("", ["10.0.0.0/8"])
    assert root(urls, headers, "10.0.0.1") == "http://127.0.0.1:8080"


def test_odd_schemes_and_prefixes_are_dropped() -> None:
    urls = ExternalUrl("", ["10.0.0.0/8"])
    odd = {"host": "h", "x-forwarded-proto": "javascript", "x-forwarded-prefix": "/a/../b?c"}
    assert root(urls, odd, "10.0.0.1") == "http://h"
