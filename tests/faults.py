"""No test passes while a task that served one peer has failed: the boundary would hide it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager

from mesh.shell.faults import FAULTS


@contextmanager
def no_faults() -> Generator[None]:
    """Check at the end of the block that no fault was counted in it."""
    before = FAULTS.counts.copy()
    yield
    new = FAULTS.counts - before
    if new:
        raise AssertionError(f"faults while serving a peer: {dict(new)}") from FAULTS.last


@contextmanager
def expected_faults(*tasks: str, or_more: bool = False) -> Generator[None]:
    """Check that the block brings faults of just these tasks, and forget them."""
    before = FAULTS.counts.copy()
    try:
        yield
        new, wanted = FAULTS.counts - before, Counter(tasks)
        assert new == wanted or (or_more and new > wanted and new.keys() == wanted.keys())
    finally:
        FAULTS.counts.clear()
        FAULTS.counts.update(before)
