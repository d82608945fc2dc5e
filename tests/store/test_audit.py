"""The audit log: written in order, read a page at a time, kept for as long as asked."""

from __future__ import annotations

import pytest

from store import audit as module
from store.audit import AuditLog, clean
from store.database import Database


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log(local: Database, clock: Clock) -> AuditLog:
    return AuditLog(local, clock=clock)


async def test_entries_are_kept_whole(log: AuditLog) -> None:
    await log.write("eve", "login", "eve", "refused", address="10.0.0.1", detail="wrong password")
    (row,) = await log.entries()
    assert (row.at, row.actor, row.action, row.target) == (1000.0, "eve", "login", "eve")
    assert (row.outcome, row.address, row.detail) == ("refused", "10.0.0.1", "wrong password")


async def test_entries_are_paged_newest_first(log: AuditLog) -> None:
    for number in range(7):
        await log.write("ann", "publish", f"{number}", "done")
    page = await log.entries(limit=3)
    assert [row.target for row in page] == ["6", "5", "4"]
    page = await log.entries(limit=3, before=page[-1].id)
    assert [row.target for row in page] == ["3", "2", "1"]
    page = await log.entries(limit=3, before=page[-1].id)
    assert [row.target for row in page] == ["0"]


async def test_entries_are_filtered(log: AuditLog, clock: Clock) -> None:
    await log.write("ann", "publish", "a", "done")
    clock.now = 2000.0
    await log.write("ann", "delete", "a", "done")
    await log.write("eve", "delete", "a", "refused")

    async def targets(**wanted: str) -> list[tuple[str, str]]:
        return [(row.actor, row.action) for row in await log.entries(**wanted)]  # type: ignore[arg-type]  # keywords of entries

    assert await targets(actor="ann") == [("ann", "delete"), ("ann", "publish")]
    assert await targets(action="delete", outcome="refused") == [("eve", "delete")]
    assert await targets(target="b") == []
    assert await targets(actor="\0") == []
    assert len(await log.entries(since=1500.0)) == 2


async def test_old_entries_go(log: AuditLog, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EXPIRE_MAX", 2)
    for number in range(5):
        await log.write("ann", "publish", f"{number}", "done")
    clock.now += 100.0
    await log.write("ann", "publish", "new", "done")
    assert await log.expire(50.0) == 5
    assert [row.target for row in await log.entries()] == ["new"]


async def test_ids_are_never_used_again(log: AuditLog, clock: Clock) -> None:
    await log.write("ann", "publish", "a", "done")
    (before,) = await log.entries()
    clock.now += 100.0
    await log.expire(1.0)
    await log.write("ann", "publish", "b", "done")
    (after,) = await log.entries()
    assert after.id > before.id


async def test_hostile_text_is_kept_readable(log: AuditLog) -> None:
    await log.write("a\0b\ud800", "x" * 10_000, "", "")
    (row,) = await log.entries()
    assert row.actor == "a\N{REPLACEMENT CHARACTER}b?"
    assert len(row.action) == module.TEXT_MAX
    assert clean("plain é") == "plain é"
