"""Make a failing history smaller: drop steps for as long as it still fails in the same way."""

from __future__ import annotations

import time
from collections.abc import Callable

from simulations.plan import Plan, Step

Fails = Callable[[Plan], str]  # plays a plan; what went wrong, or ""


def kind_of(failure: str) -> str:
    """Return a failure without what differs between two plays of one fault: names and numbers."""
    words = (word for word in failure.split() if not any(c.isdigit() for c in word))
    return " ".join(words)


def shrink(plan: Plan, failure: str, fails: Fails, *, seconds: float = 120.0) -> Plan:
    """Return a smaller plan with a failure of the same kind; stop after ``seconds``.

    Drops halves first, then quarters, down to single steps.
    """
    deadline, wanted = time.monotonic() + seconds, kind_of(failure)
    size = max(1, len(plan.steps) // 2)
    while size and time.monotonic() < deadline:
        smaller = _pass(plan, size, wanted, fails, deadline)
        if len(smaller.steps) == len(plan.steps):
            size //= 2
        plan = smaller
    return plan


def _pass(plan: Plan, size: int, wanted: str, fails: Fails, deadline: float) -> Plan:
    """Try to drop each group of ``size`` steps, the last ones first."""
    for start in range(len(plan.steps) - size, -size, -size):
        group: set[Step] = set(plan.steps[max(0, start) : start + size])
        if not group or time.monotonic() > deadline:
            continue
        candidate = plan.without(group)
        if kind_of(fails(candidate)) == wanted:
            plan = candidate
    return plan
