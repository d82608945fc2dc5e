"""A fault of ours that one peer brings up ends its links, is told, and costs nobody else anything."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from mesh.messages import Errand
from mesh.shell.faults import LOGGED_MAX, MINUTE, Faults
from tests.faults import expected_faults
from tests.mesh.nodes import Fleet, Node, until


@pytest.fixture(autouse=True)
def _no_tracebacks() -> Generator[None]:
    with capture_logs():  # drawing them with all variables takes seconds
        yield


async def linked(one: Node, two: Node) -> None:
    async def up() -> bool:
        return two.id in one.mesh._links.control and one.id in two.mesh._links.control

    await until(up)


def break_errands(node: Node) -> None:
    """Have a node fall over whatever errand it hears of."""

    def fall_over(_peer: bytes, _errand: Errand) -> None:
        raise KeyError("not thought of")

    node.mesh._board.handlers[Errand] = fall_over


async def bring_up(one: Node, other: Node) -> None:
    """Have one run into the fault by a word of the other, and lose that link."""
    hit = one.mesh._links.control[other.id]
    other.mesh._links.send(one.id, Errand(1, 0, ("r", "p", "")))

    async def parted() -> bool:
        return not (one.id in other.mesh._links.control or other.id in one.mesh._links.control)

    await until(parted)
    assert hit.reason == "a fault here"


async def test_a_fault_ends_the_links_with_that_peer_only(tmp_path: Path) -> None:
    async with Fleet(tmp_path).open() as fleet:
        a, b, c = [await fleet.node(name) for name in "abc"]
        for other in (b, c):
            await fleet.join(other, a)
            await linked(a, other)
        before = a.mesh._links.control[c.id], c.mesh._links.control[a.id]
        break_errands(a)
        with capture_logs() as logs, expected_faults("connection"):
            await bring_up(a, b)
            await trio.testing.wait_all_tasks_blocked(0.01)
        (told,) = [each for each in logs if each["event"] == "mesh.fault"]
        assert (told["log_level"], told["peer"]) == ("error", b.id.hex())
        assert told["exc_info"].__traceback__ is not None
        assert before == (a.mesh._links.control[c.id], c.mesh._links.control[a.id])
        await linked(a, b)


async def test_who_brings_up_a_fault_again_and_again_waits_longer_each_time(
    tmp_path: Path,
) -> None:
    async with Fleet(tmp_path).open() as fleet:
        a, b = [await fleet.node(name) for name in "ab"]
        await fleet.join(b, a)
        await linked(a, b)
        break_errands(a)
        with expected_faults("connection", "connection"):
            await bring_up(a, b)
            began = trio.current_time()
            await linked(a, b)
            assert trio.current_time() - began >= 0.9
            await bring_up(a, b)
            began = trio.current_time()
            await linked(a, b)
            assert trio.current_time() - began >= 1.9


async def test_a_fault_in_an_errand_ends_the_links_with_who_asked(tmp_path: Path) -> None:
    async with Fleet(tmp_path).open() as fleet:
        a, b = [await fleet.node(name) for name in "ab"]
        await fleet.join(b, a)
        await linked(a, b)

        async def fail(*_: str) -> bool:
            raise RuntimeError("no such thing was thought of")

        a.mesh.errands.perform = fail
        with expected_faults("errand"):
            assert not await b.mesh.errands.ask(a.id, "r", "p", "")
            await trio.testing.wait_all_tasks_blocked(0.01)
        assert a.mesh._links.dialling.is_held(b.id, trio.current_time())
        await linked(a, b)


async def test_a_dial_that_falls_over_is_a_dial_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Fleet(tmp_path).open() as fleet:
        a, b = [await fleet.node(name) for name in "ab"]
        await fleet.join(b, a)
        await linked(a, b)
        dials: list[float] = []
        three = trio.Event()

        async def fall_over(_address: str) -> None:
            dials.append(trio.current_time())
            if len(dials) == 3:
                three.set()
            raise LookupError("not thought of")

        for node in (a, b):
            monkeypatch.setattr(node.carrier, "dial", fall_over)
        with expected_faults("dial", "dial", or_more=True):
            await fleet.world.cut("a", "b")
            with trio.fail_after(30):
                await three.wait()
            monkeypatch.undo()
        await linked(a, b)
        assert dials[-1] - dials[0] > 0.2  # no busy loop


async def test_a_fleet_does_not_end_well_with_a_fault(tmp_path: Path) -> None:
    async def act() -> None:
        async with Fleet(tmp_path).open() as fleet:
            a, b = [await fleet.node(name) for name in "ab"]
            await fleet.join(b, a)
            await linked(a, b)
            break_errands(a)
            await bring_up(a, b)

    with expected_faults("connection"), pytest.raises(AssertionError, match="connection"):
        await act()


async def test_what_is_no_exception_passes() -> None:
    faults = Faults()
    with trio.CancelScope() as scope, faults.contained("task", "x"):
        scope.cancel()
        await trio.lowlevel.checkpoint()
    assert scope.cancelled_caught
    with pytest.raises(KeyboardInterrupt), faults.contained("task"):
        raise KeyboardInterrupt
    assert not faults.counts
    assert faults.last is None


async def test_of_a_group_only_the_exceptions_stay() -> None:
    faults, whose = Faults(), list[bytes]()
    with pytest.raises(BaseExceptionGroup) as caught, faults.contained("t", b"p", whose.append):
        raise BaseExceptionGroup("both", [KeyError("k"), KeyboardInterrupt()])
    assert [type(each) for each in caught.value.exceptions] == [KeyboardInterrupt]
    assert faults.counts == {"t": 1}
    assert whose == [b"p"]
    with trio.CancelScope() as scope, faults.contained("t") as fault:
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def fail() -> None:
                scope.cancel()
                raise KeyError("k")

            await trio.sleep_forever()
    assert fault.error is not None
    assert faults.counts == {"t": 2}


def test_a_thousand_faults_do_not_fill_the_log() -> None:
    now = [1000.0]
    faults = Faults(clock=lambda: now[0])

    def fail() -> None:
        with faults.contained("task", "somebody"):
            raise ValueError("v")

    with capture_logs() as logs:
        for _ in range(1000):
            fail()
        assert len(logs) == LOGGED_MAX
        assert [each["last_for_now"] for each in logs[-2:]] == [False, True]
        now[0] += MINUTE + 1
        fail()
        assert len(logs) == LOGGED_MAX + 1
    assert faults.counts == {"task": 1001}
