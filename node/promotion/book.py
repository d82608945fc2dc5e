"""The book of promotions: who asked for what, who agreed, what was done, and what was undone.

It lies in the *target* repository, as flags of a package whose name no format has, one flag a
statement, so that statements of several nodes are all kept and every order gives the same book.
Results of checks lie in the source, by the content that was judged.

Docs: docs/promotion.md.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa

from node.directory import RepositoryEntry, kind_of
from node.promotion.rules import Verdict
from store import catalog_rows, records
from store.bulk import chunks
from store.errors import RejectedError
from store.facts import Body, Flag
from store.rows import FlagRow
from store.schema import flags, settings
from store.schema import records as rows_of_records

BOOK, CHECKS = ":promotions", ":checks"
ASKED, APPROVED, REJECTED, BEGUN, DONE, UNDONE = (
    "asked",
    "approved",
    "rejected",
    "begun",
    "done",
    "undone",
)
PASSED, FAILED = "passed:", "failed:"  # and the name of who says so
VALUE_MAX = 40 << 10  # bytes of one statement
NOTES_MAX = 4096  # characters
T = TypeVar("T", bound=msgspec.Struct)


class Item(msgspec.Struct, frozen=True):
    """A version to promote.  ``resolved`` is what its name meant when it was asked for."""

    package: str
    version: str
    resolved: str
    content: str


class Asked(msgspec.Struct, frozen=True):
    """A request."""

    source: str
    items: tuple[Item, ...]
    by: str
    at: float
    notes: str = ""


class Said(msgspec.Struct, frozen=True):
    """An approval, a rejection, the result of a check, or a rollback."""

    by: str
    at: float
    notes: str = ""


class Before(msgspec.Struct, frozen=True):
    """Where a pointer led before a promotion moved it."""

    package: str
    name: str
    value: bytes


class Done(msgspec.Struct, frozen=True):
    """What was done, and what a rollback puts back."""

    by: str
    at: float
    before: tuple[Before, ...] = ()


@dataclass(slots=True)
class Promotion:
    """One promotion as its statements have it."""

    id: str
    target: str
    asked: Asked
    approvals: dict[str, Said] = field(default_factory=dict[str, Said])
    rejection: Said | None = None
    begun: tuple[bytes, ...] = ()  # ids of records
    done: Done | None = None
    done_in: tuple[bytes, ...] = ()
    undone: dict[str, Said] = field(default_factory=dict[str, Said])  # by record, in hexadecimal

    @property
    def standing(self) -> tuple[bytes, ...]:
        """The records that carried it out and were not rolled back."""
        return tuple(each for each in self.done_in if each.hex() not in self.undone)

    @property
    def state(self) -> str:
        """Pending, rejected, promoted or rolled_back.  What was done is done."""
        if self.done_in:
            return "promoted" if self.standing else "rolled_back"
        return "rejected" if self.rejection else "pending"


def note(target: str, id_: str, name: str, value: msgspec.Struct, *, path: str = "") -> Flag:
    """The fact that adds a statement.  Raises RejectedError if it is too large to travel."""
    data = msgspec.json.encode(value)
    if len(data) > VALUE_MAX:
        raise RejectedError("too much for one promotion: take fewer versions at once")
    return Flag(target, BOOK, id_, path, name, data)


def assemble(id_: str, target: str, rows: Iterable[FlagRow]) -> Promotion | None:
    """Put a promotion together, in whatever order its statements come; None without a request."""
    found: Promotion | None = None
    statements = list(rows)
    for row in statements:
        asked = read(row, Asked) if row.name == ASKED and not row.path else None
        if asked is not None:
            found = Promotion(id_, target, asked)
    if found is None:
        return None
    for row in statements:
        _add(found, row)
    return found


def _add(found: Promotion, row: FlagRow) -> None:
    if row.name in {BEGUN, DONE}:
        if row.name == BEGUN:
            found.begun = row.records
        else:
            found.done, found.done_in = read(row, Done), row.records
        return
    said = read(row, Said)
    if said is None:
        return
    if row.name == APPROVED and said.by == row.path:
        found.approvals[said.by] = said
    elif row.name == REJECTED:
        found.rejection = said
    elif row.name == UNDONE:
        found.undone[row.path] = said


def read(row: FlagRow, kind: type[T]) -> T | None:
    """What a statement says; None for what this version cannot read."""
    try:
        return msgspec.json.decode(row.value, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


# --- units --------------------------------------------------------------------------------------
def find(connection: sa.Connection, targets: Collection[str], id_: str) -> Promotion | None:
    """A unit: the promotion with this id in one of some repositories."""
    query = sa.select(flags).where(
        flags.c.repository.in_(targets), flags.c.package == BOOK, flags.c.version == id_
    )
    rows = [catalog_rows.flag(row) for row in connection.execute(query).all()]
    return assemble(id_, rows[0].repository, rows) if rows else None


def page(
    connection: sa.Connection, target: str, *, before: str = "", limit: int = 100
) -> list[Promotion]:
    """A unit: promotions into a repository, the newest first; ``before`` is an id."""
    here = flags.c.repository == target, flags.c.package == BOOK
    query = sa.select(flags.c.version).where(*here, flags.c.path == "", flags.c.name == ASKED)
    if before:
        query = query.where(flags.c.version < before)
    ids = list(connection.execute(query.order_by(flags.c.version.desc()).limit(limit)).scalars())
    found = (find(connection, [target], id_) for id_ in ids)
    return [each for each in found if each is not None]


def waiting(
    connection: sa.Connection, target: str, *, before: str = "", limit: int = 100
) -> list[Promotion]:
    """A unit: the same of those that nobody has decided, without a look at those that somebody has.

    The names of statements tell, so the index by their key is all that is read.
    """
    query = sa.select(flags.c.version).where(
        flags.c.repository == target,
        flags.c.package == BOOK,
        flags.c.name.in_((ASKED, DONE, REJECTED)),
        flags.c.path == "",
    )
    if before:
        query = query.where(flags.c.version < before)
    query = query.group_by(flags.c.version).having(sa.func.max(flags.c.name) == ASKED)
    ids = list(connection.execute(query.order_by(flags.c.version.desc()).limit(limit)).scalars())
    found = (find(connection, [target], id_) for id_ in ids)
    return [each for each in found if each is not None]


def undecided(
    connection: sa.Connection, known: Collection[tuple[str, str]] = ()
) -> tuple[set[tuple[str, str]], list[Promotion]]:
    """A unit: (target, id) of all that wait into any repository, and those that are not ``known``.

    One query by the key of the statements; only what is new is read.
    """
    kind = kind_of(RepositoryEntry)
    query = sa.select(flags.c.repository, flags.c.version).where(
        flags.c.repository.in_(sa.select(settings.c.key).where(settings.c.kind == kind)),
        flags.c.package == BOOK,
        flags.c.name.in_((ASKED, DONE, REJECTED)),
        flags.c.path == "",
    )
    query = query.group_by(flags.c.repository, flags.c.version)
    query = query.having(sa.func.max(flags.c.name) == ASKED)
    ids = {(target, id_) for target, id_ in connection.execute(query)}
    found = [find(connection, [target], id_) for target, id_ in sorted(ids - set(known))]
    return ids, [each for each in found if each is not None]


def verdict(connection: sa.Connection, source: str, content: str, check: str) -> Verdict:
    """A unit: what was reported of a check on some content."""
    query = sa.select(flags.c.name).where(
        flags.c.repository == source,
        flags.c.package == CHECKS,
        flags.c.version == content,
        flags.c.path == check,
    )
    names = list(connection.execute(query).scalars())
    return Verdict(
        frozenset(n.removeprefix(PASSED) for n in names if n.startswith(PASSED)),
        frozenset(n.removeprefix(FAILED) for n in names if n.startswith(FAILED)),
    )


def actors(connection: sa.Connection, ids: Collection[bytes]) -> set[str]:
    """A unit: who had these records written."""
    return {body.actor for _, body in bodies(connection, ids)}


def bodies(connection: sa.Connection, ids: Collection[bytes]) -> Iterator[tuple[bytes, Body]]:
    """A unit: what these records say, of those whose bodies are here."""
    table = rows_of_records.c
    for part in chunks(sorted(ids)):
        query = sa.select(table.id, table.body).where(table.id.in_(part), table.body.is_not(None))
        for id_, body in connection.execute(query).all():
            yield bytes(id_), records.read_body(bytes(body))


def span(connection: sa.Connection, begun: Sequence[bytes], done: bytes) -> set[bytes]:
    """A unit: the records of one execution, from the one that began it to the one that ended it."""
    table = rows_of_records.c
    place = sa.select(table.author, table.incarnation, table.seq)
    last: Any = connection.execute(place.where(table.id == done)).first()
    if last is None:
        return set()
    own = table.author == last.author, table.incarnation == last.incarnation
    first = connection.execute(
        sa.select(sa.func.max(table.seq)).where(*own, table.id.in_(begun), table.seq <= last.seq)
    ).scalar()
    query = sa.select(table.id).where(
        *own, table.seq >= (last.seq if first is None else first), table.seq <= last.seq
    )
    return {bytes(each) for each in connection.execute(query).scalars()}
