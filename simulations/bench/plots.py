"""One picture a figure: each round's ratio of our figure to the peer's."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from simulations.bench.summary import METRICS, Row


def draw(found: Sequence[Row], folder: Path) -> list[Path]:
    """Draw the ratios, if matplotlib is here; return the files, none without it."""
    try:
        pyplot: Any = importlib.import_module("matplotlib.pyplot")
    except ImportError:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    made: list[Path] = []
    for figure in sorted({row.figure for row in found}):
        mine = [row for row in found if row.figure == figure]
        labels = [f"{row.case} · {METRICS[row.metric][0]} · {row.peer}" for row in mine]
        middles = [row.ratio for row in mine]
        errors = [
            [row.ratio - row.lowest for row in mine],
            [row.highest - row.ratio for row in mine],
        ]
        drawing, axes = pyplot.subplots(figsize=(9, 1 + 0.3 * len(mine)))
        axes.errorbar(middles, range(len(mine)), xerr=errors, fmt="o")
        axes.axvline(1.0, linestyle=":")
        axes.set_xscale("log")
        axes.set_yticks(range(len(mine)), labels)
        axes.set_xlabel("ours / theirs (median and range)")
        axes.set_title(figure)
        file = folder / f"{figure.lower()}.png"
        drawing.savefig(file, bbox_inches="tight")
        pyplot.close(drawing)
        made.append(file)
    return made
