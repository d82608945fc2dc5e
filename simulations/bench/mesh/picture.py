"""Draw bars with matplotlib, run by the Python that has it: ``picture.py DATA.json FOLDER``."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any


def main() -> None:
    """Draw every picture of the file."""
    pictures: list[dict[str, Any]] = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    matplotlib: Any = importlib.import_module("matplotlib")
    matplotlib.use("Agg")
    pyplot: Any = importlib.import_module("matplotlib.pyplot")
    for picture in pictures:
        draw(pyplot, picture, Path(sys.argv[2]) / f"{picture['key'].lower()}.png")


def draw(pyplot: Any, picture: dict[str, Any], file: Path) -> None:
    """Draw one: bars by case, the target as a line."""
    bars = picture["bars"]
    systems = list(dict.fromkeys(bar["system"] for bar in bars))
    labels = [f"{bar['case']} · {bar['system']}" for bar in bars]
    drawing, axes = pyplot.subplots(figsize=(9, 1.2 + 0.28 * len(bars)))
    places = range(len(bars))[::-1]
    errors = [
        [bar["middle"] - bar["lowest"] for bar in bars],
        [bar["highest"] - bar["middle"] for bar in bars],
    ]
    colours = [f"C{systems.index(bar['system']) % 10}" for bar in bars]
    axes.barh(places, [bar["middle"] for bar in bars], xerr=errors, color=colours, capsize=2)
    axes.set_yticks(places, labels, fontsize=8)
    if picture["target"] is not None:
        axes.axvline(picture["target"], linestyle="--", color="black", label="target")
        axes.legend(loc="lower right")
    axes.set_xlabel(f"{picture['metric']} (median and range)")
    axes.set_title(picture["title"], fontsize=10)
    drawing.savefig(file, bbox_inches="tight", dpi=110)
    pyplot.close(drawing)


if __name__ == "__main__":
    main()
