"""Which threads run, but for those that trio keeps for whoever needs one next."""

from __future__ import annotations

import threading


def threads() -> set[threading.Thread]:
    """Return them.  Trio ends a worker after ten idle seconds, whatever test that falls in."""
    return {each for each in threading.enumerate() if not each.name.startswith("Trio thread")}
