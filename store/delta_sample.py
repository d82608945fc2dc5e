"""A look at many places, before a delta is made: is anything of the target in the basis at all?

Making one costs a second for each megabyte or two; this costs a thirtieth of that.

Spec: docs/delta.md.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable
from typing import BinaryIO

PROBES = 128  # short stretches all over the target that are looked for
PROBE = 16  # bytes of one
DISTINCT = 6  # different bytes that it has at least: zeros are everywhere
DRAWS = 4  # times that a better one is looked for
HITS = 2  # of PROBES: below that a delta would spare some 2 %
PLACES = 8  # at which it is looked whether bytes pack
BLOCK = 64 << 10  # bytes of one
PACKED = 0.9  # of their size, below which bytes pack well enough by themselves

Window = Callable[[int, int, int, int], tuple[int, int]]  # ``store.delta.window``


def promising(
    basis: BinaryIO, target: BinaryIO, window: Window, frame: int, *, packs: bool
) -> bool:
    """Tell whether a delta of frames of ``frame`` bytes is worth its making.

    ``packs``: it would also be one if the target has nothing of the basis, but is not packed yet.
    Holds a window.  The places are drawn by the target's size, so that two calls agree.
    """
    here, there = basis.seek(0, 2), target.seek(0, 2)
    rng, hits = random.Random(there), 0  # noqa: S311  nothing secret
    stretch, held = b"", (-1, -1)
    for number in range(PROBES if there >= PROBE else 0):
        at, probe = draw(target, number * there // PROBES, max(PROBE, there // PROBES), rng)
        start = at // frame * frame
        wanted = window(start, min(frame, there - start), here, there)
        if wanted != held:
            basis.seek(wanted[0])
            stretch, held = basis.read(wanted[1]), wanted
        hits += bool(probe) and probe in stretch
        if hits >= HITS:
            return True
    return packs and pack_well(target, there)


def draw(target: BinaryIO, start: int, length: int, rng: random.Random) -> tuple[int, bytes]:
    """Draw a short stretch, and where it is; nothing if it is of a few bytes only."""
    for _ in range(DRAWS):
        at = start + rng.randrange(max(1, length - PROBE))
        target.seek(at)
        found = target.read(PROBE)
        if len(set(found)) >= DISTINCT:
            return at, found
    return start, b""


def pack_well(target: BinaryIO, size: int) -> bool:
    """Tell whether bytes pack by themselves, in half of the places."""
    small = 0
    for place in range(PLACES):
        target.seek(place * size // PLACES)
        block = target.read(BLOCK)
        small += len(zlib.compress(block, 1)) < PACKED * len(block)
    return small * 2 >= PLACES
