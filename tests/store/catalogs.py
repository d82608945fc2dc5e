"""Rows for the catalog's tables, for tests that need them without a ledger."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from store import hlc
from store.digest import Digest

RECORD = b"r" * 32


def digest(text: str) -> Digest:
    """Give the digest of a text."""
    return Digest.of(text.encode())


def file(repository: str, package: str, version: str, path: str, **columns: Any) -> dict[str, Any]:
    """Give a row of ``files``; its bytes are its path's."""
    return {
        "repository": repository,
        "path": path,
        "package": package,
        "version": version,
        "role": "file",
        "digest": str(digest(path)),
        "size": len(path),
        "checksums": '{"md5":"00"}',
        "metadata": b"{}",
        "metadata_digest": "",
        "manifest_id": b"",
        "hlc": hlc.stamp(1000.0),
        "record": RECORD,
        "author": "a" * 64,
        "mutable": False,
        "pending": False,
        "conflicted": False,
        "sha512": hashlib.sha512(path.encode()).hexdigest(),
        **columns,
    }


def package(repository: str, name: str, files: int = 1, size: int = 10) -> dict[str, Any]:
    """Give a row of ``packages``."""
    stamp = hlc.stamp(1000.0)
    return {"repository": repository, "package": name, "files": files, "size": size, "hlc": stamp}


def pointer(repository: str, package: str, name: str, value: bytes = b"1.0") -> dict[str, Any]:
    """Give a row of ``pointers``."""
    return {
        "repository": repository,
        "package": package,
        "name": name,
        "value": value,
        "siblings": b"\x91\xc4\x01x",  # [b"x"]
        "records": RECORD + b"s" * 32,
        "hlc": hlc.stamp(1000.0),
    }


def flag(repository: str, package: str, version: str, name: str) -> dict[str, Any]:
    """Give a row of ``flags`` that marks a whole version."""
    return {
        "repository": repository,
        "package": package,
        "version": version,
        "path": "",
        "name": name,
        "value": b"why",
        "records": RECORD,
        "hlc": hlc.stamp(1000.0),
    }


def setting(kind: str, key: str, value: bytes = b"{}") -> dict[str, Any]:
    """Give a row of ``settings``."""
    stamp = hlc.stamp(1000.0)
    return {"kind": kind, "key": key, "value": value, "records": RECORD, "hlc": stamp}


def record(number: int, scope: str, stamp: int, status: str = "valid") -> dict[str, Any]:
    """Give a row of ``records`` with nothing in it."""
    return {
        "id": number.to_bytes(32),
        "author": "a" * 64,
        "incarnation": 1,
        "seq": number,
        "hlc": stamp,
        "kind": 1,
        "scope": scope,
        "status": status,
        "reason": "",
        "header": b"",
        "body": None,
    }


def insert(table: sa.Table, *rows: dict[str, Any]) -> Callable[[sa.Connection], None]:
    """Give a unit that inserts rows."""

    def unit(connection: sa.Connection) -> None:
        connection.execute(sa.insert(table), list(rows))

    return unit
