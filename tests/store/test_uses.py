"""Which files name a blob, and a walk over all that are named."""

from __future__ import annotations

from pathlib import Path

from store.digest import Digest
from store.facts import Delete, File, Publish
from tests.node.world import world


async def test_files_name_blobs_as_bytes_and_as_metadata(tmp_path: Path) -> None:
    async with world(tmp_path) as node:
        ledger, uses = node.core.ledger, node.core.placer.uses
        blob, metadata, gone = (str(Digest.of(each)) for each in (b"blob", b"metadata", b"gone"))
        files = (
            File("a", "file", blob, 4, manifest_id=b"i" * 32),
            File("b", "file", blob, 4, metadata_digest=metadata),
            File("c", "file", gone, 9),
        )
        await ledger.append([Publish("generic", "p", "1", files)], actor="t")
        found = await uses.of([blob, metadata, str(Digest.of(b"nobody"))])
        assert [use.path for use in found[blob]] == ["a", "b"]
        assert [use.manifest_id for use in found[blob]] == [b"i" * 32, b""]
        assert [(use.path, use.size) for use in found[metadata]] == [("b", 0)]
        assert found[str(Digest.of(b"nobody"))] == []
        assert await uses.named([("generic", "b"), ("generic", "z")]) == {blob, metadata}

        await ledger.append([Delete("generic", "c", ())], actor="t")
        assert await uses.named([("generic", "c")]) == {gone}
        assert (await uses.of([gone]))[gone] == []
        assert list(await uses.after("")) == [blob]
        assert list(await uses.after(blob)) == []
        assert list(await uses.after("", metadata=True)) == [metadata]
