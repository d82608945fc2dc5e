"""Package formats, discovered: a module or folder here with a value named FORMAT is one."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from formats.contract import Format


@cache
def discover() -> tuple[Format, ...]:
    """Every format, in name order."""
    found = []
    for module in pkgutil.iter_modules(__path__):
        candidate = getattr(importlib.import_module(f"{__name__}.{module.name}"), "FORMAT", None)
        if isinstance(candidate, Format):
            found.append(candidate)
    return tuple(sorted(found, key=lambda each: each.name))
