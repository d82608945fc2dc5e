"""A disk or a database that fails for a moment: nobody waits for ever because of it."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing

from mesh.effects import Write
from mesh.exchange import Exchange
from mesh.messages import GONE, OVERLOADED, Fork, Head, Heads, Nope, Range
from mesh.serving import Piece
from mesh.shell.ledgers import RETRY, Ledgers
from mesh.shell.sending import Sending
from mesh.shell.transfers import Transfers
from mesh.shell.writing import Fetch
from mesh.sync import PUSH_GRACE, ApplyRecords
from store import canonical
from store.digest import Digest
from store.errors import BlobUnknownError, NoHolderError, UnavailableError
from tests.store.ledgers import mesh, publish

BLOB = Digest.of(b"blob")


class FailingPartial:
    """A partial blob on a disk with an input/output error."""

    def __init__(self) -> None:
        self.error: Exception | None = None

    async def write_runs(self, runs: list[tuple[int, int, bytes]]) -> list[int]:
        raise UnavailableError("input/output error")

    async def abandon(self, error: Exception) -> None:
        self.error = error


def transfers() -> tuple[Transfers, Fetch, FailingPartial]:
    exchange = Exchange(bytes(32), random.Random(1))
    links: Any = SimpleNamespace(control={}, bulk={}, hold=None)
    nothing: Any = None
    shell = Transfers(exchange, links, nothing, nothing, nothing)
    fetch, partial = Fetch(BLOB), FailingPartial()
    fetch.partial = partial  # type: ignore[assignment]  # a fake in its place
    shell.fetches[BLOB.raw] = fetch
    exchange.want(BLOB.raw, 0.0)
    return shell, fetch, partial


async def written(shell: Transfers) -> None:
    async with trio.open_nursery() as nursery:
        shell._writing.start = nursery.start_soon
        shell._writing.put(Write(BLOB.raw, b"p" * 32, 0, 1, b"x"))


async def test_a_fetch_ends_when_the_disk_fails() -> None:
    shell, fetch, partial = transfers()
    await written(shell)
    assert isinstance(fetch.error, UnavailableError)
    assert fetch.done.is_set()
    assert partial.error is fetch.error
    assert not shell.fetches
    assert not shell.exchange.downloads  # the next client begins anew


async def test_a_write_into_what_was_given_up_says_nothing() -> None:
    shell, fetch, partial = transfers()
    fetch.partial = None  # its manifest was wrong, say
    await written(shell)
    assert not fetch.done.is_set()
    assert partial.error is None


async def test_what_a_silent_ledger_could_not_tell_is_asked_again(autojump_clock: Any) -> None:
    answers: list[Any] = [
        UnavailableError("away"),
        UnavailableError("away"),
        {("ab", 7): (3, b"r")},
    ]

    class Silent:
        node = "00" * 32
        authority = SimpleNamespace(version=1, digest=b"")

        async def heads(self) -> Any:
            answer = answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

    ledger: Any = Silent()
    links: Any = SimpleNamespace(control={}, hold=None)
    ledgers = Ledgers(ledger, links, random.Random(1))
    began = autojump_clock.current_time()
    await ledgers._catch_up_at_last()
    assert ledgers.core.heads == {(b"\xab", 7): (3, b"r")}
    assert autojump_clock.current_time() - began >= 2 * RETRY


@pytest.mark.parametrize("meeting", [True, False], ids=["who is met", "who is linked"])
async def test_proofs_of_forks_are_told_once_they_can_be_read(
    autojump_clock: Any, meeting: bool
) -> None:
    """No statement of what one has tells of them: who did not hear would count other records."""
    answers: list[Any] = [UnavailableError("away"), UnavailableError("away"), [b"proof"]]
    peer, sent = b"p" * 32, list[Any]()

    async def forks() -> list[bytes]:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return [*answer]

    ledger: Any = SimpleNamespace(node="00" * 32, forks=forks)
    links: Any = SimpleNamespace(
        control={peer: None}, hold=None, send=lambda *said: sent.append(said)
    )
    ledgers = Ledgers(ledger, links, random.Random(1))
    async with trio.open_nursery() as nursery:
        if meeting:
            nursery.start_soon(ledgers._send_forks, peer)
            nursery.start_soon(ledgers._send_forks, peer)  # it was lost and met again meanwhile
        else:
            nursery.start_soon(ledgers._tell_forks)
    assert sent == [(peer, Fork(b"proof"))]


async def test_what_an_absent_author_does_not_push_is_asked_for_after_a_moment(
    autojump_clock: Any,
) -> None:
    """Nothing is to be done when another one tells of it, and nobody says it again."""
    _, reader = await mesh(2)
    sent = trio.Event()
    links: Any = SimpleNamespace(control={}, hold=None, send=lambda peer, said: asked(peer, said))
    ledgers = Ledgers(reader.ledger, links, random.Random(1))
    author, other = b"a" * 32, b"o" * 32

    def asked(peer: bytes, said: Any) -> None:
        if peer == other and said == Range(author, 1, 0, 1):
            sent.set()

    async with trio.open_nursery() as nursery:
        await nursery.start(ledgers.run)
        ledgers.linked(author)  # its path is cut, and the link not known to be dead
        ledgers.linked(other)
        await trio.testing.wait_all_tasks_blocked()
        version, digest = ledgers.core.root
        await ledgers.heard(other, Heads((Head(author, 1, 1, b"r" * 32),), version, digest))
        with trio.fail_after(2 * PUSH_GRACE):
            await sent.wait()
        nursery.cancel_scope.cancel()


async def test_the_next_question_begins_where_what_was_taken_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The core hears how far the chain reaches before it looks for the next question."""
    owner, reader = await mesh(2)
    await owner.append(publish("one"))
    (batch,) = await owner.batches_of(1 << 20)
    head, sent = batch.head, list[Any]()
    monkeypatch.setattr("mesh.sync.RANGE_MAX", head.seq)
    peer, key = b"p" * 32, (bytes.fromhex(head.author), head.incarnation)
    links: Any = SimpleNamespace(
        control={}, hold=None, send=lambda peer, message: sent.append(message)
    )
    ledgers = Ledgers(reader.ledger, links, random.Random(1))
    await ledgers._catch_up()
    version, digest = ledgers.core.root
    ledgers.core.linked(peer, 0.0)
    said = Heads((Head(*key, head.seq + 1, b"r" * 32),), version, digest)
    ledgers._perform(ledgers.core.received(peer, said, 0.0))
    assert sent.pop() == Range(*key, 0, head.seq)
    await ledgers._apply([ApplyRecords(peer, *key, canonical.encode(batch))])
    assert sent == [Range(*key, head.seq, head.seq + 1)]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (UnavailableError("input/output error"), OVERLOADED),  # later, perhaps
        (NoHolderError("these bytes are not here"), GONE),
        (BlobUnknownError("the blob has gone"), GONE),
    ],
)
async def test_a_disk_that_cannot_be_read_now_is_no_lie(error: Exception, reason: int) -> None:
    async def read(blob: bytes, first: int, count: int) -> bytes:
        raise error

    said: list[Any] = []
    transfers = SimpleNamespace(read=read)
    links = SimpleNamespace(bundle=lambda _: [])
    sending: Any = SimpleNamespace(transfers=transfers, links=links)
    connection: Any = SimpleNamespace(send=said.append, node=b"p" * 32, mute=False)
    piece = Piece(7, BLOB.raw, b"m" * 32, 0, 1, last=True)
    await Sending._send_piece(sending, connection, piece)
    assert said == [Nope(7, reason)]
