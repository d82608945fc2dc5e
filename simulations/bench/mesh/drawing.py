"""A picture for each experiment: every system's figure in every case, with its range."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from simulations.bench import install
from simulations.bench.mesh.model import Experiment
from simulations.bench.mesh.report import METRICS, cells
from simulations.bench.mesh.runner import Ledger

MATPLOTLIB = ("matplotlib==3.11.2",)


def data(ledger: Ledger, experiments: Mapping[str, Experiment]) -> list[dict[str, Any]]:
    """Return what the pictures show: bars by case and system, and the target's line."""
    pictures = []
    for key, experiment in experiments.items():
        found = cells(ledger.runs, key)
        metric = experiment.target.metric if experiment.target else (*experiment.metrics, "")[0]
        shown = [cell for cell in found if metric in cell.middles]
        if not shown:
            continue
        name, scale, _ = METRICS[metric]
        target = experiment.target.limit * scale if experiment.target else None
        bars = [
            {
                "case": cell.case,
                "system": cell.system,
                "middle": cell.middles[metric] * scale,
                "lowest": cell.lowest[metric] * scale,
                "highest": cell.highest[metric] * scale,
            }
            for cell in shown
        ]
        title = f"{key}: {experiment.title}"
        pictures.append(
            {"key": key, "title": title, "metric": name, "target": target, "bars": bars}
        )
    return pictures


def draw(
    ledger: Ledger,
    experiments: Mapping[str, Experiment],
    folder: Path,
    note: Callable[[str], None],
) -> None:
    """Draw into a folder, with a matplotlib below the cache; or say why not."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "pictures.json"
    file.write_text(json.dumps(data(ledger, experiments)), "utf-8")
    try:
        python = install.python("plots", MATPLOTLIB) / "python"
    except install.PeerMissingError as error:
        note(f"no plots: {error}")
        return
    script = Path(__file__).with_name("picture.py")
    subprocess.run([str(python), str(script), str(file), str(folder)], check=True, timeout=300)
    file.unlink()
    note(f"plots are in {folder}")
