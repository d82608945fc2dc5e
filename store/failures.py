"""What a driver's exception means: to be retried, to be reported, or a bug to be left alone."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from store.errors import (
    ReadOnlyError,
    RegistryError,
    StoreFullError,
    TooLargeError,
    UnavailableError,
)

# SQLite primary result codes (https://sqlite.org/rescode.html); extended ones end in the same byte.
SQLITE = {
    sqlite3.SQLITE_FULL: StoreFullError,
    sqlite3.SQLITE_READONLY: ReadOnlyError,
    sqlite3.SQLITE_BUSY: UnavailableError,
    sqlite3.SQLITE_LOCKED: UnavailableError,
    sqlite3.SQLITE_IOERR: UnavailableError,
    sqlite3.SQLITE_CANTOPEN: UnavailableError,
    sqlite3.SQLITE_INTERRUPT: UnavailableError,
    sqlite3.SQLITE_PROTOCOL: UnavailableError,
}
DISK = (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN)  # also what a full disk may look like
FREE_MIN = 1 << 20  # bytes; SQLite needs room for its log's index before it can say "full"

# PostgreSQL SQLSTATEs, or their class (PostgreSQL documentation, appendix A).
POSTGRESQL = {
    "53100": StoreFullError,
    "53": UnavailableError,  # insufficient resources
    "25006": ReadOnlyError,
    "08": UnavailableError,  # connection exceptions
    "57": UnavailableError,  # operator intervention: shutdown, crash, statement cancelled
    "40": UnavailableError,  # serialization failure, deadlock, after the last attempt
    "54": TooLargeError,  # a name too long for an index
    "55P03": UnavailableError,  # lock not available
}
REPEATABLE = frozenset({"40001", "40P01"})  # certainly rolled back, and worth another try
LOST = frozenset({"57P01", "57P02", "57P03"})  # the server ended, or has not begun


def sqlstate(error: BaseException) -> str:
    """Return PostgreSQL's error code, or ""."""
    return str(getattr(getattr(error, "orig", None) or error, "sqlstate", None) or "")


def connection_lost(error: BaseException) -> bool:
    """Tell whether the server went away, so that a new connection may do better."""
    if isinstance(error, DBAPIError):
        return (
            error.connection_invalidated or sqlstate(error)[:2] == "08" or sqlstate(error) in LOST
        )
    return isinstance(error, ConnectionError) or sqlstate(error) in LOST


def repeatable(error: BaseException) -> bool:
    """Tell whether the database rolled back because of other transactions."""
    return sqlstate(error) in REPEATABLE


def fatal(error: BaseException) -> bool:
    """Tell whether a whole transaction, not just one statement of it, has failed."""
    if not isinstance(error, DBAPIError):
        return False
    return (
        connection_lost(error) or repeatable(error) or isinstance(translate(error), RegistryError)
    )


def translate(error: Exception, *, directory: Path | None = None) -> Exception:
    """Return the RegistryError that a client should see, or ``error`` itself when it is a bug.

    ``directory`` is where an SQLite file lies: some I/O errors only mean that its disk is full.
    """
    if isinstance(error, sa.exc.TimeoutError):
        return UnavailableError("the database is busy: no free connection")
    origin = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(origin, sqlite3.Error):
        return _sqlite(origin, directory) or error
    code = sqlstate(error)
    kind = POSTGRESQL.get(code) or POSTGRESQL.get(code[:2])
    if kind is not None:
        return kind(f"the database refused: {_text(error)}")
    if connection_lost(error) or isinstance(error, OSError):
        return UnavailableError(f"the database cannot be reached: {_text(error)}")
    return error


@contextmanager
def translating(directory: Path | None) -> Generator[None]:
    """Raise in the block's place what ``translate`` makes of its exceptions."""
    try:
        yield
    except Exception as error:
        meaning = translate(error, directory=directory)
        if meaning is error:
            raise
        raise meaning from error


def _sqlite(error: sqlite3.Error, directory: Path | None) -> RegistryError | None:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    kind = SQLITE.get(code)
    if kind is None:
        return None
    if code in DISK and directory is not None and shutil.disk_usage(directory).free < FREE_MIN:
        kind = StoreFullError
    return kind(f"the database cannot do this now: {error}")


def _text(error: BaseException) -> str:
    """The driver's own words, without statement and parameters: those may hold secrets."""
    return str(getattr(error, "orig", None) or error)
