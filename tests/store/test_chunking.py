from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store.chunking import (
    CHUNK_MAX,
    ENGINE,
    FAR,
    FAR_OFFSET,
    GEAR,
    KIB,
    NEAR,
    WHOLE_MAX,
    Cutter,
    Engine,
    pyfastcdc_cuts,
    python_cuts,
    sizes_at,
)

ENGINES = [pytest.param(pyfastcdc_cuts, id="pyfastcdc"), pytest.param(python_cuts, id="python")]
DATA = hashlib.shake_128(b"golden vector").digest(3 << 20)

# Frozen: these are what version 1 of the wire format means.  A change needs a new CDC_VERSION.
GOLDEN_NEAR = [
    71803,
    76938,
    51250,
    65074,
    99056,
    132205,
    34147,
    67905,
    51285,
    95973,
    70884,
    86659,
    65704,
    79693,
]
GOLDEN_FAR = [
    71803,
    76938,
    51250,
    65074,
    99056,
    285542,
    319220,
    163560,
    613894,
    83030,
    477358,
    460865,
    226326,
    151812,
]
GOLDEN_ZEROS = [262144, 262144, 90113]


def cuts(
    data: bytes, engine: Engine = ENGINE, *, offset: int = 0, step: int = 1 << 20
) -> list[int]:
    cutter = Cutter(engine)
    cutter._offset = offset
    lengths = []
    for start in range(0, len(data), step):
        lengths += cutter.feed(data[start : start + step])
    return lengths + cutter.finish()


def test_the_gear_table_is_frozen() -> None:
    packed = b"".join(value.to_bytes(8, "big") for value in GEAR)
    assert (
        hashlib.sha256(packed).hexdigest()
        == "9df0a720752a7d211fdebaf39bed01610983756fc340a1cfef41052b7356ae73"
    )


@pytest.mark.parametrize("engine", ENGINES)
def test_golden_vector_near_the_start(engine: Engine) -> None:
    assert cuts(DATA[: 1 << 20], engine) == GOLDEN_NEAR


@pytest.mark.parametrize("engine", ENGINES)
def test_golden_vector_beyond_the_first_gibibyte(engine: Engine) -> None:
    """Begins 300,000 bytes before it, so the sizes change on the way."""
    assert cuts(DATA, engine, offset=FAR_OFFSET - 300_000) == GOLDEN_FAR


@pytest.mark.parametrize("engine", ENGINES)
def test_golden_vector_of_zeros(engine: Engine) -> None:
    assert cuts(bytes(600 * KIB + 1), engine) == GOLDEN_ZEROS


@pytest.mark.parametrize("size", [0, 1, 16 * KIB, WHOLE_MAX - 1, WHOLE_MAX])
def test_a_small_blob_stays_whole(size: int) -> None:
    assert cuts(DATA[:size]) == ([size] if size else [])
    assert cuts(DATA[:size], step=7001) == ([size] if size else [])


@pytest.mark.parametrize("extra", range(1, 6))
def test_engines_agree_on_odd_tails(extra: int) -> None:
    """The paired loop of the original never looks at an odd last byte."""
    for size in (WHOLE_MAX, 300_000, 65_536 * 5 + 16_384):
        data = DATA[: size + extra]
        assert cuts(data, pyfastcdc_cuts) == cuts(data, python_cuts)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), size=st.integers(0, 900_000), alphabet=st.sampled_from([2, 256]))
def test_engines_agree(seed: int, size: int, alphabet: int) -> None:
    noise = hashlib.shake_128(seed.to_bytes(8, "big")).digest(size)
    data = noise if alphabet == 256 else bytes(byte & 1 for byte in noise)
    lengths = cuts(data, pyfastcdc_cuts)
    assert cuts(data, python_cuts) == lengths
    assert sum(lengths) == size


@settings(max_examples=40, deadline=None)
@given(splits=st.lists(st.integers(0, len(DATA)), max_size=20), far=st.booleans())
def test_cuts_do_not_depend_on_the_split(splits: list[int], far: bool) -> None:
    offset = FAR_OFFSET - 500_000 if far else 0
    cutter = Cutter()
    cutter._offset = offset
    lengths, start = [], 0
    for stop in [*sorted(splits), len(DATA)]:
        lengths += cutter.feed(memoryview(DATA)[start:stop])
        assert len(cutter._held) <= CHUNK_MAX
        assert cutter.size == offset + stop
        start = stop
    assert lengths + cutter.finish() == cuts(DATA, offset=offset)


@pytest.mark.parametrize(("offset", "sizes"), [(0, NEAR), (FAR_OFFSET + 5, FAR)])
def test_every_length_keeps_the_bounds(offset: int, sizes: object) -> None:
    assert sizes_at(offset) is sizes
    lengths = cuts(DATA, offset=offset)
    assert all(sizes_at(offset).min <= one <= sizes_at(offset).max for one in lengths[:-1])
    assert sum(lengths) == len(DATA)


def test_an_inserted_byte_changes_few_chunks() -> None:
    before, after = set(), set()
    for data, found in ((DATA, before), (DATA[:1_000_000] + b"!" + DATA[1_000_000:], after)):
        start = 0
        for length in cuts(data):
            found.add(data[start : start + length])
            start += length
    assert len(after - before) <= 2
