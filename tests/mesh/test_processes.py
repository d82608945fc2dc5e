"""Real node processes, killed and attacked: bytes are right, delays bounded, culprits named.

Hostile peers run in the test itself, over real TLS.
"""

from __future__ import annotations

import hashlib
import json
import random
import socket
import ssl
import struct
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from mesh import invitation
from mesh.carriers.tls import ALPN, parse_address
from store.digest import Digest
from tests.conformance.nodes import NodeProcess
from tests.mesh.nodes import Fleet, Node

pytestmark = pytest.mark.slow

RATE = 4_000_000  # bytes per second that the source may send, so that a fetch takes a while
SOON = 20.0  # seconds that anything may take on a busy machine
PATH = "/general/generic/blob/1/x.bin"


def payload(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


class Api:
    """The management API of a node, as its administrator."""

    def __init__(self, node: NodeProcess, password: str) -> None:
        self.node, self._password, self._token = node, password, ""

    def get(self, path: str) -> Any:
        if not self._token:
            body = {"username": "admin", "password": self._password}
            self._token = self._call("/auth/login", body)["access_token"]
        return self._call(path)

    def _call(self, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        request = urllib.request.Request(f"{self.node.url}/api/v1{path}", data, headers)
        with urllib.request.urlopen(request, timeout=SOON) as answer:
            return json.load(answer)

    def peers(self) -> list[dict[str, Any]]:
        return self.get("/mesh/peers")["items"]


def put(node: NodeProcess, data: bytes, path: str = PATH) -> None:
    import base64

    login = base64.b64encode(f"u:{node.token()}".encode()).decode()
    headers = {"Authorization": f"Basic {login}"}
    request = urllib.request.Request(node.url + path, data, headers, method="PUT")
    urllib.request.urlopen(request, timeout=SOON).close()


def get(node: NodeProcess, seconds: float, path: str = PATH) -> bytes:
    """Read a file that may not be known yet."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(node.url + path, timeout=seconds) as answer:
                return bytes(answer.read())
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def start(folder: Path, name: str, *arguments: str, **environment: str) -> NodeProcess:
    node = NodeProcess(folder / name, arguments=arguments, environment=environment)
    return node.start()


@pytest.fixture
def source(tmp_path: Path) -> Iterator[NodeProcess]:
    node = start(tmp_path, "source", ATOLL_MESH_UPLOAD_RATE=str(RATE))
    try:
        yield node
    finally:
        node.kill()


class Sent:
    """What the source has sent to its only peer, over all sockets."""

    def __init__(self, api: Api) -> None:
        self.api, self.total, self._last = api, 0, 0

    def look(self) -> int:
        (peer,) = self.api.peers()
        self.total += peer["sent"] - (self._last if peer["sent"] >= self._last else 0)
        self._last = peer["sent"]
        return self.total

    def follow(self, until: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not until():
            assert time.monotonic() < deadline, f"stuck at {self.total}"
            self.look()
            time.sleep(0.05)


@pytest.mark.parametrize("unasked", [False, True], ids=["asked-again", "everywhere"])
def test_a_receiver_killed_at_random_moments_goes_on_where_it_was(
    source: NodeProcess, tmp_path: Path, unasked: bool
) -> None:
    rng, data = random.Random(2), payload(32_000_000)
    sent = Sent(Api(source, source.admin_password))
    policy = "everywhere" if unasked else "on-demand"
    receiver = start(tmp_path, "b", "--join", source.invitation(), ATOLL_MESH_REPLICATE=policy)
    try:
        put(source, data)
        kills = 3
        for _ in range(kills):
            goal = sent.look() + int(RATE * rng.uniform(0.7, 1.6))
            if not unasked:
                _ask_and_leave(receiver)
            sent.follow(partial(_reached, sent, goal), SOON + 10)
            receiver.kill()
            sent.look()
            receiver.start()
        if unasked:
            sent.follow(partial(_holds, receiver, data), SOON + 20)
            source.kill()
        assert get(receiver, 60) == data
        if not unasked:
            sent.look()
        print(f"sent {sent.total}, {kills} kills, {sent.total / len(data):.3f} copies")
        assert sent.total <= len(data) + kills * 2.5 * RATE
    finally:
        receiver.kill()


def _ask_and_leave(node: NodeProcess) -> None:
    """Begin to read; the fetch goes on when the client has left."""
    deadline = time.monotonic() + SOON
    while True:
        try:
            with urllib.request.urlopen(node.url + PATH, timeout=SOON) as answer:
                answer.read(1)
                return
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def _reached(sent: Sent, goal: int) -> bool:
    return sent.total >= goal


def _holds(node: NodeProcess, data: bytes) -> bool:
    """Tell from the disk: what was sent just before a kill is in nobody's count."""
    name = hashlib.sha256(data).hexdigest()
    return (node.data / "blobs" / name[:2] / name).exists()


class Hostile:
    """A member that the test itself plays, whole and over real TLS; then it turns bad."""

    def __init__(self, node: Node) -> None:
        self.node = node

    async def turn(self, vice: str) -> None:
        transfers = self.node.mesh._transfers
        honest = transfers.read

        async def corrupt(*asked: Any) -> bytes:
            data = await honest(*asked)
            return data[:-1] + bytes([data[-1] ^ 1])

        async def stall(*_: Any) -> bytes:
            await trio.sleep_forever()
            raise AssertionError

        transfers.read = {"corrupt": corrupt, "stall": stall}[vice]  # type: ignore  # one of two faults in its place


@pytest.mark.parametrize("vice", ["corrupt", "stall"])
async def test_a_bad_member_costs_a_bounded_delay_and_is_named(
    source: NodeProcess, tmp_path: Path, vice: str
) -> None:
    data = payload(20_000_000)  # long enough for a stall to be noticed
    in_thread = trio.to_thread.run_sync
    await in_thread(put, source, data)
    receiver = await in_thread(partial(start, tmp_path, "b", "--join", source.invitation()))
    try:
        async with Fleet(tmp_path / "fleet", tls=True).open() as fleet:
            bad = await fleet.node("bad")
            await bad.mesh.join(await in_thread(source.invitation))
            await bad.mesh.fetch(Digest.of(data))
            await Hostile(bad).turn(vice)
            api = Api(receiver, source.admin_password)
            await eventually(lambda: in_thread(partial(up, api, bad)))
            began = time.monotonic()
            got = await in_thread(get, receiver, 60.0)
            took = time.monotonic() - began
            assert got == data
            (culprit,) = [p for p in await in_thread(api.peers) if p["node"] == bad.identity.node]
            print(f"{vice}: {took:.1f} s, {culprit['strikes']} strikes, {culprit['notes']}")
            assert took < len(data) / RATE + 10
            assert culprit["trouble"]
            if vice == "corrupt":
                assert culprit["strikes"] >= 1
                assert "wrong bytes" in " ".join(culprit["notes"])
            else:
                assert culprit["strikes"] == 0
                assert "stalled" in " ".join(culprit["notes"])
    finally:
        receiver.kill()


def up(api: Api, node: Node) -> bool:
    return any(p["node"] == node.identity.node and p["state"] == "up" for p in api.peers())


async def eventually(check: Callable[[], Awaitable[bool]]) -> None:
    with trio.fail_after(SOON):
        while not await check():  # noqa: ASYNC110  it watches another process
            await trio.sleep(0.1)


async def test_a_clock_far_ahead_is_held_and_told(source: NodeProcess, tmp_path: Path) -> None:
    in_thread = trio.to_thread.run_sync
    async with Fleet(tmp_path / "fleet", tls=True).open() as fleet:
        early = await fleet.node("early")
        await early.mesh.join(await in_thread(source.invitation))
        early.ledger._clock = lambda: time.time() + 7200.0
        await early.publish("x.bin", await early.add(b"from the future"))
        api = Api(source, source.admin_password)

        async def told() -> bool:
            authors = (await in_thread(api.get, "/mesh/peers"))["authors"]
            return any(a["author"] == early.identity.node and a["held"] for a in authors)

        await eventually(told)
        shown = await in_thread(
            source.command, "mesh", "peers", "--json", "--data", str(source.data)
        )
        (author,) = [a for a in json.loads(shown)["authors"] if a["held"]]
        print(author)
        assert any("ahead" in reason or "future" in reason for reason in author["reasons"])


def test_strangers_on_the_port_hold_up_no_member(source: NodeProcess, tmp_path: Path) -> None:
    """Silent ones, slow ones, garbage, and frames too large, more than the port takes at a time."""
    data = payload(300_000)
    put(source, data)
    text = source.invitation()
    address = parse_address(invitation.read(text).addresses[0])
    sockets = [socket.create_connection(address) for _ in range(200)]
    try:
        for number, sock in enumerate(sockets):
            if number % 4 == 1:
                sock.sendall(b"\x16\x03\x01\x02")  # the beginning of a TLS hello, and no more
            elif number % 4 == 2:
                sock.sendall(random.Random(number).randbytes(5000))
        shaken = [_tls(address) for _ in range(80)]
        sockets += shaken
        for number, tls in enumerate(shaken):
            if number % 2:
                with suppress(OSError):  # closed already: it was one too many
                    tls.sendall(struct.pack("!IB", 1 << 31, 2) + bytes(70_000))
        began = time.monotonic()
        receiver = start(tmp_path, "b", "--join", text)
        try:
            assert get(receiver, SOON) == data
            print(f"joined and fetched in {time.monotonic() - began:.1f} s")
        finally:
            receiver.kill()
    finally:
        for sock in sockets:
            sock.close()


def _tls(address: tuple[str, int]) -> ssl.SSLSocket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols([ALPN])
    return context.wrap_socket(socket.create_connection(address))
