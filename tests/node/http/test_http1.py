"""HTTP/1.1 over real sockets: what clients may count on, connection by connection."""

from __future__ import annotations

import pytest
import trio

from node.http.asgi import Receive, Scope, Send
from tests.node.http.support import PATIENCE, Client, echo, http, read_body, reply, running

POST = b"POST /up HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n"


async def test_a_connection_serves_one_request_after_another() -> None:
    async with running(echo) as server:
        client = await server.connect()
        for path in ("/a", "/b%20c"):
            answer = await client.get(path)
            assert (answer.status, answer.body) == (200, f"GET {path} ".encode())
        assert answer.headers["date"].endswith("GMT")


async def test_pipelined_requests_are_answered_in_order() -> None:
    """Bodies of both framings among them, all in one segment."""
    requests = (
        POST % 3 + b"one" + b"GET /two HTTP/1.1\r\nHost: test\r\n\r\n"
        b"PUT /three HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n\r\n" + b"GET /four HTTP/1.1\r\nHost: test\r\n\r\n"
    )
    async with running(echo) as server:
        client = await server.connect()
        await client.send(requests)
        bodies = [(await client.response()).body for _ in range(4)]
    assert bodies == [b"POST /up one", b"GET /two ", b"PUT /three abc", b"GET /four "]


async def test_requests_may_come_a_byte_at_a_time() -> None:
    async with running(echo) as server:
        client = await server.connect()
        for byte in POST % 2 + b"hi":
            await client.send(bytes([byte]))
        assert (await client.response()).body == b"POST /up hi"


async def test_head_gets_the_head_of_get() -> None:
    async with running(echo) as server:
        client = await server.connect()
        answer = await client.get("/x", method="HEAD")
        assert answer.headers["content-length"] == str(len(b"HEAD /x "))
        assert (await client.get("/y")).body == b"GET /y "  # no body was in between


async def test_http_1_0_is_answered_and_closed() -> None:
    async with running(echo) as server:
        client = await server.connect()
        await client.send(b"GET /old HTTP/1.0\r\n\r\n")
        answer = await client.response()
        assert (answer.status, answer.body) == (200, b"GET /old ")
        assert await client.closed()


async def test_connection_close_is_honoured() -> None:
    async with running(echo) as server:
        client = await server.connect()
        answer = await client.get("/", "Connection: close")
        assert answer.headers["connection"] == "close"
        assert await client.closed()


async def test_every_answer_has_a_request_id_the_clients_own_if_fit() -> None:
    async with running(echo) as server:
        client = await server.connect()
        first, second = [(await client.get()).headers["x-request-id"] for _ in range(2)]
        assert len(first) == len(second) == 16
        assert first != second
        own = await client.get("/", "X-Request-Id: ci/42")
        assert own.headers["x-request-id"] == "ci/42"
        unfit = await client.get("/", "X-Request-Id: a b")
        assert len(unfit.headers["x-request-id"]) == 16
        await client.send(b"GET / HTTP/9.9\r\nHost: t\r\n\r\n")
        refused = await client.response()
        assert refused.status == 505
        assert len(refused.headers["x-request-id"]) == 16


async def test_requests_max_closes_politely() -> None:
    async with running(echo, requests_max=2) as server:
        client = await server.connect()
        assert "connection" not in (await client.get()).headers
        assert (await client.get()).headers["connection"] == "close"
        assert await client.closed()


@pytest.mark.parametrize(
    ("start", "status_line"),
    [
        ({"status": 200}, "200 OK"),
        ({"status": 404}, "404 Not Found"),
        ({"status": 299}, "299 Success"),
        ({"status": 799}, "799 Unknown"),
        ({"status": 403, "reason": b"Project is frozen"}, "403 Project is frozen"),
        ({"status": 400, "reason": b"a\r\nSet-Cookie: x=1"}, "400 a  Set-Cookie: x=1"),
        ({"status": 400, "reason": b"\r\n"}, "400 Bad Request"),
    ],
)
async def test_reason_phrases_are_chosen_and_never_empty(
    start: dict[str, object], status_line: str
) -> None:
    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        assert "http.response.reason" in scope["extensions"]
        await send({"type": "http.response.start", "headers": [(b"content-length", b"0")], **start})
        await send({"type": "http.response.body"})

    async with running(http(handler)) as server:
        client = await server.connect()
        answer = await client.get()
        assert f"{answer.status} {answer.reason}" == status_line
        assert "set-cookie" not in answer.headers


async def test_absolute_urls_decide_the_host() -> None:
    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        await reply(send, b"|".join([scope["raw_path"], *hosts]))

    async with running(http(handler)) as server:
        client = await server.connect()
        assert (await client.get("http://other:80/p?q")).body == b"/p|other:80"


# Bodies


async def test_continue_is_sent_when_the_app_asks_for_the_body() -> None:
    async with running(echo) as server:
        client = await server.connect()
        await client.send(POST[:-2] % 4 + b"Expect: 100-continue\r\n\r\n")
        assert (await client.head()).status == 100
        await client.send(b"body")
        assert (await client.response()).body == b"POST /up body"


async def test_an_app_may_refuse_before_continue() -> None:
    """The client is spared its upload: the answer is final, and the connection ends with it."""

    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        await reply(send, status=401)

    async with running(http(refuse)) as server:
        client = await server.connect()
        await client.send(POST[:-2] % 4 + b"Expect: 100-continue\r\n\r\n")
        answer = await client.head()
        assert (answer.status, answer.headers["connection"]) == (401, "close")
        assert await client.rest() == b"ok\n"


@http
async def deaf(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer without reading the body."""
    await reply(send)


async def test_a_small_unread_body_is_read_away() -> None:
    async with running(deaf) as server:
        client = await server.connect()
        await client.send(POST % 5000)
        assert (await client.response()).status == 200
        await client.send(b"x" * 5000)
        assert (await client.get()).status == 200


async def test_an_unread_body_that_stops_gets_no_second_answer() -> None:
    async with running(deaf, read_timeout=0.1) as server:
        client = await server.connect()
        await client.send(POST % 5000 + b"x")
        assert (await client.response()).status == 200
        assert await client.closed()


async def test_a_large_unread_body_ends_the_connection_after_the_answer() -> None:
    """The client is still sending when it is answered: it must see the answer, not a reset."""
    async with running(deaf, drain_size_max=1000) as server:
        client = await server.connect()
        await client.send(POST % 1_000_000 + b"x" * 300_000)
        answer = await client.response()
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert await client.closed()


async def test_unread_chunks_end_the_connection_too() -> None:
    async with running(deaf) as server:
        client = await server.connect()
        await client.send(
            b"POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab"
        )
        assert (await client.response()).headers["connection"] == "close"
        assert await client.closed()


async def test_a_body_over_the_bound_is_refused_before_the_app_runs() -> None:
    async def bug(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError("the app must not run")

    def body_max(scope: Scope) -> int | None:
        return 10 if scope["path"] == "/up" else None

    async with running(http(bug), body_max=body_max) as server:
        client = await server.connect()
        await client.send(POST[:-2] % 11 + b"Expect: 100-continue\r\n\r\n")
        answer = await client.response()
        assert (answer.status, answer.body) == (413, b"body exceeds 10 bytes\n")


async def test_chunks_over_the_bound_are_refused_as_they_come() -> None:
    async with running(echo, body_size_max=10) as server:
        client = await server.connect()
        await client.send(b"POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n")
        await client.send(b"8\r\n12345678\r\n")
        await client.send(b"8\r\n12345678\r\n")
        assert (await client.response()).status == 413


@pytest.mark.parametrize(
    "chunk",
    [b"x\r\n", b"-1\r\n", b"2\r\nabc\r\n", b"1 1\r\n", b"0x2\r\nab\r\n", b"2\nab\r\n0\r\n\r\n"],
)
async def test_malformed_chunks_are_refused(chunk: bytes) -> None:
    async with running(echo) as server:
        client = await server.connect()
        await client.send(
            b"POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk
        )
        await client.stream.send_eof()  # type: ignore[attr-defined]  # a socket's stream has it
        found = await client.rest()
        assert found == b"" or found.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        if chunk != b"2\nab\r\n0\r\n\r\n":
            assert found


@pytest.mark.parametrize("end", [b"", b"\r\n\r\n"])
async def test_a_head_too_large_is_refused(end: bytes) -> None:
    """Whether it comes to an end or not."""
    async with running(echo, head_size_max=1000) as server:
        client = await server.connect()
        await client.send(b"GET / HTTP/1.1\r\nHost: t\r\nX: " + b"y" * 1000 + end)
        assert (await client.response()).status == 431
        assert await client.closed()


# Timeouts


async def test_an_idle_connection_is_closed() -> None:
    async with running(echo, idle_timeout=0.05) as server:
        client = await server.connect()
        assert (await client.get()).status == 200
        assert await client.closed()


async def test_a_connection_that_says_nothing_is_closed() -> None:
    async with running(echo, head_timeout=0.05) as server:
        assert await (await server.connect()).closed()


async def test_a_head_that_drips_is_refused() -> None:
    """The head has one deadline for the whole of it: dripping bytes do not extend it."""
    async with running(echo, head_timeout=0.2) as server:
        client = await server.connect()
        await client.send(b"GET / HTTP/1.1\r\n")
        for _ in range(3):
            await trio.sleep(0.05)
            await client.send(b"X")
        assert (await client.response()).status == 408


async def test_a_body_that_stops_is_refused_and_the_app_cancelled() -> None:
    ended = trio.Event()

    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await read_body(receive)
        finally:
            ended.set()

    async with running(http(handler), read_timeout=0.1) as server:
        client = await server.connect()
        await client.send(POST % 10 + b"abc")
        assert (await client.response()).status == 408
        await ended.wait()


async def test_a_body_that_drips_is_served_for_as_long_as_it_takes() -> None:
    async with running(echo, read_timeout=0.3) as server:
        client = await server.connect()
        await client.send(POST % 5)
        for _ in range(5):
            await trio.sleep(0.1)  # 0.5 s in all, more than one read timeout
            await client.send(b"z")
        assert (await client.response()).body == b"POST /up zzzzz"


# Apps and clients that misbehave


async def test_an_app_that_fails_is_a_500(caplog: pytest.LogCaptureFixture) -> None:
    async def bug(scope: Scope, receive: Receive, send: Send) -> None:
        raise ZeroDivisionError

    async with running(http(bug)) as server:
        client = await server.connect()
        answer = await client.get()
        assert (answer.status, answer.body) == (500, b"Internal Server Error\n")
        assert await client.closed()
    assert "ZeroDivisionError" in caplog.text


async def drain(client: Client) -> None:
    while await client.stream.receive_some(100):
        pass


async def test_an_app_that_fails_amid_its_response_breaks_the_connection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """HTTP/1.0 frames a body by the end of the connection: a clean end would look complete."""

    async def bug(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise ZeroDivisionError

    async with running(http(bug)) as server:
        client = await server.connect()
        await client.send(b"GET / HTTP/1.0\r\n\r\n")
        with pytest.raises(trio.BrokenResourceError):
            await drain(client)
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("messages", [0, 1])
async def test_an_app_that_forgets_to_answer_is_a_500(messages: int) -> None:
    async def forgetful(scope: Scope, receive: Receive, send: Send) -> None:
        if messages:
            await send({"type": "http.response.start", "status": 200, "headers": []})

    async with running(http(forgetful)) as server:
        assert (await (await server.connect()).get()).status == 500


async def test_a_client_that_hangs_up_cancels_the_app() -> None:
    """The app neither reads nor writes at that moment: the watch finds out."""
    started, ended = trio.Event(), trio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        started.set()
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    async with running(http(slow)) as server:
        client = await server.connect()
        await client.send(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n")
        await started.wait()
        await client.stream.aclose()
        await ended.wait()


async def test_an_app_that_waits_hears_of_the_disconnect() -> None:
    heard: list[str] = []
    ended = trio.Event()

    async def waiting(scope: Scope, receive: Receive, send: Send) -> None:
        await read_body(receive)
        heard.append((await receive())["type"])
        ended.set()

    async with running(http(waiting)) as server:
        client = await server.connect()
        await client.send(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n")
        await trio.sleep(0.05)
        await client.stream.aclose()
        await ended.wait()
    assert heard == ["http.disconnect"]


async def test_requests_sent_ahead_leave_others_their_turn() -> None:
    """However many lie in the buffer, another task runs between any two of them."""
    turns, answered = 0, list[int]()

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        answered.append(turns)
        await reply(send, b"x")

    async with running(http(app)) as server, trio.open_nursery() as nursery:
        nursery.start_soon(count)
        client = await server.connect()
        await client.send(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n" * 50)
        with trio.fail_after(PATIENCE):
            while len(answered) < 50:
                await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    assert answered[-1] - answered[0] > 40
