"""The ledger's database port over SQLite in memory, without SQLAlchemy's work per statement.

The statements are the product's own; SQLAlchemy compiles each form of them once, and what it does
again at every execution (contexts, cursors, processors, rows) is left out: four fifths of the time.
``simulations.disk.MemoryPort`` does all of it, and a share of the histories is played on that.
"""

from __future__ import annotations

import re
import sqlite3
import weakref
from collections import namedtuple
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any, Protocol, TypeVar, cast

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import dialect as make_dialect

from store import schema

T = TypeVar("T")
Row = tuple[Any, ...]
DIALECT = make_dialect(paramstyle="qmark")
EXPANDING = re.compile(r"__\[POSTCOMPILE_([^\]]+)\]")


class Result:
    """The rows of one execution; ``rowcount`` is how many a deletion has taken."""

    __slots__ = ("_rows", "rowcount")

    def __init__(self, rows: Iterator[Any], rowcount: int = -1) -> None:
        self._rows, self.rowcount = rows, rowcount

    def __iter__(self) -> Iterator[Any]:
        return self._rows

    def all(self) -> list[Any]:
        """Return every row."""
        return list(self._rows)

    def first(self) -> Any:
        """Return the first row, or None."""
        return next(self._rows, None)

    def one(self) -> Any:
        """Return the only row.  Raises ValueError if there is not exactly one."""
        (row,) = self._rows
        return row

    def scalar(self) -> Any:
        """Return the first value of the first row, or None."""
        row = next(self._rows, None)
        return None if row is None else row[0]

    def scalars(self) -> Iterator[Any]:
        """Iterate over the first value of every row."""
        return (row[0] for row in self._rows)


class Form:
    """One form of a statement: its SQL, and where each parameter comes from."""

    def __init__(self, statement: Any, key: Any) -> None:
        compiled = statement.compile(dialect=DIALECT, cache_key=key)
        self.sql = str(compiled)
        places = {bind.key: number for number, bind in enumerate(key.bindparams)}
        self.inputs: list[tuple[str, int, Any]] = []  # name, place among the binds or -1, constant
        self.expanding: set[str] = set()
        for name in compiled.positiontup or ():
            bind = compiled.binds[name]
            self.inputs.append((name, places.get(bind.key, -1), bind.value))
            if bind in compiled.post_compile_params:
                self.expanding.add(name)
        self.row: Callable[[Any], Any] | None = None

    def run(self, database: sqlite3.Connection, binds: Any, given: Mapping[str, Any]) -> Result:
        """Execute it."""
        values: list[Any] = []
        spread = dict[str, int]()
        for name, place, constant in self.inputs:
            value = given.get(name, binds[place].value if place >= 0 else constant)
            if name in self.expanding:
                spread[name] = len(value)
                values += value
            else:
                values.append(value)
        sql = self.sql
        if spread:
            sql = EXPANDING.sub(lambda found: ",".join("?" * spread[found[1]]), sql)
        cursor = database.execute(sql, values)
        if cursor.description is None:
            return Result(iter(()), cursor.rowcount)
        if self.row is None:
            names: Any = [column[0] for column in cursor.description]
            kind: Any = namedtuple("Row", names, rename=True)  # type: ignore[misc]  # noqa: PYI024  made anew
            self.row = kind._make
        return Result(map(self.row, cursor.fetchall()))


FORMS: dict[Any, Form] = {}


class Connection:
    """What the product's units use of a ``sqlalchemy.Connection``."""

    dialect = DIALECT

    def __init__(self, database: sqlite3.Connection, slow: sa.Connection) -> None:
        self._database, self._slow = database, slow

    def execute(self, statement: Any, given: Any = None) -> Any:
        """Run a statement of SQLAlchemy's."""
        if not isinstance(statement, sa.Select | sa.Delete) or isinstance(given, list):
            return self._slow.execute(statement, given)  # what writes by name is rare
        known = statement.__dict__.get("_quick_form")
        if known is None or known[0]() is not statement:  # it may be a copy that was added to
            key: Any = statement._generate_cache_key()  # noqa: SLF001  as the engine does itself
            form = FORMS.get(key.key)
            if form is None:
                form = FORMS[key.key] = Form(statement, key)
            known = (weakref.ref(statement), form, key.bindparams)
            statement.__dict__["_quick_form"] = known
        _, form, binds = known
        return form.run(self._database, binds, given or {})

    def exec_driver_sql(self, sql: str, rows: list[Row]) -> None:
        """Run SQL for many rows."""
        self._database.executemany(sql, rows)


@lru_cache(maxsize=1)
def empty() -> bytes:
    """Return an image of a database with the ledger's tables, and nothing in them."""
    engine = sa.create_engine("sqlite://", poolclass=sa.pool.StaticPool)
    schema.facts.create_all(engine)
    raw: Any = engine.raw_connection().driver_connection
    image: bytes = raw.serialize()
    engine.dispose()
    return image


class Accessing(Protocol):
    """What surrounds every access, and may refuse it or take the node down."""

    def __call__(self, *, writing: bool) -> AbstractContextManager[None]: ...


def unhindered(*, writing: bool) -> AbstractContextManager[None]:
    """Let everything pass."""
    return nullcontext()


class QuickPort:
    """The ledger's database port."""

    def __init__(self, image: bytes = b"", accessing: Accessing = unhindered) -> None:
        self._accessing = accessing
        self._database = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        self._database.deserialize(image or empty())
        pool = {"creator": lambda: self._database, "poolclass": sa.pool.StaticPool}
        self._engine = sa.create_engine("sqlite://", **pool)
        self._slow = self._engine.connect()
        self._connection = Connection(self._database, self._slow)

    async def read(self, unit: Callable[[sa.Connection], T], /) -> T:
        """Run a unit."""
        with self._accessing(writing=False):
            return unit(cast("sa.Connection", self._connection))

    async def write(self, unit: Callable[[sa.Connection], T], /) -> T:
        """Run a unit, all of it or nothing."""
        with self._accessing(writing=True):
            return self.look(unit)

    def look(self, unit: Callable[[sa.Connection], T]) -> T:
        """Run a unit, at once, whatever is wrong with the disk."""
        self._database.execute("BEGIN")
        try:
            result = unit(cast("sa.Connection", self._connection))
        except BaseException:  # cancelled, too
            self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")
        return result

    def copy(self) -> QuickPort:
        """Clone the database, as a thief of the disk would."""
        return QuickPort(self._database.serialize())

    def close(self) -> None:
        """Give the memory back: a connection that is not returned keeps its pool for ever."""
        self._slow.close()
        self._engine.dispose()
        self._database.close()
