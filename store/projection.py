"""From claims to tables: fold every touched cell once and write what differs.

Runs inside the transaction that stores the records, so the catalog is never behind the ledger.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import sqlalchemy as sa

from store import bulk, canonical, counting, fold, journal, pruning, records, unlisted
from store.authority import Authority
from store.bulk import chunks
from store.counting import Delta
from store.facts import Publish
from store.fold import FILE, FLAG, POINTER, SETTING, USE, Claim, FileState, Rules
from store.journal import Entry
from store.paging import grouped
from store.schema import burnt, claims, files, settings
from store.states import (
    DIGEST,
    HLC,
    MUTABLE,
    PACKAGE,
    POINTED,
    SIZE,
    TABLES,
    VALUE,
    VERSION,
    Key,
    Row,
    burnt_row,
    file_row,
    key_of,
    register_row,
)

# Built once: SQLAlchemy then only looks up what it compiled.
CLAIMS = sa.select(claims).where(claims.c.cell.in_(sa.bindparam("cells", expanding=True)))
REPOSITORIES = sa.select(settings.c.key, settings.c.value).where(
    settings.c.kind == "repository", settings.c.key.in_(sa.bindparam("keys", expanding=True))
)
Moved = tuple[Row | None, Row | None]  # a row before and after
POINTED_MAX = 140  # bytes of a pointer's value that the journal keeps: any digest


class Touched(NamedTuple):
    """A cell whose visible state changed.  ``name`` is a path, pointer, flag or setting key.

    ``kind`` is fold.FILE, POINTER, FLAG or SETTING.  A setting's ``repository`` is its own kind.
    ``hlc`` is that of the newest claim about the cell.  ``lost`` is the digest that an immutable
    file had here until now, where rivals gave it another; else "".
    """

    kind: str
    repository: str
    package: str
    name: str
    hlc: int
    lost: str = ""
    change: str = journal.UPDATED
    version: str = ""
    detail: str = ""  # as in ``journal.Entry``
    size: int = 0
    record: bytes = b""
    author: str = ""
    named: bool = False  # its package is new in its repository, or gone from it

    @property
    def entry(self) -> Entry:
        """What the journal keeps."""
        place = (self.kind, self.change, self.repository, self.package, self.name)
        return Entry(
            *place, self.version, self.detail, self.size, self.hlc, self.record, self.author
        )


class Resolved(NamedTuple):
    """What cells of one kind come to: a row for each that shows something, and burnt paths."""

    rows: dict[Key, Row]
    burns: dict[Key, Row]


def load_claims(connection: sa.Connection, cells: Iterable[str]) -> dict[str, list[Claim]]:
    """The stored claims of some cells."""
    found: dict[str, list[Claim]] = {}
    for part in chunks(cells):
        for cell, record, ordinal, hlc, author, fact in connection.execute(CLAIMS, {"cells": part}):
            claim = Claim(bytes(record), ordinal, hlc, author, records.read_fact(fact))
            if claim.record != records.ZERO:  # the mark of a pruned cell
                found.setdefault(cell, []).append(claim)
    return found


def claims_of(record: records.Record, facts: Iterable[Any]) -> list[tuple[str, Claim]]:
    """The claims that a valid record makes, each with its cell."""
    header = record.header
    parts = [part for fact in facts for part in fold.cells_of(fact)]
    return [
        (cell, Claim(record.id, ordinal, header.hlc, header.author, part))
        for ordinal, (cell, part) in enumerate(parts)
    ]


def insert_claims(connection: sa.Connection, new: Iterable[tuple[str, Claim]]) -> None:
    """Store claims.  Their cells are not folded yet."""
    rows = [
        (cell, record, ordinal, hlc, author, canonical.encode(fact))
        for cell, (record, ordinal, hlc, author, fact) in new
    ]
    bulk.insert(connection, claims, rows)


# --- rules --------------------------------------------------------------------------------------
def read_rules(value: bytes | None, authority: Authority) -> Rules:
    """The fold's rules for a repository with this setting."""
    document = fold.read_value(value) if value else {}
    former = document.get("former_homes")
    homes = [document.get("home"), *(former if isinstance(former, list) else [])]
    known = [authority.nodes_at(home) for home in homes if isinstance(home, str) and home]
    # Without a present home nobody's word orders rivals, whoever had it before.
    return Rules(tuple(known)) if known and document.get("home") else fold.NO_RULES


def load_rules(
    connection: sa.Connection, repositories: Iterable[str], authority: Authority
) -> dict[str, Rules]:
    """The rules of repositories that have a home."""
    found: dict[str, Rules] = {}
    for part in chunks(repositories):
        for key, value in connection.execute(REPOSITORIES, {"keys": part}):
            found[key] = read_rules(value, authority)
    return found


def files_of(connection: sa.Connection, repository: str) -> list[str]:
    """The cells of every visible file of a repository."""
    query = sa.select(files.c.path).where(files.c.repository == repository)
    return [fold.file_cell(repository, path) for (path,) in connection.execute(query)]


@lru_cache(maxsize=32)
def _by_key(table: sa.Table) -> sa.Select[Any]:
    """Find rows by all of their key but the last part, and one of many last parts."""
    *leading, last = table.primary_key
    equal = (column == sa.bindparam(f"k_{n}") for n, column in enumerate(leading))
    return sa.select(table).where(*equal, last.in_(sa.bindparam("lasts", expanding=True)))


@lru_cache(maxsize=32)
def _delete(table: sa.Table) -> sa.Delete:
    """Delete a row by its whole key."""
    return sa.delete(table).where(*(c == sa.bindparam(f"b_{c.name}") for c in table.primary_key))


# --- tables -------------------------------------------------------------------------------------
class Tables:
    """Collects what a transaction changes in the catalog, and writes it with few statements."""

    def __init__(self, connection: sa.Connection, authority: Authority) -> None:
        self.connection = connection
        self.authority = authority
        self.touched: list[Touched] = []
        self._deltas: dict[tuple[str, str], Delta] = {}
        self._former: set[tuple[str, str]] = set()  # packages of deleted files
        self._used: set[tuple[str, str]] = set()  # packages that uses were written of
        self._noted = 0  # touched cells that the journal has

    def fold(self, old: Mapping[str, list[Claim]], new: Mapping[str, list[Claim]]) -> None:
        """Recompute cells.  ``old`` are their claims as they were folded last, ``new`` as they are.

        A cell without old claims has no row yet, which spares a look for one.
        """
        kinds: dict[str, list[str]] = {}
        for cell in sorted(new.keys() | old.keys()):
            kinds.setdefault(cell[0], []).append(cell)
        for kind in (
            SETTING,
            FILE,
            POINTER,
            FLAG,
            USE,
        ):  # settings first: they bring rules for files
            if kind in kinds:
                moved = self._fold_kind(kind, kinds[kind], old, new)
                if kind == SETTING:
                    self._refold_homes(moved, set(kinds.get(FILE, ())))

    def finish(self) -> list[Touched]:
        """Bring the package rows up to date, note in the journal what changed, and return it."""
        named = counting.write(self.connection, self._deltas)
        if named:
            self.touched[self._noted :] = [
                each._replace(named=True) if (each.repository, each.package) in named else each
                for each in self.touched[self._noted :]
            ]
        counting.remember(self.connection, self._former)
        back = unlisted.settle(self.connection, self._deltas, self._used)
        self.refold(back)
        journal.write(self.connection, [each.entry for each in self.touched[self._noted :]])
        self._deltas, self._noted = {}, len(self.touched)
        self._former, self._used = set(), set()
        return self.touched

    def _refold_homes(self, moved: Mapping[Key, Moved], done: set[str]) -> None:
        """Fold files again where a repository's home changed."""
        for key, rows in moved.items():
            before, after = (
                read_rules(row[VALUE] if row else None, self.authority) for row in rows
            )
            if key[0] == "repository" and before != after:
                self.refold(cell for cell in files_of(self.connection, key[1]) if cell not in done)

    def refold(self, cells: Iterable[str]) -> None:
        """Recompute cells whose claims are stored and unchanged, but whose rules are not."""
        for part in chunks(cells):
            stored = load_claims(self.connection, part)
            self.fold(stored, stored)

    def _fold_kind(
        self,
        kind: str,
        cells: Sequence[str],
        old: Mapping[str, list[Claim]],
        new: Mapping[str, list[Claim]],
    ) -> dict[Key, Moved]:
        """Fold cells of one kind and write the rows that differ; return (before, after) of each."""
        keys = {cell: key_of(kind, (new.get(cell) or old[cell])[0].fact) for cell in cells}
        now = self._resolve(kind, keys, new)
        pruning.prune_all(self.connection, {cell: new[cell] for cell in cells if cell in new})
        held = [key for cell, key in keys.items() if old.get(cell)]
        before = self._replace(TABLES[kind], held, now.rows)
        if kind == FILE:
            self._replace(burnt, held, now.burns)
        if kind == USE:  # which changes nothing that anybody serves
            self._used.update((key[0], key[1]) for key in now.rows)
            return {}
        changed: dict[Key, Moved] = {}
        for cell, key in keys.items():
            moved = (before.get(key), now.rows.get(key))
            if moved[0] != moved[1]:
                changed[key] = moved
                self._note(kind, key, moved, _newest(new.get(cell) or old[cell]))
        return changed

    def _resolve(
        self, kind: str, keys: Mapping[str, Key], new: Mapping[str, list[Claim]]
    ) -> Resolved:
        """Fold what is claimed about cells of one kind."""
        rules: Mapping[str, Rules] = {}
        if kind == FILE:
            rules = load_rules(self.connection, {key[0] for key in keys.values()}, self.authority)
        found = Resolved({}, {})
        for cell, key in keys.items():
            about = new.get(cell)
            if not about:
                continue
            state = fold.resolve(cell, about, rules.get(key[0], fold.NO_RULES))
            if isinstance(state, FileState):
                row = file_row(state)
                self._bury(state, key, about, found.burns)
            else:
                row = register_row(kind, state, key)
            if row:
                found.rows[key] = row
        return found

    def _bury(
        self, state: FileState, key: Key, about: Iterable[Claim], burns: dict[Key, Row]
    ) -> None:
        """Note a deleted coordinate, and the packages that it was published in."""
        burn = burnt_row(state, key)
        if burn:
            burns[key] = burn
        if burn or state.winner is None:
            published = (claim.fact for claim in about if type(claim.fact) is Publish)
            self._former.update((fact.repository, fact.package) for fact in published)

    def _replace(
        self, table: sa.Table, known: Sequence[Key], after: Mapping[Key, Row]
    ) -> dict[Key, Row]:
        """Write rows; ``known`` keys may have one already.  Returns those."""
        columns = list(table.primary_key)
        before: dict[Key, Row] = {}
        for part in chunks(known):
            for leading, lasts in grouped(part).items():
                wanted = {"lasts": lasts, **{f"k_{n}": v for n, v in enumerate(leading)}}
                for row in self.connection.execute(_by_key(table), wanted):
                    before[tuple(row[: len(columns)])] = tuple(row)
        gone = [key for key, row in before.items() if after.get(key) != row]
        if gone:
            named = [{f"b_{c.name}": v for c, v in zip(columns, k, strict=True)} for k in gone]
            self.connection.execute(_delete(table), named)
        fresh = [row for key, row in after.items() if before.get(key) != row]
        bulk.insert(self.connection, table, fresh)
        return before

    def _note(self, kind: str, key: Key, moved: Moved, newest: Claim) -> None:
        """Remember a changed row for the package counts, the journal and the observers."""
        package = "" if kind in (FILE, SETTING) else key[1]
        for row, sign in zip(moved, (-1, 1), strict=True):
            if row is None or kind not in (FILE, POINTER):
                continue
            if kind == FILE:
                was = moved[0] if sign > 0 else None
                if was and (was[PACKAGE], was[VERSION]) != (row[PACKAGE], row[VERSION]):
                    self._touch(kind, key, package, (was, None), newest)
                package = row[PACKAGE]
            delta = self._delta(key[0], package)
            if kind == FILE:
                delta.files += sign
                delta.size += sign * row[SIZE]
            if sign > 0:
                delta.came(row[HLC[kind]])
            else:
                delta.went(row[HLC[kind]])
        self._touch(kind, key, package, moved, newest)

    def _touch(self, kind: str, key: Key, package: str, moved: Moved, newest: Claim) -> None:
        before, after = moved
        change = journal.UPDATED if before and after else journal.CREATED
        row = after or before
        version, detail, size, lost = "", "", 0, ""
        if kind == FILE and row is not None:
            version, detail, size, lost = row[VERSION], row[DIGEST], row[SIZE], lost_digest(moved)
        elif kind == FLAG:
            version, detail = key[2], key[3]
        elif kind == POINTER and row is not None:
            detail = row[POINTED][:POINTED_MAX].decode("utf-8", "replace")
        if after is None:
            change = journal.REMOVED
        place = (kind, key[0], package, key[-1], newest.hlc, lost)
        self.touched.append(
            Touched(*place, change, version, detail, size, newest.record, newest.author)
        )

    def _delta(self, repository: str, package: str) -> Delta:
        delta = self._deltas.get((repository, package))
        if delta is None:
            delta = self._deltas[repository, package] = Delta()
        return delta


def _newest(claims: Sequence[Claim]) -> Claim:
    return claims[0] if len(claims) == 1 else max(claims, key=_time)


def _time(claim: Claim) -> int:
    return claim.hlc


def lost_digest(moved: Moved) -> str:
    """Name the bytes that an immutable coordinate showed and no longer shows, or ""."""
    before, after = moved
    if before is None or after is None or before[MUTABLE] or after[MUTABLE]:
        return ""
    return str(before[DIGEST]) if before[DIGEST] != after[DIGEST] else ""
