"""Run `atoll` from a checkout: `python3 -m cli up --data DIR` works in a clean clone."""

from __future__ import annotations

from cli import environment


def run() -> None:
    """Enter the environment of the pinned libraries, then run the command line."""
    environment.keep_bytecode()
    environment.enter(environment.RUNTIME, "cli")
    from cli.main import main  # only here do the libraries exist

    main()


if __name__ == "__main__":
    run()
