"""The least time that physics allows, and the arithmetic of figures.  Pure.

Spec: docs/benchmarks.md, "The bound".
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from simulations.lab.shaping import Outage, Scenario

HEADERS = 52  # bytes of IPv4 and TCP with time stamps, in every packet


def fluid_bound(
    size: int,
    scenario: Scenario,
    sources: Sequence[int] = (0,),
    receivers: Sequence[int] | None = None,
) -> float:
    """Return the least seconds in which every receiver has ``size`` bytes.

    max{F/u_s, F/d_min, NF/(u_s + Σu_i)}: the sources send everything once, each receiver takes
    everything, and all uplinks together send everything to each.  Headers are not counted, so that
    nothing over TCP reaches more than 96.5 % of it.
    """
    targets = others(scenario.count, sources) if receivers is None else receivers
    from_sources = sum(scenario.up[each] for each in sources)
    slowest = min(scenario.down[each] for each in targets)
    uplinks = from_sources + sum(scenario.up[each] for each in targets)
    return max(size / from_sources, size / slowest, len(targets) * size / uplinks)


def others(count: int, sources: Sequence[int]) -> tuple[int, ...]:
    """Return the nodes that are not sources."""
    return tuple(node for node in range(count) if node not in sources)


def payload_share(mtu: int) -> float:
    """Return the share of a full packet that is payload."""
    return (mtu - HEADERS) / mtu


def time_up(until: float, outages: Sequence[Outage]) -> float:
    """Return how long the link was up before ``until``, given outages that do not overlap."""
    down = sum(max(0.0, min(until, each.at + each.length) - each.at) for each in outages)
    return until - down


def finish(work: float, outages: Sequence[Outage]) -> float:
    """Return when ``work`` seconds of link have passed: the bound of a link with outages."""
    now = 0.0
    for each in sorted(outages, key=lambda outage: outage.at):
        if now + work <= each.at:
            return now + work
        work -= max(0.0, each.at - now)
        now = each.at + each.length
    return now + work


def lags(timeline: Sequence[tuple[float, float]], outages: Sequence[Outage]) -> list[float]:
    """Return for each outage how long after its end the first payload came.

    ``timeline`` is (seconds, payload bytes so far).  What was sent before the outage and is still
    under way when it ends does not exist here: the hub has dropped it.  An outage during or before
    which everything was done says nothing and is left out.
    """
    found: list[float] = []
    last = timeline[-1][1] if timeline else 0.0
    for outage in outages:
        end = outage.at + outage.length
        before = [amount for at, amount in timeline if at <= end]
        if not before or before[-1] >= last:
            continue
        mark = before[-1] + MOVING
        moving = [at for at, amount in timeline if at > end and amount >= min(mark, last)]
        if moving:
            found.append(moving[0] - end)
    return found


MOVING = 16_384  # bytes: more than greetings; the payload moves again


def middle(values: Sequence[float]) -> float:
    """Return the median; NaN of nothing."""
    return statistics.median(values) if values else float("nan")


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that ``share`` of all do not exceed; NaN of nothing."""
    if not values:
        return float("nan")
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def mathis(rtt: float, loss: float, mtu: int = 1500) -> float:
    """Return the bytes per second that Reno reaches at a loss rate (Mathis et al., 1997)."""
    return 1.22 * (mtu - HEADERS) / (rtt * float(loss**0.5))
