"""Request heads judged without a socket; every refusal here closes a way to smuggle requests."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.http.asgi import RejectedRequestError
from node.http.head import (
    judged_head,
    make_scope,
    parse_head,
    plain_head,
    reason_phrase,
    request_id,
    server_headers,
)
from node.http.limits import Limits

LIMITS = Limits(head_size_max=2000, header_count_max=5)


def head(*lines: bytes, start: bytes = b"POST / HTTP/1.1") -> bytes:
    return b"\r\n".join([start, b"Host: t", *lines, b"", b""])


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (head(b"Content-Length: 1", b"Content-Length: 2"), 400),
        (head(b"Content-Length: 1, 2"), 400),
        (head(b"Content-Length: +1"), 400),
        (head(b"Content-Length: 0x1"), 400),
        (head(b"Content-Length: -1"), 400),
        (head(b"Content-Length: 1_0"), 400),
        (head(b"Content-Length:"), 400),
        (head(b"Content-Length: " + b"9" * 30), 400),
        (head(b"Content-Length: 1", b"Transfer-Encoding: chunked"), 400),
        (head(b"Transfer-Encoding: chunked", b"Content-Length: 0"), 400),
        (head(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"), 501),
        (head(b"Transfer-Encoding: gzip, chunked"), 501),
        (head(b"Transfer-Encoding: identity"), 501),
        (head(b"Transfer-Encoding: \x0bchunked"), 400),
        (head(b"Transfer-Encoding: chunked", start=b"POST / HTTP/1.0"), 400),
        (head(b"X: a", b" folded"), 400),
        (head(b"X: a", b"\tfolded"), 400),
        (head(b" X: a"), 400),
        (head(b"X : a"), 400),
        (head(b"X"), 400),
        (head(b": a"), 400),
        (head(b"X: a\rb"), 400),
        (head(b"X: a\nContent-Length: 5"), 400),
        (head(b"X: a\x00b"), 400),
        (head(b"X(y): a"), 400),
        (head(b"Host: other"), 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: t\n\r\n", 400),
        (head(start=b"GET  / HTTP/1.1"), 400),
        (head(start=b"GET / HTTP/1.1 "), 400),
        (head(start=b"GET /a b HTTP/1.1"), 400),
        (head(start=b"GET / http/1.1"), 400),
        (head(start=b"GET /"), 400),
        (head(start=b"G(T / HTTP/1.1"), 400),
        (head(start=b"GET /\xc3\xa4 HTTP/1.1"), 400),
        (head(start=b"CONNECT other:443 HTTP/1.1"), 501),
        (head(*[b"A: b"] * 9), 431),
    ],
)
def test_ambiguous_and_malformed_heads_are_refused(data: bytes, status: int) -> None:
    with pytest.raises(RejectedRequestError) as refusal:
        parse_head(data, LIMITS)
    assert refusal.value.status == status


@pytest.mark.parametrize(
    ("lines", "length"),
    [([], 0), ([b"Content-Length: 12"], 12), ([b"Transfer-Encoding: Chunked"], None)],
)
def test_the_body_is_announced_one_way_or_the_other(lines: list[bytes], length: int | None) -> None:
    assert parse_head(head(*lines), LIMITS).body_length == length


def test_the_same_length_twice_is_the_same_length() -> None:
    """RFC 9112 §6.3 allows it: every reader must come to the same end of the body."""
    found = parse_head(head(b"Content-Length: 7", b"Content-Length: 7"), LIMITS)
    assert found.body_length == 7
    assert found.headers.count((b"content-length", b"7")) == 1


@given(st.binary(max_size=200))
def test_any_bytes_are_a_head_or_a_refusal(data: bytes) -> None:
    status = 200
    try:
        parse_head(data + b"\r\n\r\n", LIMITS)
    except RejectedRequestError as refusal:
        status = refusal.status
    assert status in {200, 400, 431, 501, 505}


NAMES = ("Host", "host", "X", "Connection", "Accept", "X-Request-Id", "X ", "", "Content-Length")
VALUES = st.one_of(
    st.sampled_from(
        ("t", "close", "keep-alive, Close", "0", " ", "", "a b", "\xe4", "a\tb", "a\x00")
    ),
    st.text("aB1 \t\r\n\x00\x0b\x7f\x80\xff:,", max_size=6),
)
LINES = st.lists(st.tuples(st.sampled_from(NAMES), VALUES), max_size=4)
STARTS = (
    "GET / HTTP/1.1",
    "HEAD /a?b=%20 HTTP/1.1",
    "GET x HTTP/1.1",
    "GET / HTTP/1.0",
    "PUT / HTTP/1.1",
)


@given(st.sampled_from(STARTS), LINES, st.sampled_from(("Host: t\r\n", "")))
def test_the_short_way_means_what_h11_means(
    start: str, lines: list[tuple[str, str]], host: str
) -> None:
    """Two readings of one head would be how requests are smuggled."""
    text = f"{start}\r\n{host}" + "".join(f"{n}: {v}\r\n" for n, v in lines) + "\r\n"
    data = text.encode("latin-1")
    quick = plain_head(data, LIMITS)
    if quick is None:
        return
    slow = judged_head(data, LIMITS)
    if not any(name == b"x-request-id" for name, _ in quick.headers):
        slow.request_id = quick.request_id
    assert quick == slow


@pytest.mark.parametrize(
    "head_of",
    [
        b"GET /general/generic/f HTTP/1.1\r\nHost: t:80\r\n\r\n",
        b"HEAD /v2/ HTTP/1.1\r\nHost: t\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\n\r\n",
        b"GET /simple/x/ HTTP/1.1\r\nHost: t\r\nConnection: keep-alive\r\nX-A: caf\xe9 au lait\r\n\r\n",
    ],
)
def test_usual_clients_take_the_short_way(head_of: bytes) -> None:
    quick, slow = plain_head(head_of, LIMITS), judged_head(head_of, LIMITS)
    assert quick is not None
    slow.request_id = quick.request_id
    assert quick == slow


def test_a_long_value_of_blanks_takes_no_long_time() -> None:
    """Each byte can be taken by one part of the pattern only."""
    data = b"GET / HTTP/1.1\r\nHost: t\r\nX: a" + b" \t" * 15_000 + b"\r\n\r\n"
    assert plain_head(data, Limits()) is None


def scope_of(target: bytes, method: str = "GET") -> dict[str, object]:
    return dict(
        make_scope(
            method=method,
            target=target,
            headers=[(b"host", b"t")],
            http_version="1.1",
            scheme="http",
            client=("192.0.2.1", 5),
            server=("192.0.2.2", 80),
            state={"a": 1},
            identifier=b"x",
        )
    )


@pytest.mark.parametrize(
    ("target", "path", "raw_path", "query"),
    [
        (b"/a%2Fb/%C3%A4?x=%20&y", "/a/b/ä", b"/a%2Fb/%C3%A4", b"x=%20&y"),
        (b"/", "/", b"/", b""),
        (b"//evil/x", "//evil/x", b"//evil/x", b""),
        (b"http://other", "/", b"/", b""),
        (b"HTTPS://other:1/p?q", "/p", b"/p", b"q"),
    ],
)
def test_a_scope_has_the_path_decoded_and_as_it_came(
    target: bytes, path: str, raw_path: bytes, query: bytes
) -> None:
    scope = scope_of(target)
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == (path, raw_path, query)


@pytest.mark.parametrize(
    "target", [b"x", b"*", b"ftp://h/", b"http://", b"http://h?q", b"/\xff", b""]
)
def test_a_target_without_a_path_is_refused(target: bytes) -> None:
    with pytest.raises(RejectedRequestError):
        scope_of(target)


def test_options_may_ask_about_the_server() -> None:
    assert scope_of(b"*", "OPTIONS")["path"] == "*"


@pytest.mark.parametrize(
    ("wanted", "kept"), [(b"ci/42", True), (b"x" * 65, False), (b"a b", False), (b"\xe4", False)]
)
def test_a_fit_request_id_is_kept(wanted: bytes, kept: bool) -> None:
    assert (request_id(wanted) == wanted) is kept
    assert len(request_id(wanted)) == (len(wanted) if kept else 16)


@pytest.mark.parametrize("version", [b"HTTP/9.9", b"HTTP/2.0", b"HTTP/0.9"])
def test_other_versions_are_505(version: bytes) -> None:
    with pytest.raises(RejectedRequestError) as caught:
        parse_head(b"GET / " + version + b"\r\nHost: t\r\n\r\n", LIMITS)
    assert caught.value.status == 505


def test_a_later_minor_version_is_read_as_ours() -> None:
    assert parse_head(b"GET / HTTP/1.9\r\nHost: t\r\n\r\n", LIMITS).http_version == "1.1"


@given(st.integers(100, 999), st.one_of(st.none(), st.binary(max_size=50), st.text(max_size=50)))
def test_a_reason_phrase_fits_a_status_line(status: int, chosen: bytes | str | None) -> None:
    phrase = reason_phrase(status, chosen)
    assert phrase.strip()
    assert not set(phrase) & {0, 10, 13, 127}


def test_every_response_says_when_and_who() -> None:
    fields = dict(server_headers())
    assert fields[b"server"] == b"atoll"
    assert fields[b"date"].endswith(b" GMT")
