"""From claims to tables: fold every touched cell once and write what differs.

Runs inside the transaction that stores the records, so the catalog is never behind the ledger.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa

from store import bulk, canonical, fold, records
from store.authority import Authority
from store.bulk import chunks
from store.fold import FILE, FLAG, POINTER, SETTING, Claim, FileState, RegisterState, Rules
from store.schema import burnt, claims, files, flags, packages, pointers, settings

Key = tuple[str, ...]
Row = dict[str, Any]


class Touched(NamedTuple):
    """A cell whose visible state changed.  ``name`` is a path, pointer, flag or setting key.

    ``kind`` is fold.FILE, POINTER, FLAG or SETTING.  A setting's ``repository`` is its own kind.
    ``hlc`` is that of the newest claim about the cell.
    """

    kind: str
    repository: str
    package: str
    name: str
    hlc: int


def load_claims(connection: sa.Connection, cells: Iterable[str]) -> dict[str, list[Claim]]:
    """The stored claims of some cells."""
    columns = (claims.c.record, claims.c.ordinal, claims.c.hlc, claims.c.author, claims.c.fact)
    found: dict[str, list[Claim]] = {}
    for part in chunks(cells):
        query = sa.select(claims.c.cell, *columns).where(claims.c.cell.in_(part))
        for cell, record, ordinal, hlc, author, fact in connection.execute(query):
            claim = Claim(bytes(record), ordinal, hlc, author, records.read_fact(fact))
            found.setdefault(cell, []).append(claim)
    return found


def claims_of(record: records.Record, facts: Iterable[Any]) -> Iterator[tuple[str, Claim]]:
    """The claims that a valid record makes, each with its cell."""
    header = record.header
    ordinal = 0
    for fact in facts:
        for cell, part in fold.cells_of(fact):
            yield cell, Claim(record.id, ordinal, header.hlc, header.author, part)
            ordinal += 1


def insert_claims(connection: sa.Connection, new: Iterable[tuple[str, Claim]]) -> None:
    """Store claims.  Their cells are not folded yet."""
    rows = [
        (record, ordinal, cell, hlc, author, canonical.encode(fact))
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
        query = sa.select(settings.c.key, settings.c.value).where(
            settings.c.kind == "repository", settings.c.key.in_(part)
        )
        for key, value in connection.execute(query):
            found[key] = read_rules(value, authority)
    return found


def files_of(connection: sa.Connection, repository: str) -> list[str]:
    """The cells of every visible file of a repository."""
    query = sa.select(files.c.path).where(files.c.repository == repository)
    return [fold.file_cell(repository, path) for (path,) in connection.execute(query)]


# --- rows ---------------------------------------------------------------------------------------
def _file_row(state: FileState) -> Row | None:
    claim = state.winner
    if claim is None:
        return None
    fact, file = claim.fact, fold.file_of(claim)
    checksums = dict(file.checksums)
    algorithm, _, value = file.digest.partition(":")
    return {
        "repository": fact.repository,
        "path": file.path,
        "package": fact.package,
        "version": fact.version,
        "role": file.role,
        "digest": file.digest,
        "size": file.size,
        "checksums": msgspec.json.encode(checksums, order="sorted").decode(),
        "metadata": file.metadata,
        "metadata_digest": file.metadata_digest,
        "manifest_id": file.manifest_id,
        "hlc": claim.hlc,
        "record": claim.record,
        "author": claim.author,
        "mutable": state.mutable,
        "pending": state.pending,
        "conflicted": state.conflicted,
        "sha512": value if algorithm == "sha512" else checksums.get("sha512", ""),
    }


def _burnt_row(state: FileState, key: Key) -> Row | None:
    if not state.burnt:
        return None
    return {
        "repository": key[0],
        "path": key[1],
        "digest": state.burnt,
        "hlc": state.hlc,
        "records": b"".join(state.tombstones),
    }


def _register_row(kind: str, state: RegisterState, key: Key) -> Row | None:
    if state.value is None:
        return None
    row: Row = dict(zip(KEYS[kind], key, strict=True))
    row |= {"value": state.value, "records": b"".join(state.records), "hlc": state.hlc}
    if kind == POINTER:
        row["siblings"] = canonical.encode(state.siblings)
    return row


TABLES = {FILE: files, POINTER: pointers, FLAG: flags, SETTING: settings}
KEYS = {kind: tuple(column.name for column in t.primary_key) for kind, t in TABLES.items()}


def _key(kind: str, fact: Any) -> Key:
    """The primary key of a cell's row."""
    if kind == FILE and hasattr(fact, "files"):
        return (fact.repository, fact.files[0].path)
    return tuple([getattr(fact, name) for name in KEYS[kind]])


class Tables:
    """Collects what a transaction changes in the catalog, then writes it with few statements."""

    def __init__(self, connection: sa.Connection, authority: Authority) -> None:
        self.connection = connection
        self.authority = authority
        self.touched: list[Touched] = []
        self._deltas: dict[tuple[str, str], _Delta] = {}

    def fold(self, old: Mapping[str, list[Claim]], new: Mapping[str, list[Claim]]) -> None:
        """Recompute cells.  ``old`` are their claims as they were folded last, ``new`` as they are.

        A cell without old claims has no row yet, which spares a look for one.
        """
        cells = sorted(set(old) | set(new))
        for kind in (SETTING, FILE, POINTER, FLAG):  # settings first: they bring rules for files
            mine = [cell for cell in cells if cell[0] == kind]
            if kind == SETTING:
                moved = self._fold_kind(SETTING, mine, old, new)
                self._refold_homes(moved, set(cells))
            elif mine:
                self._fold_kind(kind, mine, old, new)

    def finish(self) -> list[Touched]:
        """Bring the package rows up to date; return what changed."""
        for part in chunks(self._deltas):
            _write_packages(self.connection, {key: self._deltas[key] for key in part})
        self._deltas = {}
        return self.touched

    def _refold_homes(
        self, moved: dict[Key, tuple[Row | None, Row | None]], done: set[str]
    ) -> None:
        """Fold files again where a repository's home changed."""
        for key, (before, after) in moved.items():
            rules = [
                read_rules(row["value"] if row else None, self.authority) for row in (before, after)
            ]
            if key[0] == "repository" and rules[0] != rules[1]:
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
    ) -> dict[Key, tuple[Row | None, Row | None]]:
        """Fold cells of one kind and write the rows that differ; return (before, after) of each."""
        keys = {cell: _key(kind, (new.get(cell) or old[cell])[0].fact) for cell in cells}
        rules: Mapping[str, Rules] = {}
        if kind == FILE:
            repositories = sorted({key[0] for key in keys.values()})
            rules = load_rules(self.connection, repositories, self.authority)
        after: dict[Key, Row] = {}
        burns: dict[Key, Row] = {}
        for cell, key in keys.items():
            about = new.get(cell)
            if not about:
                continue
            state = fold.resolve(cell, about, rules.get(key[0], fold.NO_RULES))
            if isinstance(state, FileState):
                row, burn = _file_row(state), _burnt_row(state, key)
                if burn:
                    burns[key] = burn
            else:
                row = _register_row(kind, state, key)
            if row:
                after[key] = row
        known = [key for cell, key in keys.items() if old.get(cell)]
        before = self._replace(TABLES[kind], known, after)
        if kind == FILE:
            self._replace(burnt, known, burns)
        changed: dict[Key, tuple[Row | None, Row | None]] = {}
        for cell, key in keys.items():
            if before.get(key) != after.get(key):
                changed[key] = (before.get(key), after.get(key))
                hlc = max(claim.hlc for claim in new.get(cell) or old[cell])
                self._note(kind, key, changed[key], hlc)
        return changed

    def _replace(
        self, table: sa.Table, known: Sequence[Key], after: Mapping[Key, Row]
    ) -> dict[Key, Row]:
        """Write rows; ``known`` keys may have one already.  Returns those."""
        columns = list(table.primary_key)
        before: dict[Key, Row] = {}
        for part in chunks(known):
            query = sa.select(table).where(sa.tuple_(*columns).in_(part))
            for row in connection_rows(self.connection, query):
                before[tuple([row[column.name] for column in columns])] = row
        gone = [key for key, row in before.items() if after.get(key) != row]
        if gone:
            condition = [column == sa.bindparam(f"b_{column.name}") for column in columns]
            self.connection.execute(
                sa.delete(table).where(*condition),
                [{f"b_{c.name}": v for c, v in zip(columns, key, strict=True)} for key in gone],
            )
        names = [column.name for column in table.columns]
        fresh = [row for key, row in after.items() if before.get(key) != row]
        bulk.insert(self.connection, table, [tuple([row[name] for name in names]) for row in fresh])
        return before

    def _note(self, kind: str, key: Key, change: tuple[Row | None, Row | None], hlc: int) -> None:
        before, after = change
        changed = {""}
        if kind == FILE:
            changed = {row["package"] for row in change if row}
            for row, sign in ((before, -1), (after, 1)):
                if row:
                    self._delta(key[0], row["package"]).file(row, sign)
        elif kind != SETTING:
            changed = {key[1]}
            if kind == POINTER:
                self._delta(key[0], key[1]).pointer(before, after)
        for package in sorted(changed):
            self.touched.append(Touched(kind, key[0], package, key[-1], hlc))

    def _delta(self, repository: str, package: str) -> _Delta:
        return self._deltas.setdefault((repository, package), _Delta())


def connection_rows(connection: sa.Connection, query: sa.Select[Any]) -> list[Row]:
    """Rows as dictionaries."""
    return [dict(row) for row in connection.execute(query).mappings()]


# --- packages -----------------------------------------------------------------------------------
class _Delta:
    """What a transaction changes about one package."""

    __slots__ = ("added", "files", "removed", "size")

    def __init__(self) -> None:
        self.files = self.size = 0
        self.added = self.removed = 0  # highest ledger time of rows that came and went

    def file(self, row: Row, sign: int) -> None:
        self.files += sign
        self.size += sign * row["size"]
        self.pointer(row if sign < 0 else None, row if sign > 0 else None)

    def pointer(self, before: Row | None, after: Row | None) -> None:
        if before:
            self.removed = max(self.removed, before["hlc"])
        if after:
            self.added = max(self.added, after["hlc"])


def _write_packages(connection: sa.Connection, deltas: Mapping[tuple[str, str], _Delta]) -> None:
    """Add the deltas up.  A package without files and pointers has no row."""
    key = (packages.c.repository, packages.c.package)
    query = sa.select(packages).where(sa.tuple_(*key).in_(list(deltas)))
    before = {(r["repository"], r["package"]): r for r in connection_rows(connection, query)}
    rows: list[tuple[Any, ...]] = []
    for (repository, package), delta in deltas.items():
        old = before.get((repository, package)) or {"files": 0, "size": 0, "hlc": 0}
        hlc = max(old["hlc"], delta.added)
        if delta.removed >= hlc:  # the newest row may have gone
            hlc = _newest(connection, repository, package)
        if hlc:
            counted = old["files"] + delta.files
            rows.append((repository, package, counted, old["size"] + delta.size, hlc))
    if before:
        connection.execute(sa.delete(packages).where(sa.tuple_(*key).in_(list(before))))
    bulk.insert(connection, packages, rows)


def _newest(connection: sa.Connection, repository: str, package: str) -> int:
    """Ledger time of the newest visible row of a package, 0 without one."""
    newest = 0
    for table in (files, pointers):
        query = sa.select(sa.func.max(table.c.hlc)).where(
            table.c.repository == repository, table.c.package == package
        )
        newest = max(newest, connection.execute(query).scalar() or 0)
    return newest
