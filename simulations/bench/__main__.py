"""``python -m simulations.bench registry``: our figures beside the peers', in one run."""

from __future__ import annotations

from pathlib import Path

import click

from simulations.bench import registry as registry_figures
from simulations.bench import summary
from simulations.bench.figures import Sizes, progress


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def bench() -> None:
    """Measure one node, or a mesh, beside what others use for the same work."""


@bench.command(epilog="Example: python -m simulations.bench registry R1 R6 --rounds 5")
@click.argument("figures", nargs=-1, type=click.Choice(list(registry_figures.ROUND)))
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(1, 100))
@click.option("--seconds", default=4.0, show_default=True, help="Of load, per small figure.")
@click.option("--large", default=1024, show_default=True, help="MiB of the large file.")
@click.option("--versions", default=60, show_default=True, help="Of the package that R1 lists.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write the raw samples.")
@click.option("--plots", type=click.Path(path_type=Path), help="Draw into this folder.")
def registry(
    figures: tuple[str, ...],
    rounds: int,
    seconds: float,
    large: int,
    versions: int,
    file: Path | None,
    plots: Path | None,
) -> None:
    """Measure R1, R2, R3, R6 beside devpi, pypiserver, Verdaccio, Docker's registry, nginx."""
    wanted = figures or tuple(registry_figures.ROUND)
    sizes = Sizes(seconds=seconds, large=large << 20, versions=versions)
    samples, servers, machine = registry_figures.run(wanted, rounds, sizes, progress)
    if file is not None:
        file.write_bytes(summary.document(samples, servers, machine))
    if plots is not None:
        registry_figures.draw(samples, plots, progress)
    click.echo(registry_figures.report(samples, servers))


if __name__ == "__main__":
    bench()
