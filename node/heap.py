"""What the C library keeps of memory that was freed: little, and none of it for long.

glibc gives each thread that finds the others busy an arena of its own, up to eight for each
processor, and what is freed in one serves nobody else.  A node has some fifteen threads, and the
pages of a long job (a verification, an index) are allocated in one arena and freed into another:
tens of megabytes stay behind.  Two arenas are enough under one interpreter lock, and what is free
in them goes back to the system between jobs.

Other C libraries (musl) do neither; there these calls do nothing.

Spec: mallopt(3), malloc_trim(3).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import lru_cache

M_ARENA_MAX = -8  # malloc.h
ARENAS_MAX = 2


def prepare() -> bool:
    """Bound the arenas; before the first thread starts.  Tell whether the library can."""
    limit = _function("mallopt")
    if limit is None or _function("malloc_trim") is None:  # musl has a mallopt that does nothing
        return False
    return bool(limit(M_ARENA_MAX, ARENAS_MAX))


def trim() -> bool:
    """Give what is free back to the system; tell whether there was any.

    It blocks for some milliseconds, without the interpreter lock: call it in a thread.
    """
    release = _function("malloc_trim")
    return release is not None and bool(release(0))


@lru_cache
def _function(name: str) -> Callable[..., int] | None:
    found: Callable[..., int] | None = getattr(ctypes.CDLL(None), name, None)
    return found
