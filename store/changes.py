"""What a commit changed, as its observers hear of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from store.fold import FILE, FLAG, POINTER, SETTING
from store.projection import Touched


@dataclass(frozen=True, slots=True)
class Change:
    """What a commit changed in one repository, or in the settings.

    ``hlc`` is the newest ledger time among the facts that changed something.  ``packages`` are
    (repository, package), ``settings`` are (kind, key), ``counts`` are cells by their kind's name.
    """

    packages: Sequence[tuple[str, str]]
    settings: Sequence[tuple[str, str]]
    counts: Mapping[str, int]
    hlc: int
    touched: Sequence[Touched]


NAMES = {FILE: "file", POINTER: "pointer", FLAG: "flag", SETTING: "setting"}


def changes(touched: Sequence[Touched]) -> list[Change]:
    """Sort touched cells by repository."""
    groups: dict[str, list[Touched]] = {}
    for cell in touched:
        groups.setdefault("" if cell.kind == SETTING else cell.repository, []).append(cell)
    return [
        Change(
            packages=sorted({(c.repository, c.package) for c in group if c.kind != SETTING}),
            settings=sorted({(c.repository, c.name) for c in group if c.kind == SETTING}),
            counts=Counter(NAMES[cell.kind] for cell in group),
            hlc=max(cell.hlc for cell in group),
            touched=group,
        )
        for _, group in sorted(groups.items())
    ]
