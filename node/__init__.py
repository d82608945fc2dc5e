"""The node: what serves packages over HTTP, keeps accounts, and runs the mesh."""

from __future__ import annotations

import sys

if "structlog" not in sys.modules and "rich" not in sys.modules:
    # structlog imports rich where it finds it, to colour tracebacks; ours are plain text before it
    # sees them (node.logs).  That is a twentieth of a start, so it does not find it.
    sys.modules["rich"] = None  # type: ignore[assignment]  # what is not there is not imported
    try:
        import structlog  # noqa: F401  imported for what it does without rich
    finally:
        del sys.modules["rich"]
