"""Every planted corruption is found, and healed where something is left to heal it from."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from node.verification import Finding, Progress, Verdict, Verification
from store import refolding
from store.digest import Digest
from store.facts import Delete, Flag, Point
from tests.node.world import World, world

TEXT = b"what was published " * 5000


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as found:
        headers = {"authorization": f"Bearer {found.token}"}
        for name in "abc":
            path = f"/general/generic/p/1/{name}"
            answer = await found.ask("PUT", path, name.encode() + TEXT, headers)
            assert answer.status == 201
        gone = await found.core.catalog.find("generic", "p/1/c")
        assert gone is not None
        facts = [
            Point("generic", "p", "latest", b"1"),
            Flag("generic", "p", "1", "", "yanked", b"why"),
            Delete("generic", "p/1/c", (gone.record,)),
        ]
        await found.core.ledger.append(facts, actor="test")
        yield found


async def look(node: World, *, repair: bool = False) -> tuple[list[Finding], Verdict]:
    events = [event async for event in Verification(node.core, repair=repair).run()]
    assert isinstance(events[-1], Verdict)
    return [each for each in events if isinstance(each, Finding)], events[-1]


def sql(node: World, statement: str, *values: Any, file: str = "facts.db") -> None:
    with closing(sqlite3.connect(node.core.config.path / file)) as database, database:
        assert database.execute(statement, values).rowcount, statement


def lose(node: World, path: str) -> None:
    sql(node, "DELETE FROM claims WHERE cell LIKE ?", f"%{path}")
    sql(node, "DELETE FROM files WHERE path = ?", path)


def blob(node: World, name: str) -> Path:
    path = node.core.blobs.path(Digest.of(name.encode() + TEXT))
    assert path is not None
    return path


async def test_a_healthy_node_is_healthy(node: World) -> None:
    findings, verdict = await look(node)
    assert findings == []
    assert verdict.blobs == 3
    assert verdict.records > 5
    assert verdict.bytes == 3 * (len(TEXT) + 1)
    assert not (node.core.config.path / "tmp" / "verify.db").exists()


async def test_a_long_chain_is_told_of_while_it_is_read(
    node: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refolding, "RANGE_MAX", 1)
    events = [event async for event in Verification(node.core, repair=False).run()]
    told = [e.done for e in events if isinstance(e, Progress) and e.what == "records"]
    assert len(told) > 5
    assert told == sorted(set(told)), "who waits for a line hears of every range"


PLANTED: dict[str, tuple[str, Callable[[World], None]]] = {
    "a file's row is lost": (
        "catalog",
        lambda node: sql(node, "DELETE FROM files WHERE path = 'p/1/a'"),
    ),
    "a file has another digest": (
        "catalog",
        lambda node: sql(node, "UPDATE files SET digest = 'sha256:00' WHERE path = 'p/1/a'"),
    ),
    "a file nobody published": (
        "catalog",
        lambda node: sql(
            node,
            "INSERT INTO files SELECT repository, 'evil', package, version, role, digest, size,"
            " checksums, metadata, metadata_digest, manifest_id, hlc, record, author, mutable,"
            " pending, conflicted, sha512 FROM files WHERE path = 'p/1/a'",
        ),
    ),
    "a file's claim is lost, and its row": (
        "catalog",
        lambda node: lose(node, "p/1/b"),
    ),
    "a deleted coordinate is free again": ("catalog", lambda node: sql(node, "DELETE FROM burnt")),
    "a tag points elsewhere": (
        "catalog",
        lambda node: sql(node, "UPDATE pointers SET value = X'32'"),
    ),
    "a yanked version is not": ("catalog", lambda node: sql(node, "DELETE FROM flags")),
    "a user has other rights": (
        "catalog",
        lambda node: sql(node, "UPDATE settings SET value = X'7B7D' WHERE kind = 'user'"),
    ),
    "a package is counted wrongly": ("count", lambda node: sql(node, "UPDATE packages SET size=1")),
    "a package is not counted": ("count", lambda node: sql(node, "DELETE FROM packages")),
    "a repository is added up wrongly": ("count", lambda node: sql(node, "DELETE FROM totals")),
    "a chunk is indexed elsewhere": (
        "chunks",
        lambda node: sql(node, "UPDATE chunks SET length = length + 1", file="local.db"),
    ),
}


@pytest.mark.parametrize("planted", PLANTED)
async def test_what_is_planted_is_found_and_healed(node: World, planted: str) -> None:
    kind, plant = PLANTED[planted]
    before = await everything(node)
    plant(node)
    found, verdict = await look(node)
    assert found
    assert {each.kind for each in found} <= {kind, "count"}
    assert not any(each.healed for each in found)
    assert (verdict.findings, verdict.healed) == (len(found), 0)
    again, _ = await look(node)
    assert len(again) == len(found), "looking changes nothing"
    healed, verdict = await look(node, repair=True)
    assert healed
    assert all(each.healed for each in healed)
    assert verdict.healed == len(healed)
    assert (await look(node))[0] == []
    assert await everything(node) == before


async def everything(node: World) -> list[Any]:
    """Each row of the catalog, as the database has it."""
    rows: list[Any] = []
    with closing(sqlite3.connect(node.core.config.path / "facts.db")) as database:
        for table in ("files", "burnt", "pointers", "flags", "settings", "packages"):
            rows += sorted(database.execute(f"SELECT * FROM {table}").fetchall())
    return rows


async def test_wrong_bytes_are_put_aside(node: World) -> None:
    path = blob(node, "a")
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    (found,), _ = await look(node)
    assert (found.kind, found.healed) == ("blob", False)
    assert path.exists()
    (found,), _ = await look(node, repair=True)
    assert not found.healed
    assert "not running" in found.detail  # there are no peers to ask
    assert not path.exists()
    assert (node.core.config.path / "damaged" / path.name).exists()
    assert (await node.ask("GET", "/general/generic/p/1/a")).status in {404, 503}


async def test_a_lost_blob_is_told(node: World) -> None:
    blob(node, "b").unlink()
    (found,), _ = await look(node)
    assert "gone" in found.trouble


async def test_a_changed_record_is_told(node: World) -> None:
    sql(node, "UPDATE records SET body = X'00' WHERE seq = 2")
    found, _ = await look(node)
    assert found[0].kind == "ledger"
    assert "from" in found[0].trouble
