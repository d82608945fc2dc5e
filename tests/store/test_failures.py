"""What drivers' exceptions mean."""

from __future__ import annotations

import shutil
import sqlite3
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import sqlalchemy as sa

from store.errors import (
    ReadOnlyError,
    RegistryError,
    StoreFullError,
    TooLargeError,
    UnavailableError,
)
from store.failures import connection_lost, fatal, repeatable, translate, translating


def sqlite(code: int) -> sa.exc.DBAPIError:
    origin = sqlite3.OperationalError("words")
    origin.sqlite_errorcode = code
    return sa.exc.OperationalError("SELECT 'secret'", {}, origin)


def postgresql(code: str, *, invalidated: bool = False) -> sa.exc.DBAPIError:
    origin = Exception("words")
    origin.sqlstate = code  # type: ignore[attr-defined]  # as the driver's errors have
    error = sa.exc.OperationalError("SELECT 'secret'", {}, origin)
    error.connection_invalidated = invalidated
    return error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (sqlite(sqlite3.SQLITE_FULL), StoreFullError),
        (sqlite(sqlite3.SQLITE_READONLY), ReadOnlyError),
        (sqlite(sqlite3.SQLITE_READONLY | 4 << 8), ReadOnlyError),  # an extended code
        (sqlite(sqlite3.SQLITE_BUSY), UnavailableError),
        (sqlite(sqlite3.SQLITE_IOERR), UnavailableError),
        (postgresql("53100"), StoreFullError),
        (postgresql("53300"), UnavailableError),
        (postgresql("25006"), ReadOnlyError),
        (postgresql("08006"), UnavailableError),
        (postgresql("57P01"), UnavailableError),
        (postgresql("40001"), UnavailableError),
        (postgresql("54000"), TooLargeError),
        (postgresql("", invalidated=True), UnavailableError),
        (ConnectionRefusedError(111, "refused"), UnavailableError),
        (OSError(113, "no route"), UnavailableError),
        (sa.exc.TimeoutError("pool"), UnavailableError),
    ],
)
def test_what_a_client_is_told(error: Exception, kind: type[RegistryError]) -> None:
    meaning = translate(error)
    assert type(meaning) is kind
    assert "secret" not in str(meaning)


@pytest.mark.parametrize(
    "bug",
    [
        sqlite(sqlite3.SQLITE_CONSTRAINT),
        sqlite(sqlite3.SQLITE_CORRUPT),
        postgresql("23505"),
        ValueError("x"),
        sa.exc.ArgumentError("x"),
    ],
)
def test_bugs_are_left_alone(bug: Exception) -> None:
    assert translate(bug) is bug
    assert not fatal(bug)
    with pytest.raises(type(bug)), translating(None):
        raise bug


def test_the_cause_is_kept() -> None:
    cause = sqlite(sqlite3.SQLITE_FULL)
    with pytest.raises(StoreFullError) as caught, translating(None):
        raise cause
    assert caught.value.__cause__ is cause


def test_an_io_error_on_a_full_disk_means_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for free, kind in ((0, StoreFullError), (1 << 30, UnavailableError)):
        usage = SimpleNamespace(free=free)
        monkeypatch.setattr(shutil, "disk_usage", partial(lambda usage, _: usage, usage))
        assert type(translate(sqlite(sqlite3.SQLITE_IOERR), directory=tmp_path)) is kind


def test_which_failures_end_a_transaction() -> None:
    assert fatal(sqlite(sqlite3.SQLITE_FULL))
    assert fatal(sqlite3.OperationalError()) is False
    assert fatal(postgresql("40001"))
    assert fatal(postgresql("", invalidated=True))
    assert not fatal(StoreFullError("a unit's own word"))


def test_what_may_be_tried_again() -> None:
    assert repeatable(postgresql("40P01"))
    assert not repeatable(postgresql("23505"))
    assert connection_lost(postgresql("57P01"))
    assert connection_lost(postgresql("08003"))
    assert connection_lost(ConnectionResetError())
    assert not connection_lost(sqlite(sqlite3.SQLITE_BUSY))
    assert not connection_lost(OSError(113, "no route"))
