"""Package rows follow the visible rows, whatever comes and goes."""

from __future__ import annotations

import sqlalchemy as sa

from store import bulk, counting, schema
from store.changes import Change
from store.facts import Delete, Fact, Flag, Point
from store.schema import packages
from tests.store.ledgers import MemoryPort, Node, deliver, mesh, publish, single


def counted(node: Node) -> dict[str, tuple[int, int, bool]]:
    """Files, size, and whether the time is that of the newest visible row."""
    newest: dict[str, int] = {}
    for row in (*node.rows("files"), *node.rows("pointers")):
        newest[row["package"]] = max(newest.get(row["package"], 0), row["hlc"])
    return {
        row["package"]: (row["files"], row["size"], newest[row["package"]] == row["hlc"])
        for row in node.rows("packages")
    }


async def test_a_package_is_there_as_long_as_something_of_it_is() -> None:
    node = await single()
    await node.append(publish("a", "12"), publish("b", "345"))
    await node.append(Point("generic", "demo", "latest", b"b"))
    assert counted(node) == {"demo": (2, 5, True)}
    await node.append(Delete("generic", "b", ()))
    assert counted(node) == {"demo": (1, 2, True)}
    await node.append(Delete("generic", "a", ()))
    assert counted(node) == {"demo": (0, 0, True)}
    await node.append(Point("generic", "demo", "latest", None))
    assert counted(node) == {}


async def test_a_mutable_file_counts_once_and_may_change_its_package() -> None:
    node = await single()
    await node.append(publish("m", "1", mutable=True))
    await node.append(publish("m", "22", mutable=True))
    assert counted(node) == {"demo": (1, 2, True)}
    await node.append(publish("m", "333", mutable=True, package="other"))
    assert counted(node) == {"other": (1, 3, True)}


async def test_packages_of_deleted_files_are_remembered() -> None:
    one, two = await mesh(2)

    def former(node: Node) -> list[str]:
        return [row["package"] for row in node.rows("former")]

    await one.append(publish("a"), publish("m", mutable=True, package="moving"))
    await one.append(publish("c", package="kept"))
    assert former(one) == []
    await one.append(Delete("generic", "a", ()), Delete("generic", "m", ()))
    await one.append(publish("a"))
    assert former(one) == ["demo", "moving"]
    await deliver(one, two)  # which has never seen them
    assert former(two) == ["demo", "moving"]


async def totals(node: Node) -> list[tuple[str, int, int]]:
    """The totals, which must be what the packages come to."""
    assert await node.port.write(counting.total_again) == 0
    return [(row["repository"], row["files"], row["size"]) for row in node.rows("totals")]


async def test_a_repository_comes_to_what_its_packages_do() -> None:
    node = await single()
    assert await totals(node) == []
    await node.append(publish("a", "12"), publish("b", "345", package="other"))
    await node.append(publish("m", "1", mutable=True), publish("x", "1", repository="pypi"))
    await node.append(publish("m", "22", mutable=True, package="third"))
    assert await totals(node) == [("generic", 3, 7), ("pypi", 1, 1)]
    await node.append(Delete("generic", "a", ()), Delete("pypi", "x", ()))
    assert await totals(node) == [("generic", 2, 5)]
    await node.append(Point("pypi", "demo", "latest", b"b"))
    await node.append(Delete("generic", "b", ()), Delete("generic", "m", ()))
    assert await totals(node) == []


async def test_wrong_totals_are_put_right() -> None:
    node = await single()
    await node.append(publish("a", "12"))

    def spoil(connection: sa.Connection) -> None:
        connection.execute(sa.update(schema.totals).values(files=7))
        bulk.insert(connection, schema.totals, [("npm", 1, 1)])

    await node.port.write(spoil)
    assert await node.port.write(counting.total_again) == 2
    assert await totals(node) == [("generic", 1, 2)]


async def test_differences_add_up() -> None:
    port = MemoryPort()
    delta = counting.Delta()
    delta.files, delta.size = 1, 10
    delta.came(5)

    def unit(connection: sa.Connection) -> list[tuple[object, ...]]:
        bulk.insert(connection, packages, [("r", "old", 1, 1, 9)])
        for _ in range(2):
            counting.write(connection, {("r", "new"): delta, ("r", "old"): delta})
        return [tuple(row) for row in connection.execute(sa.select(packages))]

    assert sorted(await port.write(unit)) == [("r", "new", 2, 20, 5), ("r", "old", 3, 21, 9)]


async def test_commits_tell_whether_packages_came_or_went() -> None:
    node = await single()
    told: list[bool] = []

    async def observe(change: Change) -> None:
        told.append(change.named)

    node.ledger.observe(observe)
    steps: list[tuple[Fact, bool]] = [
        (publish("a"), True),
        (publish("b"), False),
        (Point("generic", "demo", "latest", b"b"), False),
        (publish("m", "1", mutable=True), False),
        (publish("m", "2", mutable=True, package="moved"), True),
        (publish("m", "3", mutable=True, package="moved"), False),
        (Delete("generic", "m", ()), True),
        (Delete("generic", "a", ()), False),
        (Delete("generic", "b", ()), False),  # the pointer is left
        (Flag("generic", "demo", "1", "", "yanked", b""), False),
        (Point("generic", "demo", "latest", None), True),
    ]
    for fact, expected in steps:
        await node.append(fact)
        assert told.pop() is expected, fact
    assert told == []
