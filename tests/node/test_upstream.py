"""Addresses, circuits, credentials, URLs and settings of upstreams, without a socket."""

from __future__ import annotations

import pytest

from node.upstream import auth, urls
from node.upstream.breaker import FAILURES_MAX, PAUSE_MAX, Breaker, Pace
from node.upstream.guard import Guard, as_network
from node.upstream.settings import Secrets, Upstream, judge, judge_headers
from store.errors import RejectedError, UpstreamDeniedError, UpstreamError


# --- addresses ----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0"),
        *("100.64.0.1", "224.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1"),
        *("::1", "::", "fe80::1", "fe80::1%eth0", "fd00:ec2::254", "ff02::1", "::ffff:127.0.0.1"),
        *("::ffff:a9fe:a9fe", "2002:7f00:1::", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "junk"),
    ],
)
def test_private_addresses_are_refused(address: str) -> None:
    assert not Guard().permits("registry.test", address)


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:2800:21f::1", "::ffff:8.8.8.8"])
def test_public_addresses_are_permitted(address: str) -> None:
    assert Guard().permits("registry.test", address)


def test_operators_allow_networks_addresses_and_names() -> None:
    guard = Guard(["10.0.0.0/8", "::1", "registry.corp"])
    assert guard.permits("x", "10.9.9.9")
    assert guard.permits("x", "::1")
    assert guard.permits("Registry.corp.", "192.168.7.7")
    assert not guard.permits("x", "192.168.7.7")
    assert not guard.permits("x", "127.0.0.1")
    for bad in ("10.0.0.1/8", "fe80:::", "1.2.3.4/99"):
        with pytest.raises(ValueError, match=r".+"):
            as_network(bad)


async def test_only_the_permitted_addresses_of_a_name_are_used() -> None:
    async def answers(host: str, port: int) -> list[str]:
        return {"mixed": ["127.0.0.1", "8.8.8.8"], "inside": ["10.0.0.1", "::1"]}[host]

    guard = Guard(resolver=answers)
    assert await guard.addresses("mixed", 80) == ["8.8.8.8"]
    with pytest.raises(UpstreamDeniedError, match="not a public address"):
        await guard.addresses("inside", 80)


# --- circuit and pace ---------------------------------------------------------------------------
def test_a_circuit_opens_after_failures_in_a_row_and_admits_one_probe() -> None:
    breaker = Breaker()
    for _ in range(FAILURES_MAX - 1):
        breaker.failed(0.0)
    assert breaker.admits(0.0)
    breaker.succeeded()
    for _ in range(FAILURES_MAX):
        breaker.failed(10.0)
    assert breaker.state(10.5) == "open"
    assert not breaker.admits(10.5)
    assert breaker.state(11.0) == "half-open"
    assert breaker.admits(11.0)
    assert not breaker.admits(11.0), "one probe at a time"
    breaker.failed(11.1)
    assert not breaker.admits(12.0), "a failed probe doubles the pause"
    assert breaker.admits(13.2)
    breaker.succeeded()
    assert breaker.state(13.2) == "closed"
    assert breaker.admits(13.2)


def test_a_pause_is_bounded_and_a_lost_probe_is_not_waited_for_for_ever() -> None:
    breaker, now = Breaker(), 0.0
    for _ in range(50):
        breaker.failed(now)
        assert breaker.wait(now) <= PAUSE_MAX
        now += PAUSE_MAX
    assert breaker.admits(now, patience=5.0)
    assert not breaker.admits(now + 4.9)
    assert breaker.admits(now + 5.1)


def test_an_upstream_may_ask_for_a_pause() -> None:
    breaker = Breaker()
    breaker.told_to_wait(0.0, 30.0)
    assert not breaker.admits(29.0)
    assert breaker.admits(30.0)
    breaker.told_to_wait(100.0, 1e9)
    assert breaker.wait(100.0) <= 600.0


def test_requests_are_paced() -> None:
    pace = Pace(10.0)
    delays = [pace.delay(100.0) for _ in range(30)]
    assert sum(each == 0 for each in delays) in {10, 11}
    assert delays[-1] == pytest.approx(1.9, abs=0.11)
    assert Pace(0).delay(0.0) == 0.0


# --- credentials --------------------------------------------------------------------------------
HUB = Upstream(url="https://registry.test/v2/", auth_type="basic", username="u")


def test_credentials_stay_with_their_origin() -> None:
    secrets = Secrets(password="p", headers={"x-api-key": "k"})
    held = auth.Credentials(HUB, secrets)
    own = held.headers(urls.parse("https://registry.test/v2/a"), "", 0.0)
    assert own == {"x-api-key": "k", "authorization": "Basic dTpw"}
    for foreign in (
        "https://cdn.test/v2/a",
        "http://registry.test/v2/a",
        "https://registry.test:444/v2/a",
        "https://registry.test.evil/v2/a",
    ):
        assert held.headers(urls.parse(foreign), "", 0.0) == {}
    assert "p" not in repr(held).replace("Credentials(basic)", "")
    assert "k" not in repr(secrets).replace("Secrets", "")


def test_tokens_belong_to_a_scope_and_expire() -> None:
    held = auth.Credentials(HUB, Secrets(password="p"))
    held.keep("image", "T", 60.0)
    target = urls.parse(HUB.url)
    assert held.headers(target, "image", 59.0)["authorization"] == "Bearer T"
    assert held.headers(target, "image", 61.0)["authorization"].startswith("Basic")
    assert held.headers(target, "other", 0.0)["authorization"].startswith("Basic")
    assert held.for_realm(urls.parse("https://auth.test/token"))
    assert held.for_realm(urls.parse("http://auth.test/token")) == {}


def test_challenges_are_read() -> None:
    header = (
        'Basic realm="x", Bearer realm="https://a.test/t",service="s",scope="repository:a:pull"'
    )
    found = auth.read_challenge(header)
    assert found is not None
    assert found.url == "https://a.test/t?service=s&scope=repository%3Aa%3Apull"
    for other in ("", "Basic realm=x", 'Bearer realm="ftp://a"', "Bearer", "Bearer error=x"):
        assert auth.read_challenge(other) is None


def test_token_answers_are_bounded() -> None:
    assert auth.read_token(b'{"token":"T","expires_in":300}') == ("T", 300.0)
    assert auth.read_token(b'{"access_token":"T"}') == ("T", 60.0)
    assert auth.read_token(b'{"token":"T","expires_in":1e99}')[1] == 3600.0
    for bad in (b"", b"[]", b"{}", b'{"token":"a b"}', b'{"token":"a\\r\\nb"}', b"[" * 9999):
        with pytest.raises(UpstreamError):
            auth.read_token(bad)


# --- URLs and settings --------------------------------------------------------------------------
def test_urls_are_taken_apart() -> None:
    target = urls.parse("http://Host.test:8080/a%20b?c=d#e")
    assert (target.host, target.port, target.path) == ("host.test", 8080, "/a%20b?c=d")
    assert target.url == "http://host.test:8080/a%20b?c=d"
    assert urls.parse("https://[::1]:443/").authority == "[::1]"
    assert urls.parse("http://h.test//evil.test/x").path == "/evil.test/x"
    bad = ["ftp://x/", "http://", "http://x:0/", "http://x:99999/", "http://x/a b", "//x/", "x"]
    for each in [*bad, "http://x/\r\nhost: y", "http://[x/", "http://x/" + "a" * 9000]:
        with pytest.raises(UpstreamError):
            urls.parse(each)


def test_urls_are_shown_without_secrets() -> None:
    shown = urls.shown("https://user:pass@cdn.test:1/a?X-Signature=secret#f")
    assert shown == "https://cdn.test:1/a"
    assert urls.join("https://a.test/b", "c/d") == "https://a.test/b/c/d"
    assert urls.join("https://a.test/b/", "/c") == "https://a.test/c"


@pytest.mark.parametrize(
    "fields",
    [
        {"url": "ftp://x"},
        {"url": "http://u:p@x/"},
        {"url": "http://x/?token=1"},
        {"url": "http://x/", "proxy": "socks5://x"},
        {"url": "http://x/", "auth_type": "ntlm"},
        {"url": "http://x/", "index_ttl": -1.0},
        {"url": "http://x/", "index_ttl": float("nan")},
        {"url": "http://x/", "timeout": 0.0},
        {"url": "http://x/", "connections_max": 0},
        {"url": "http://x/", "user_agent": "a\r\nb: c"},
    ],
)
def test_settings_that_cannot_work_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(RejectedError):
        judge(Upstream(**fields))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("Host", "x"), ("content-length", "1"), ("Transfer-Encoding", "chunked")],
        *[("x y", "1"), ("x:", "1"), ("x", "a\r\nb: c"), ("x", "a\x00"), ("", "x"), ("x", " a")],
        *[("Accept-Encoding", "br"), ("Range", "bytes=0-"), ("Authorization", "x"), ("TE", "x")],
    ],
)
def test_headers_that_could_smuggle_are_refused(name: str, value: str) -> None:
    judge_headers({"X-Api-Key": "abc", "X-Other": ""})
    with pytest.raises(RejectedError, match="header"):
        judge_headers({name: value})
