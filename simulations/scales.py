"""How large histories are."""

from __future__ import annotations

from dataclasses import dataclass

KIB = 1024


@dataclass(frozen=True, slots=True)
class Scale:
    """How large a history is: most are small, since a small one shows nearly every bug sooner."""

    share: float
    core: tuple[int, ...]
    liars: tuple[int, ...]
    calm: tuple[float, ...]  # seconds of work and faults
    blobs: tuple[int, int]
    sizes: tuple[int, ...]
    records: tuple[int, int]
    faults: tuple[int, ...]
    bursts: float  # share of records that come with many more


SMALL = Scale(
    share=0.78,
    core=(2, 2, 3, 3),
    liars=(0, 0, 1),
    calm=(6.0, 12.0),
    blobs=(1, 2),
    sizes=(0, 900, 100 * KIB, 300 * KIB, 600 * KIB, -400 * KIB),
    records=(2, 8),
    faults=(0, 2, 4, 8),
    bursts=0.03,
)
MEDIUM = Scale(
    share=0.19,
    core=(2, 3, 3, 4, 4, 5),
    liars=(0, 0, 1, 1, 2),
    calm=(15.0, 30.0),
    blobs=(1, 4),
    sizes=(0, 900, 100 * KIB, 300 * KIB, 700 * KIB, 1500 * KIB, -400 * KIB),
    records=(6, 20),
    faults=(0, 4, 8, 16, 24),
    bursts=0.1,
)
LARGE = Scale(
    share=0.03,
    core=(8, 9, 10),
    liars=(0, 1),
    calm=(20.0, 40.0),
    blobs=(1, 3),
    sizes=(300 * KIB, 700 * KIB, 1500 * KIB, -400 * KIB),
    records=(8, 20),
    faults=(4, 8, 16),
    bursts=0.05,
)
SCALES = (SMALL, MEDIUM, LARGE)
