"""Response heads and framing, read back by h11."""

from __future__ import annotations

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.http.asgi import InvalidMessageError
from node.http.response import ResponseWriter


def writer(method: str = "GET", version: str = "1.1", *, close: bool = False) -> ResponseWriter:
    return ResponseWriter(method=method, http_version=version, close=close)


def read_back(data: bytes, method: bytes = b"GET") -> tuple[h11.Response, bytes]:
    """Read one response as a client would, to its end."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=method, target="/", headers=[("Host", "t")]))
    client.send(h11.EndOfMessage())
    client.receive_data(data)
    response = client.next_event()
    assert isinstance(response, h11.Response)
    body = b""
    while isinstance(event := client.next_event(), h11.Data):
        body += event.data
    if event is h11.NEED_DATA:  # framed by the end of the connection
        client.receive_data(b"")
        event = client.next_event()
    assert isinstance(event, h11.EndOfMessage)
    assert not client.trailing_data[0]
    return response, body


def write(
    found: ResponseWriter, status: int, headers: list[tuple[bytes, bytes]], parts: list[bytes]
) -> bytes:
    data = found.head(status, headers, b"Phrase")
    for part in parts:
        data += b"".join(found.frame(part, len(part)))
    return data + found.end()


PARTS = st.lists(st.binary(max_size=60), max_size=4)


@given(PARTS, st.booleans(), st.sampled_from(["1.0", "1.1"]), st.booleans())
def test_any_response_reads_back_as_it_was_written(
    parts: list[bytes], sized: bool, version: str, close: bool
) -> None:
    headers = [(b"X-Name", b" va\xfclue ")]
    if sized:
        headers.append((b"Content-Length", b"%d" % sum(map(len, parts))))
    found = writer(version=version, close=close)
    response, body = read_back(write(found, 200, headers, parts))
    assert body == b"".join(parts)
    fields = dict(response.headers)
    assert fields[b"x-name"] == b"va\xfclue"
    assert response.reason == b"Phrase"
    assert (
        found.close == (b"close" in fields.get(b"connection", b"")) == (close or version == "1.0")
    )


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
def test_a_response_without_body_has_none_whatever_is_written(method: str, status: int) -> None:
    headers = [(b"content-length", b"5")] if method == "HEAD" else []
    data = write(writer(method), status, headers, [b"ignored"])
    response, body = read_back(data, method.encode())
    assert (response.status_code, body) == (status, b"")
    assert data.endswith(b"\r\n\r\n")
    assert b"transfer-encoding" not in data


def test_the_app_may_end_the_connection_but_not_choose_the_framing() -> None:
    found = writer()
    headers = [(b"Connection", b"Close"), (b"Transfer-Encoding", b"gzip")]
    data = write(found, 200, headers, [b"x"])
    assert found.close
    assert read_back(data)[1] == b"x"
    assert b"gzip" not in data


@pytest.mark.parametrize(
    "header",
    [
        (b"bad name", b"x"),
        (b"", b"x"),
        (b"x", b"a\r\nb: c"),
        (b"x", b"a\nb"),
        (b"x", b"a\0"),
        (b"x\r\ny", b"a"),
        (b"content-length", b"-1"),
        (b"content-length", b"1, 1"),
        (b"content-length", b""),
    ],
)
def test_headers_that_are_none_are_the_apps_fault(header: tuple[bytes, bytes]) -> None:
    with pytest.raises(InvalidMessageError):
        writer().head(200, [header], b"OK")


def test_no_more_and_no_less_than_promised() -> None:
    found = writer()
    found.head(200, [(b"content-length", b"3")], b"OK")
    found.frame(b"ab", 2)
    with pytest.raises(InvalidMessageError, match="1 bytes before"):
        found.end()
    with pytest.raises(InvalidMessageError, match="longer"):
        found.frame(b"cd", 2)
    with pytest.raises(InvalidMessageError, match="second"):
        writer().head(200, [(b"content-length", b"3")] * 2, b"OK")


@pytest.mark.parametrize("status", [0, 99, 100, 101, 1000])
def test_only_final_statuses_are_responses(status: int) -> None:
    with pytest.raises(InvalidMessageError):
        writer().head(status, [], b"x")
