"""Formats and mesh cores open no file: import contracts cannot see a builtin."""

from __future__ import annotations

import ast
from fnmatch import fnmatch

from tests.tidy.tree import parsed, product_modules

PURE = ("formats/*", "mesh/*")
SHELLS = (
    "mesh/carriers/*",
    "mesh/shell/*",
    "mesh/carrier.py",
    "mesh/service.py",
    "mesh/*_service.py",
    "mesh/discovery.py",
)


def test_pure_modules_open_nothing() -> None:
    found = [
        f"{name}:{node.lineno}"
        for name in product_modules()
        if any(fnmatch(name, each) for each in PURE)
        and not any(fnmatch(name, each) for each in SHELLS)
        for node in ast.walk(parsed(name))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "open"
    ]
    assert found == []
