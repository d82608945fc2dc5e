"""A local repository as its format sees it."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from formats.contract import Publish as Wish
from formats.contract import Response
from node.directory import RepositoryEntry
from node.repositories.local import LocalRepository
from store.backend import Unit
from store.blobs import Ingested
from store.database import Database
from store.digest import Digest
from store.errors import NotFoundError, TooLargeError
from store.facts import Delete, File, Flag, Point, Publish
from tests.node.world import Answer, World, world


async def ingest(repository: LocalRepository, data: bytes) -> Ingested:
    async with repository.ingest(checksums=["md5"]) as ingest:
        await ingest.write(data)
    return ingest.result


async def put(node: World, repository: LocalRepository, path: str, metadata: bytes) -> None:
    blob = await ingest(repository, path.encode())
    file = File(path, "file", str(blob.digest), blob.size, metadata=metadata)
    fact = Publish(repository.key, "p", "1", (file,))
    await node.core.publisher.commit(Wish((fact,), Response()), repository.entry, actor="t")


def local(node: World) -> LocalRepository:
    entry = node.core.directory.get(RepositoryEntry, "generic")
    assert entry is not None
    found = node.core.open(entry)
    assert isinstance(found, LocalRepository)
    return found


async def test_files_and_their_metadata_wherever_it_is(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        repository = local(node)
        wanted = [json.dumps({"n": n, "pad": "x" * (n * 3000)}).encode() for n in range(4)]
        for number, metadata in enumerate(wanted):
            await put(node, repository, f"f{number}", metadata)
        found = await repository.artifacts("p")
        assert [each.path for each in found] == ["f0", "f1", "f2", "f3"]
        assert await repository.metadata(found) == wanted
        assert (await repository.artifact("f1")).digest == found[1].digest
        assert await repository.find("none") is None
        with pytest.raises(NotFoundError, match="generic has no none"):
            await repository.artifact("none")
        assert [a.path async for a in repository.all_artifacts("f")] == [a.path for a in found]
        assert [a.path for a in await repository.by_digest(found[2].digest)] == ["f2"]
        assert await repository.packages() == ["p"]
        assert repository.modified == max(each.published for each in found)


async def test_blobs_are_read_whole_or_by_a_reader_within_bounds(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        repository = local(node)
        blob = await ingest(repository, b"0123456789")
        assert blob.checksums["md5"] == "781e5e245d69b566979b86e28d23f2c7"
        assert await repository.load(blob.digest) == b"0123456789"
        with pytest.raises(TooLargeError):
            await repository.load(blob.digest, limit=9)

        def read(file: BinaryIO) -> bytes:
            file.seek(-3, 2)
            return file.read()

        assert await repository.inspect(blob.digest, read) == b"789"


async def test_staged_blobs_wait_by_name(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        repository = local(node)
        blob = await ingest(repository, b"layer")
        await repository.stage("app", "b", blob, b"meta")
        await repository.stage("app", "a", blob)
        assert [each.name for each in await repository.staged("app")] == ["a", "b"]
        assert (await repository.staged("app"))[1].metadata == b"meta"
        assert await repository.staged("other") == []
        await repository.unstage("app", "a")
        assert [each.name for each in await repository.staged("app")] == ["b"]


async def test_documents_are_kept_until_the_repository_changes(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        repository = local(node)
        built = 0

        async def build() -> bytes:
            nonlocal built
            built += 1
            return b"%d" % built

        async def build_set() -> dict[str, Ingested]:
            return {"Release": await ingest(repository, await build())}

        assert (await repository.cached("k", build)).data == b"1"
        assert (await repository.cached("k", build)).data == b"1"
        first = await repository.cached_set("s", build_set)
        await put(node, repository, "x", b"{}")
        assert (await repository.cached("k", build)).data == b"3"
        second = await repository.cached_set("s", build_set)
        assert await repository.generations("s") == (second, first)
        assert await repository.cached_set("s", build_set) == second


async def test_it_knows_its_services(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        repository = local(node)
        assert repository.options == {}
        assert repository.accounts is node.core.accounts
        session = await repository.uploads.create("p")
        assert (await repository.uploads.status(session.id, "p")).size == 0
        assert repository.signer is not None


async def test_lookups_are_remembered_until_the_repository_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Publish, mark, point, delete: each is seen at once, and nothing else asks the database."""
    async with world(tmp_path) as node:
        repository, asked = local(node), 0
        read = Database.read

        async def counted(self: Database, unit: Unit[Any], *, hot: bool = False) -> Any:
            nonlocal asked
            asked += 1
            return await read(self, unit, hot=hot)

        async def seen() -> tuple[bool, int, int, int]:
            """What is there, asked twice: the second time nothing may reach the database."""
            for turn in range(2):
                before = asked
                there = await repository.find("x")
                found = (
                    there is not None,
                    len(await repository.artifacts("p")),
                    len(await repository.pointers("p")),
                    len(await repository.flags("p")),
                )
                same = await repository.by_digest(Digest.of(b"x"))
                assert len(same) == found[0]
                assert asked - before == (0 if turn else 5)
            return found

        monkeypatch.setattr(Database, "read", counted)
        write = node.core.ledger.append
        assert await seen() == (False, 0, 0, 0)
        await put(node, repository, "x", b"{}")
        assert await seen() == (True, 1, 0, 0)
        await write([Point(repository.key, "p", "latest", b"1")], actor="t")
        assert await seen() == (True, 1, 1, 0)
        await write([Flag(repository.key, "p", "1", "", "yanked", b"")], actor="t")
        assert await seen() == (True, 1, 1, 1)
        gone = await repository.artifact("x")
        await write([Delete(repository.key, "x", (gone.record,))], actor="t")
        assert (await seen())[:2] == (False, 0)


async def test_what_is_remembered_lets_nobody_in(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        await put(node, local(node), "x", b"{}")
        path = f"/general/{local(node).key}/x"
        for _ in range(2):
            assert (await node.ask("GET", path)).body == b"x"
        await node.api("PATCH", f"/repositories/{local(node).key}", {"is_public": False})
        assert (await node.ask("GET", path)).status == 401


async def test_lists_of_names_are_kept_until_a_package_comes_or_goes(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        repository, built = local(node), 0

        async def parts() -> AsyncGenerator[bytes]:
            nonlocal built
            built += 1
            yield " ".join(await repository.packages()).encode()

        async def told() -> bytes:
            found = await repository.listed("names", parts)
            async with found.spans(0, None) as (file, spans):
                return b"".join([os.pread(file, count, at) async for at, count in spans])

        assert (await told(), built) == (b"", 1)
        await put(node, repository, "x", b"{}")
        assert (await told(), built) == (b"p", 2)
        await put(node, repository, "y", b"{}")
        write = node.core.ledger.append
        await write([Point(repository.key, "p", "latest", b"1")], actor="t")
        assert (await told(), built) == (b"p", 2)
        await write([Point(repository.key, "q", "latest", b"1")], actor="t")
        assert (await told(), built) == (b"p q", 3)
        await write([Delete(repository.key, each, ()) for each in "xy"], actor="t")
        assert (await told(), built) == (b"p q", 3)  # the pointer is left
        await write([Point(repository.key, "p", "latest", None)], actor="t")
        assert (await told(), built) == (b"q", 4)


async def test_the_list_of_projects_is_as_new_as_its_names(tmp_path: Path) -> None:
    async with world(tmp_path) as node:

        async def publish(project: str, version: str) -> None:
            file = File(f"{project}/{version}.whl", "dist", str(Digest.of(b"x")), 1)
            fact = Publish("pypi", project, version, (file,))
            await node.core.ledger.append([fact], actor="t")

        async def ask(**headers: str) -> Answer:
            return await node.ask("GET", "/pypi/pypi/simple/", headers=headers)

        json_form = "application/vnd.pypi.simple.v1+json"
        await publish("b", "1")
        first = await ask(accept=json_form)
        assert [each["name"] for each in json.loads(first.body)["projects"]] == ["b"]
        await publish("b", "2")
        tag = first.headers["etag"]
        same = await ask(accept=json_form, **{"if-none-match": tag})
        assert (same.status, same.body) == (304, b"")
        await publish("a", "1")
        changed = await ask(accept=json_form, **{"if-none-match": tag})
        assert [each["name"] for each in json.loads(changed.body)["projects"]] == ["a", "b"]
        page = await ask()
        assert page.body.index(b'"a/"') < page.body.index(b'"b/"') < page.body.index(b"</body>")
        assert page.headers["content-length"] == str(len(page.body))
