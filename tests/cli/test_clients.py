"""What client settings are filled with: every part of a URL that some client wants by itself."""

from __future__ import annotations

import pytest

from cli.clients import settings_places

URL = "http://packages.test:8080/prefix/npm/team"


def test_every_part_of_the_url_can_be_named() -> None:
    text = "{url} {address} {host} {hostname} {path} {key} {user} {token}"
    assert text.format_map(settings_places(URL, "team", "alice", "secret")).split() == [
        URL,
        "//packages.test:8080/prefix/npm/team",
        "packages.test:8080",
        "packages.test",
        "/prefix/npm/team",
        "team",
        "alice",
        "secret",
    ]


def test_credentials_in_a_url_are_escaped() -> None:
    places = settings_places(URL, "team", "alice@site", "a/b:c")
    filled = "{secret_url}".format_map(places)
    assert filled == "http://alice%40site:a%2Fb%3Ac@packages.test:8080/prefix/npm/team"


@pytest.mark.parametrize(
    ("url", "expected"),
    [(URL, "--plain-http packages.test:8080 "), ("https://packages.test/npm/team", "--verify ")],
)
def test_text_for_one_scheme_is_dropped_for_the_other(url: str, expected: str) -> None:
    text = "{http:--plain-http {host} }{https:--verify }"
    assert text.format_map(settings_places(url, "team", "u", "t")) == expected
