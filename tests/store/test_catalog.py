"""Catalog reads, on both databases: what they find, in which order, and at what cost."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import sqlalchemy as sa

from store import catalog as module
from store import counting, hlc, schema
from store.catalog import Catalog
from store.database import Database, open_database
from store.digest import Digest
from tests.store.catalogs import (
    RECORD,
    digest,
    file,
    flag,
    insert,
    package,
    pointer,
    record,
    setting,
)

FILES = [
    file("pypi", "demo", "1.0", "demo/demo-1.0.tar.gz"),
    file("pypi", "demo", "1.0", "demo/demo-1.0-py3-none-any.whl", role="wheel", mutable=True),
    file("pypi", "demo", "2.0", "demo/demo-2.0.tar.gz", pending=True, conflicted=True),
    file("pypi", "other", "1.0", "other/other-1.0.tar.gz"),
    file("npm", "demo", "1.0", "demo/-/demo-1.0.tgz"),
]


@pytest.fixture
async def catalog(facts: Database) -> Catalog:
    await facts.write(insert(schema.files, *FILES))
    return Catalog(facts)


# --- files ---------------------------------------------------------------------------------------
async def test_find_gives_the_whole_artifact(catalog: Catalog) -> None:
    found = await catalog.find("pypi", "demo/demo-1.0-py3-none-any.whl")
    assert found is not None
    assert found.digest == digest(found.path)
    assert found.checksums == {"md5": "00", "sha256": found.digest.hex}
    assert (found.package, found.version, found.role) == ("demo", "1.0", "wheel")
    assert (found.published, found.record, found.metadata) == (1000.0, RECORD, b"{}")
    assert (found.metadata_digest, found.mutable, found.pending) == (None, True, False)
    assert found.filename == "demo-1.0-py3-none-any.whl"
    newer = await catalog.find("pypi", "demo/demo-2.0.tar.gz")
    assert newer is not None
    assert (newer.pending, newer.conflicted) == (True, True)


@pytest.mark.parametrize("path", ["demo", "demo/demo-1.0.tar.gz ", "", "a\0b", "\udcff", "%"])
async def test_find_finds_nothing_else(catalog: Catalog, path: str) -> None:
    assert await catalog.find("pypi", path) is None


async def test_artifacts_are_in_path_order(catalog: Catalog) -> None:
    assert [each.path for each in await catalog.artifacts("pypi", "demo")] == [
        "demo/demo-1.0-py3-none-any.whl",
        "demo/demo-1.0.tar.gz",
        "demo/demo-2.0.tar.gz",
    ]
    assert len(await catalog.artifacts("pypi", "demo", "1.0")) == 2
    assert await catalog.artifacts("pypi", "demo", "3.0") == []
    assert await catalog.artifacts("pypi", "\0") == []


async def test_a_package_of_many_files_is_read_whole(facts: Database) -> None:
    rows = [file("maven", "big", f"{n}", f"big/{n:04}") for n in range(module.HOT_MAX + 50)]
    await facts.write(insert(schema.files, *rows))
    found = await Catalog(facts).artifacts("maven", "big")
    assert [each.path for each in found] == [row["path"] for row in rows]


async def test_by_digest_finds_every_place(catalog: Catalog, facts: Database) -> None:
    path = "demo/demo-1.0.tar.gz"
    await facts.write(insert(schema.files, file("npm", "demo", "1.0", path)))
    assert [each.path for each in await catalog.by_digest("pypi", digest(path))] == [path]
    both = await catalog.by_digest(None, digest(path))
    assert [each.repository for each in both] == ["npm", "pypi"]
    (row,) = [row for row in FILES if row["path"] == path]
    assert await catalog.by_digest(None, Digest("sha512", row["sha512"])) == both
    assert await catalog.by_digest("pypi", digest("else")) == []
    assert await catalog.by_digest("pypi", Digest("sha512", "0" * 128)) == []


async def test_all_artifacts_are_paged(facts: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAGE", 3)
    names = ["a/1", "a/2", "a/3", "a/4", "a0", "b", "Z", "é", "中", "\N{GRINNING FACE}"]
    await facts.write(insert(schema.files, *(file("g", "p", "1", name) for name in names)))
    catalog = Catalog(facts)
    assert [each.path async for each in catalog.all_artifacts("g")] == sorted(names)
    found = [each.path async for each in catalog.all_artifacts("g", "a/")]
    assert found == ["a/1", "a/2", "a/3", "a/4"]
    assert [each.path async for each in catalog.all_artifacts("g", "c")] == []
    assert [each.path async for each in catalog.all_artifacts("none")] == []


# --- packages ------------------------------------------------------------------------------------
async def test_packages_are_in_byte_order(facts: Database) -> None:
    names = ["B", "a", "a-b", "a.b", "a_b", "ab", "é", "z"]
    await facts.write(insert(schema.packages, *(package("pypi", name) for name in names)))
    catalog = Catalog(facts)
    assert await catalog.packages("pypi") == sorted(names)
    assert await catalog.packages("pypi", limit=2) == ["B", "a"]
    assert await catalog.packages("pypi", after="a", limit=2) == ["a-b", "a.b"]
    assert await catalog.packages("pypi", prefix="a", after="a.b") == ["a_b", "ab"]
    assert await catalog.packages("pypi", prefix="a", after="B") == ["a", "a-b", "a.b", "a_b", "ab"]
    assert await catalog.packages("npm") == []
    assert await catalog.packages("pypi", holding=["B"]) == ["B", "a-b", "a.b", "a_b", "ab"]
    assert await catalog.packages("pypi", holding=["a", "_"]) == ["a_b"]
    assert await catalog.packages("pypi", holding=["\0"]) == []


async def test_statistics_add_up(facts: Database) -> None:
    rows = package("pypi", "a", 2, 300), package("pypi", "b", 1, 4), package("npm", "c", 9, 9)
    await facts.write(insert(schema.packages, *rows))
    assert await facts.write(counting.total_again) == 2
    catalog = Catalog(facts)
    catalog.touched([("pypi", "a")], hlc.stamp(5.0))
    found = await catalog.statistics("pypi")
    assert (found.files, found.size, found.updated) == (3, 304, 5.0)
    empty = await catalog.statistics("none")
    assert (empty.files, empty.size) == (0, 0)
    one = await catalog.package("pypi", "a")
    assert one is not None
    assert (one.files, one.size, one.updated) == (2, 300, 1000.0)
    assert await catalog.package("pypi", "z") is None


async def test_search_looks_at_names_and_paths(catalog: Catalog, facts: Database) -> None:
    rows = package("pypi", "demo"), package("pypi", "other"), package("npm", "100%_Sure")
    await facts.write(insert(schema.packages, *rows))

    async def search(text: str, repositories: list[str] | None = None) -> list[tuple[str, str]]:
        found = await catalog.search(text, repositories=repositories)
        return [(row.repository, row.package) for row in found]

    assert await search("DEM") == [("pypi", "demo")]
    assert await search("py3-none") == [("pypi", "demo")]
    assert await search("%_s") == [("npm", "100%_Sure")]
    assert await search("o_h") == []
    assert await search("", ["npm"]) == [("npm", "100%_Sure")]
    assert await search("\0") == []


# --- pointers, flags, settings -------------------------------------------------------------------
async def test_pointers(facts: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAGE", 2)
    keys = [("app", "a"), ("app", "b"), ("app", "c"), ("apple", "a"), ("b", "a")]
    await facts.write(insert(schema.pointers, *(pointer("docker", *key) for key in keys)))
    catalog = Catalog(facts)
    found = await catalog.pointer("docker", "app", "b")
    assert found is not None
    assert (found.value, found.siblings, found.updated) == (b"1.0", (b"x",), 1000.0)
    assert found.records == (RECORD, b"s" * 32)
    assert await catalog.pointer("docker", "app", "d") is None
    assert [each.name for each in await catalog.pointers("docker", "app")] == ["a", "b", "c"]

    async def walk(prefix: str) -> list[tuple[str, str]]:
        return [(p.package, p.name) async for p in catalog.all_pointers("docker", prefix)]

    assert await walk("") == keys
    assert await walk("app") == keys[:4]
    assert await walk("c") == []


async def test_flags_and_settings(facts: Database) -> None:
    await facts.write(insert(schema.flags, flag("npm", "demo", "1.0", "deprecated")))
    await facts.write(insert(schema.settings, setting("user", "b"), setting("user", "a")))
    catalog = Catalog(facts)
    (found,) = await catalog.flags("npm", "demo")
    assert (found.version, found.name, found.value) == ("1.0", "deprecated", b"why")
    assert (found.records, found.updated) == ((RECORD,), 1000.0)
    assert [each.key for each in await catalog.settings("user")] == ["a", "b"]
    one = await catalog.setting("user", "a")
    assert one is not None
    assert (one.kind, one.key, one.value, one.records) == ("user", "a", b"{}", (RECORD,))
    assert await catalog.setting("group", "a") is None


# --- revisions -----------------------------------------------------------------------------------
async def test_load_finds_each_repository_s_newest_change(facts: Database) -> None:
    rows = [
        record(1, "pypi", hlc.stamp(10.0)),
        record(2, "pypi", hlc.stamp(30.0)),
        record(3, "pypi", hlc.stamp(50.0), status="held"),
        record(4, "npm", hlc.stamp(20.0)),
        record(5, "", hlc.stamp(40.0)),
    ]
    await facts.write(insert(schema.records, *rows))
    catalog = Catalog(facts)
    await catalog.load()
    assert (catalog.modified("pypi"), catalog.modified("npm")) == (30.0, 20.0)
    assert catalog.modified("none") == 0.0
    before = catalog.revision("pypi"), catalog.revision("npm")
    await facts.write(insert(schema.records, record(6, "pypi", hlc.stamp(60.0))))
    await catalog.load()  # another process wrote
    assert catalog.modified("pypi") == 60.0
    assert catalog.revision("pypi") > before[0]
    assert catalog.revision("npm") == before[1]


# --- cost ----------------------------------------------------------------------------------------
async def walk(rows: AsyncIterator[object]) -> None:
    async for _ in rows:
        pass


Read = Callable[[Catalog], Awaitable[object]]
KEY = "USING INDEX sqlite_autoindex"  # the primary key's
COVERING = "USING COVERING INDEX sqlite_autoindex"  # which holds all that is asked for
POINT_READS: dict[str, tuple[Read, list[str]]] = {
    "find": (lambda c: c.find("r", "p"), [f"files {KEY}_files_1 (repository=? AND path=?)"]),
    "artifacts": (
        lambda c: c.artifacts("r", "p"),
        ["files USING INDEX files_package (repository=? AND package=?)"],
    ),
    "version": (
        lambda c: c.artifacts("r", "p", "v"),
        ["files USING INDEX files_package (repository=? AND package=? AND version=?)"],
    ),
    "digest": (
        lambda c: c.by_digest("r", digest("x")),
        ["files USING INDEX files_digest (digest=? AND repository=?)"],
    ),
    "digest anywhere": (
        lambda c: c.by_digest(None, digest("x")),
        ["files USING INDEX files_digest (digest=?)"],
    ),
    "sha512": (
        lambda c: c.by_digest("r", Digest("sha512", "0" * 128)),
        ["files USING INDEX files_sha512 (sha512=? AND repository=?)"],
    ),
    "files": (
        lambda c: c.files("r", prefix="p", after="q"),
        [f"files {KEY}_files_1 (repository=? AND path>? AND path<?)"],
    ),
    "package": (
        lambda c: c.package("r", "p"),
        [f"packages {KEY}_packages_1 (repository=? AND package=?)"],
    ),
    "statistics": (  # whatever number of packages they are of
        lambda c: c.statistics("r"),
        [f"totals {KEY}_totals_1 (repository=?)"],
    ),
    "packages": (
        lambda c: c.packages("r", prefix="p", after="q"),
        [f"packages {COVERING}_packages_1 (repository=? AND package>? AND package<?)"],
    ),
    "pointer": (
        lambda c: c.pointer("r", "p", "n"),
        [f"pointers {KEY}_pointers_1 (repository=? AND package=? AND name=?)"],
    ),
    "pointers": (
        lambda c: c.pointers("r", "p"),
        [f"pointers {KEY}_pointers_1 (repository=? AND package=?)"],
    ),
    "all pointers": (  # later pages begin where the last one ended
        lambda c: walk(c.all_pointers("r", "p")),
        [
            f"pointers {KEY}_pointers_1 (repository=? AND package>? AND package<?)",
            *[f"pointers {KEY}_pointers_1 (repository=? AND (package,name)>(?,?) AND package<?)"]
            * 2,
        ],
    ),
    "flags": (lambda c: c.flags("r", "p"), [f"flags {KEY}_flags_1 (repository=? AND package=?)"]),
    "settings": (lambda c: c.settings("k"), [f"settings {KEY}_settings_1 (kind=?)"]),
    "setting": (
        lambda c: c.setting("k", "k"),
        [f"settings {KEY}_settings_1 (kind=? AND key=?)"],
    ),
    "load": (
        lambda c: c.load(),
        [
            "records USING COVERING INDEX records_scope (scope>?)",
            "records USING INDEX records_scope (scope=? AND status=?)",
            "records USING COVERING INDEX records_scope (scope>?)",
        ],
    ),
}


@pytest.mark.parametrize("name", POINT_READS)
async def test_reads_search_an_index(
    sqlite_url: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EXPLAIN each statement that a read executes: it searches by all it knows, and sorts nothing."""
    plans: list[str] = []

    async def explained(read: Callable[[sa.Connection], object], *, hot: bool = False) -> object:
        def unit(connection: sa.Connection) -> object:
            statements: list[tuple[str, object]] = []

            def note(
                _c: object, _cursor: object, statement: str, values: object, *_: object
            ) -> None:
                statements.append((statement, values))

            sa.event.listen(connection, "before_cursor_execute", note)
            result = read(connection)
            sa.event.remove(connection, "before_cursor_execute", note)
            for statement, values in statements:
                raw = connection.connection.driver_connection
                assert raw is not None
                rows = raw.execute(f"EXPLAIN QUERY PLAN {statement}", values)
                plans.extend(row[3] for row in rows)
            return result

        return await original(unit)

    async with open_database(sqlite_url, schema.facts) as facts:
        original = facts.read
        await facts.write(insert(schema.records, record(1, "pypi", 1)))
        await facts.write(insert(schema.pointers, pointer("r", "p", "a"), pointer("r", "p", "b")))
        monkeypatch.setattr(module, "PAGE", 1)
        monkeypatch.setattr(facts, "read", explained)
        read, expected = POINT_READS[name]
        await read(Catalog(facts))
    assert plans == [f"SEARCH {plan}" for plan in expected]
