"""A look at a few places, before a delta is made: is anything of the target in the basis at all?

Making one costs a second for each megabyte or two; this costs a few hundredths of that.

Spec: docs/delta.md.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable
from typing import BinaryIO

PROBES, PLACES = 64, 8  # short stretches of the target that are looked for, around so many places
PROBE = 16  # bytes of one
DISTINCT = 6  # different bytes that it has at least: zeros are everywhere
DRAWS = 4  # times that a better one is looked for
HITS = 2  # of PROBES: below that a delta would spare some 3 %
BLOCK = 64 << 10  # bytes looked at around a place
PACKED = 0.9  # of their size, below which bytes pack well enough by themselves

Window = Callable[[int, int, int, int], tuple[int, int]]  # ``store.delta.window``


def promising(basis: BinaryIO, target: BinaryIO, window: Window, *, packs: bool) -> bool:
    """Tell whether a delta is worth its making.

    ``packs``: it would also be one if the target has nothing of the basis, but is not packed yet.
    Holds a window.  The places are drawn by the target's size, so that two calls agree.
    """
    here, there = basis.seek(0, 2), target.seek(0, 2)
    if not there:
        return False
    rng, hits, small = random.Random(there), 0, 0  # noqa: S311  nothing secret
    stretch, held = b"", (-1, -1)
    for place in range(PLACES):
        at = place * there // PLACES
        target.seek(at)
        block = target.read(min(BLOCK, there - at))
        small += len(zlib.compress(block, 1)) < PACKED * len(block)
        wanted = window(at, len(block), here, there)
        if wanted != held:
            basis.seek(wanted[0])
            stretch, held = basis.read(wanted[1]), wanted
        hits += sum(probe(block, rng) in stretch for _ in range(PROBES // PLACES))
        if hits >= HITS:
            return True
    return packs and small * 2 >= PLACES


def probe(block: bytes, rng: random.Random) -> bytes:
    """Draw a short stretch of a block, if possible one that is not of a few bytes only."""
    found = b""
    for _ in range(DRAWS):
        at = rng.randrange(max(1, len(block) - PROBE))
        found = block[at : at + PROBE]
        if len(set(found)) >= DISTINCT:
            break
    return found
