"""What a courier thinks that members lack: what is placed on them, can be had, and is not there."""

from __future__ import annotations

import hashlib
from pathlib import Path

from mesh.couriers import Cargo
from mesh.placement import Placement
from node.placement.guessing import Guesses, facts
from store import schema
from store.database import open_database
from store.holders import Holders
from store.uses import FileUse

K, A, C, D = ("aa" * 32, "bb" * 32, "cc" * 32, "dd" * 32)
BLOBS = [hashlib.sha256(b"%d" % index).digest() for index in range(6)]


class Catalog:
    """Names every blob; all belong to C and D."""

    async def after(self, last: str, *, metadata: bool = False) -> list[str]:
        ordered = sorted(f"sha256:{blob.hex()}" for blob in BLOBS)
        return [each for each in ordered if each > last][:4]

    async def of(self, digests: list[str]) -> dict[str, list[FileUse]]:
        return {each: [FileUse("generic", "p", "x", 7, 0.0, b"m" * 32, b"r")] for each in digests}

    def place(self, blob: bytes, uses: object, *, now: float, reads: int = 0) -> Placement:
        return Placement(frozenset({C, D, K}), "all")


async def test_only_what_can_be_had_and_is_not_there_is_thought_of(tmp_path: Path) -> None:
    async with open_database(f"sqlite+aiosqlite:///{tmp_path}/l.db", schema.local) as local:
        holders, catalog, cargo = Holders(local), Catalog(), Cargo(bytes.fromhex(K), 1 << 30)
        await holders.change(A, [blob[:5] for blob in BLOBS[:4]], [])
        await holders.change(C, [BLOBS[0][:5]], [])
        guesses = Guesses(K, cargo, catalog, holders, catalog)  # type: ignore[arg-type]  # a fake of it
        cargo.carried[BLOBS[5]] = 7
        await guesses.look(frozenset({A}))
        c, d = (set(cargo.wishes.get(bytes.fromhex(node), ())) for node in (C, D))
        assert c == {*BLOBS[1:4], BLOBS[5]}  # of the fifth, nobody here knows a holder
        assert d == {*BLOBS[:4], BLOBS[5]}
        await guesses.look(frozenset({A, D}))  # who is linked speaks for itself
        assert set(cargo.wishes[bytes.fromhex(D)]) == d
        await holders.change(C, [blob[:5] for blob in BLOBS], [])
        await guesses.look(frozenset({A}))
        assert bytes.fromhex(C) not in cargo.wishes


def test_facts_are_those_of_the_records() -> None:
    assert facts([]) == (0, b"")
    metadata = FileUse("r", "p", "x", 0, 0.0, b"", b"1")
    content = FileUse("r", "p", "x", 9, 0.0, b"m" * 32, b"2")
    assert facts([metadata, content]) == (9, b"m" * 32)
