"""The files that the tidy tests judge."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from cli.environment import ROOT

PRODUCT = ("store", "formats", "mesh", "node", "cli", "simulations")


@cache
def tracked() -> tuple[str, ...]:
    """List every file of the project, those about to be added too, relative to its root."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    names = listed.stdout.decode().split("\0")
    return tuple(sorted({name for name in names if name and (ROOT / name).is_file()}))


def product_modules() -> tuple[str, ...]:
    """List the product's Python files."""
    return tuple(n for n in tracked() if n.endswith(".py") and Path(n).parts[0] in PRODUCT)


@cache
def parsed(name: str) -> ast.Module:
    """Parse one file."""
    return ast.parse((ROOT / name).read_text("utf-8"), name)


def functions(name: str) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Walk one file's functions with their dotted names, inner ones after their outer one."""

    def walk(
        node: ast.AST, prefix: str
    ) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{prefix}{child.name}", child
                yield from walk(child, f"{prefix}{child.name}.")
            elif isinstance(child, ast.ClassDef):
                yield from walk(child, f"{prefix}{child.name}.")
            else:
                yield from walk(child, prefix)

    yield from walk(parsed(name), "")
