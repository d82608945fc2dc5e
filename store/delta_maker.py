"""Make the deltas of one blob from another, in a process that gives way to everything else.

    python -m store.delta_maker BASIS-DIGEST BASIS TARGET-DIGEST TARGET STEM LIMIT ROOM

Writes STEM.0 and STEM.1, one of each form, as far as they are of use: of LIMIT bytes at most, and
what takes more work much smaller than what takes less.  Temporary files take ROOM bytes each at
most.  What the disk has otherwise than it should be gets none: whoever applied it would take it for
a lie; then it ends with 1.
"""

from __future__ import annotations

import hashlib
import os
import resource
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import BinaryIO

from store import delta
from store.delta_forms import PLAIN, UNPACKED, Form, Plain, Unpacked
from store.digest import Digest
from store.errors import StoreFullError

Known = tuple[Digest, BinaryIO]

GAIN = 0.9  # of the plain one, that an unpacked one may have at most
NICE = 19
MEMORY_MAX = 1 << 30  # bytes of address space
CPU_MAX = 60  # seconds, for both forms
SHARE_MAX = 27.0  # of them, that one form may take: some 30 MB of what packs worst
SURE = 5.0  # seconds after which it can be told from what is done how long the rest takes
BLOCK = 1 << 20  # bytes hashed at a time


def main(arguments: list[str]) -> int:
    """Do it; return the exit status."""
    basis_name, basis, target_name, target, stem, limit, room = arguments
    with suppress(OSError):
        os.nice(NICE)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_MAX, MEMORY_MAX))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_MAX, CPU_MAX + 5))
    with Path(basis).open("rb") as old, Path(target).open("rb") as new:
        pair = (Digest.parse(basis_name), old), (Digest.parse(target_name), new)
        right = all(digest_of(file) == digest for digest, file in pair)
        if right:
            make(pair, Path(stem), int(limit), int(room))
    return 0 if right else 1


def make(pair: tuple[Known, Known], stem: Path, most: int, room: int) -> None:
    """Write those of ``most`` bytes at most that are of use."""
    for kind in (PLAIN, UNPACKED):
        watch = Watch()
        unpacked = Unpacked(folder=stem.parent, room=room, beat=watch.beat)
        form: Form = Plain() if kind == PLAIN else unpacked
        file = Path(f"{stem}.{form.number}")
        with closing(form), file.open("wb") as out:
            try:
                size = delta.make(
                    *pair, out.write, limit=most, form=form, sample=True, beat=watch.beat
                )
            except (StoreFullError, TooLongError):
                size = None
        if size is None:
            file.unlink()
        else:
            most = int(size * GAIN)


class TooLongError(Exception):
    """A form costs more of a core than it may."""


class Watch:
    """Stops a form that has taken its share of the time, or as soon as it is seen that it will."""

    def __init__(self, now: Callable[[], float] = time.process_time) -> None:
        self._now, self._begun = now, now()

    def beat(self, done: float = 1.0) -> None:
        """``done`` of the frames, 0 to 1, are made.  Raises TooLongError."""
        taken = self._now() - self._begun
        if taken > SHARE_MAX or (taken > SURE and taken > SHARE_MAX * done):
            raise TooLongError


def digest_of(file: BinaryIO) -> Digest:
    """Return what a file's name should be."""
    hashed = hashlib.sha256()
    file.seek(0)
    while block := file.read(BLOCK):
        hashed.update(block)
    return Digest.sha256(hashed.digest())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
