"""Make the deltas of one blob from another, in a process that gives way to everything else.

    python -m store.delta_maker BASIS-DIGEST BASIS TARGET-DIGEST TARGET STEM LIMIT

Writes STEM.0 and STEM.1, one of each form, as far as they are of use: of LIMIT bytes at most, and
what takes more work much smaller than what takes less.
"""

from __future__ import annotations

import os
import resource
import sys
from contextlib import closing, suppress
from pathlib import Path

from store import delta
from store.delta_forms import Plain, Unpacked
from store.digest import Digest

GAIN = 0.9  # of the plain one, that an unpacked one may have at most
NICE = 19
MEMORY_MAX = 1 << 30  # bytes of address space


def main(arguments: list[str]) -> int:
    """Do it; return the exit status."""
    basis_name, basis, target_name, target, stem, limit = arguments
    with suppress(OSError):
        os.nice(NICE)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_MAX, MEMORY_MAX))
    most = int(limit)
    with Path(basis).open("rb") as old, Path(target).open("rb") as new:
        for form in (Plain(), Unpacked(folder=Path(stem).parent)):
            file = Path(f"{stem}.{form.number}")
            with closing(form), file.open("wb") as out:
                size = delta.make(
                    (Digest.parse(basis_name), old),
                    (Digest.parse(target_name), new),
                    out.write,
                    limit=most,
                    form=form,
                )
            if size is None:
                file.unlink()
            else:
                most = int(size * GAIN)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
