"""``python -m simulations.bench registry|mesh|…``: our figures beside the peers', in one run."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path

import click
import msgspec

from simulations.bench import registry as registry_figures
from simulations.bench import summary
from simulations.bench.figures import QUICK, Sizes, progress
from simulations.bench.mesh import drawing, runner
from simulations.bench.mesh import idle as idling
from simulations.bench.mesh import soak as soaking
from simulations.bench.mesh.catalog import EXPERIMENTS
from simulations.bench.mesh.model import Options
from simulations.bench.mesh.report import report as mesh_report
from simulations.lab.namespaces import why_not


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def bench() -> None:
    """Measure one node, or a mesh, beside what others use for the same work."""
    signal.signal(signal.SIGTERM, _terminated)


def _terminated(number: int, _frame: object) -> None:
    """Leave as after an interrupt, so that programs, namespaces and folders go, too."""
    raise SystemExit(128 + number)


def needs_root() -> None:
    """Refuse where no namespaces can be made.  Raises click.ClickException."""
    if reason := why_not():
        raise click.ClickException(reason)


@bench.command(epilog="Example: python -m simulations.bench registry R1 R6 --rounds 5")
@click.argument("figures", nargs=-1, type=click.Choice(list(registry_figures.ROUND)))
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(1, 100))
@click.option("--seconds", default=4.0, show_default=True, help="Of load, per small figure.")
@click.option("--large", default=1024, show_default=True, help="MiB of the large file.")
@click.option("--versions", default=60, show_default=True, help="Of the package that R1 lists.")
@click.option("--clients", default=200, show_default=True, help="Of R8, at once.")
@click.option("--uploads", type=click.IntRange(1, 1000), help="Of each size of R7, at once.")
@click.option("--growth", default=1_000_000, show_default=True, help="Versions R5 ends with.")
@click.option("--quick", is_flag=True, help="Small sizes, to see that everything works.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write the raw samples.")
@click.option("--plots", type=click.Path(path_type=Path), help="Draw into this folder.")
def registry(
    figures: tuple[str, ...],
    rounds: int,
    seconds: float,
    large: int,
    versions: int,
    clients: int,
    uploads: int | None,
    growth: int,
    quick: bool,  # noqa: FBT001  a flag of the command
    file: Path | None,
    plots: Path | None,
) -> None:
    """Measure R1 to R8 beside devpi, pypiserver, Verdaccio, Docker's registry, nginx."""
    wanted = figures or tuple(registry_figures.ROUND)
    asked = Sizes(seconds=seconds, large=large << 20, versions=versions, clients=clients)
    sizes = QUICK if quick else asked
    sizes = replace(sizes, growth=tuple(each for each in sizes.growth if each <= growth))
    if uploads is not None:
        counted = tuple((size, uploads) for size, _ in sizes.uploads)
        sizes = replace(sizes, uploads=counted)
    samples, servers, machine = registry_figures.run(wanted, rounds, sizes, progress)
    if file is not None:
        file.write_bytes(summary.document(samples, servers, machine))
    if plots is not None:
        registry_figures.draw(samples, plots, progress)
    click.echo(registry_figures.report(samples, servers))


@bench.command(epilog="Example: python -m simulations.bench mesh B1 B7 --rounds 5 --json raw.json")
@click.argument("experiments", nargs=-1, type=click.Choice(list(EXPERIMENTS)))
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(1, 100))
@click.option("--system", "systems", multiple=True, help="Only these; may be given again.")
@click.option("--case", "cases", multiple=True, help="Only where this is part of the name.")
@click.option("--mib", multiple=True, type=int, help="Other sizes than the experiment's own.")
@click.option("--congestion", default="bbr", show_default=True, help="TCP's, pinned by route.")
@click.option("--again", default=1, show_default=True, help="Times a noisy run is repeated.")
@click.option("--quick", is_flag=True, help="A small case, to see that everything works.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Raw records; continued.")
@click.option("--plot", type=click.Path(path_type=Path), help="Draw into this folder.")
def mesh(
    experiments: tuple[str, ...],
    rounds: int,
    systems: tuple[str, ...],
    cases: tuple[str, ...],
    mib: tuple[int, ...],
    congestion: str,
    again: int,
    quick: bool,  # noqa: FBT001  a flag of the command
    file: Path | None,
    plot: Path | None,
) -> None:
    """Measure B1 to B19: real nodes in network namespaces, beside their peers.  Needs root."""
    needs_root()
    options = Options(tuple(each << 20 for each in mib), congestion, systems, quick, again, cases)
    found = runner.run(experiments or tuple(EXPERIMENTS), rounds, options, progress, file)
    if plot is not None:
        drawing.draw(found, EXPERIMENTS, plot, progress)
    click.echo(mesh_report(found.runs, EXPERIMENTS, found.missing))


@bench.command(epilog="Example: python -m simulations.bench soak --minutes 20 --json soak.json")
@click.option("--minutes", default=20.0, show_default=True)
@click.option(
    "--warm",
    default=soaking.WARM,
    show_default=True,
    type=click.IntRange(0, 100_000),
    help="Small files that are published before.",
)
@click.option("--json", "file", type=click.Path(path_type=Path), help="Everything that was seen.")
def soak(minutes: float, warm: int, file: Path | None) -> None:
    """Let real nodes work over flapping links, and see whether anything grows.  Needs root."""
    needs_root()
    found = soaking.run(minutes, progress, warm=warm)
    if file is not None:
        file.write_bytes(msgspec.json.format(msgspec.json.encode(found)))
    click.echo(soaking.report(found.verdicts))
    click.echo("flat" if found.flat else "NOT FLAT")
    if not found.flat:
        raise SystemExit(1)


@bench.command(epilog="Example: python -m simulations.bench idle --peers 16 --seconds 60")
@click.option("--peers", default=16, show_default=True, type=click.IntRange(1, 100))
@click.option("--seconds", default=60.0, show_default=True)
@click.option("--json", "file", type=click.Path(path_type=Path), help="What was seen.")
def idle(peers: int, seconds: float, file: Path | None) -> None:
    """See what a mesh costs when nothing happens.  Needs root."""
    needs_root()
    found = idling.run(peers, seconds, progress)
    if file is not None:
        file.write_bytes(msgspec.json.format(msgspec.json.encode(found)))
    click.echo(str(found))


if __name__ == "__main__":
    bench()
