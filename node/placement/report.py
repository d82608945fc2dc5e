"""How far a node is from its target, by rule.  Pure."""

from __future__ import annotations

import msgspec

from store.inventory import CACHED, HELD, OTHER, SURPLUS, WANTED, Tally

RULES_MAX = 64  # rules told apart in what members tell each other; the rest is one line
REST = "(others)"


class Amount(msgspec.Struct, array_like=True):
    """Blobs and bytes.  Blobs whose size is not known yet count no bytes."""

    blobs: int = 0
    bytes: int = 0

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.blobs + other.blobs, self.bytes + other.bytes)


class RuleDistance(msgspec.Struct):
    """One rule on one node.  What is missing is ``wanted`` less ``held``."""

    rule: str
    wanted: Amount
    held: Amount
    missing: Amount
    surplus: Amount


class Distance(msgspec.Struct):
    """One node.  ``eta`` is in seconds, None when nothing is missing or nothing moves."""

    rules: list[RuleDistance]
    cached: Amount
    other: Amount
    missing: Amount
    eta: float | None
    speed: float  # bytes per second of repair, of late
    at: float  # seconds since 1970


def distance(tally: Tally, *, speed: float, now: float) -> Distance:
    """Say how far a node is from its target."""

    def amount(rule: str, kind: str) -> Amount:
        return Amount(tally.blobs[rule, kind], tally.bytes[rule, kind])

    names = sorted({rule for (rule, kind), n in tally.blobs.items() if n and rule})
    rules: list[RuleDistance] = []
    missing = Amount()
    for name in names:
        wanted, held = amount(name, WANTED), amount(name, HELD)
        lacking = Amount(wanted.blobs - held.blobs, wanted.bytes - held.bytes)
        missing += lacking
        rules.append(RuleDistance(name, wanted, held, lacking, amount(name, SURPLUS)))
    eta = missing.bytes / speed if missing.blobs and speed > 0 else None
    cached, other = amount("", CACHED), amount("", OTHER)
    return Distance(_folded(rules), cached, other, missing, eta, speed, now)


def _folded(rules: list[RuleDistance]) -> list[RuleDistance]:
    """Bound the number of lines."""
    if len(rules) <= RULES_MAX:
        return rules
    rest = RuleDistance(REST, Amount(), Amount(), Amount(), Amount())
    for each in rules[RULES_MAX:]:
        rest.wanted += each.wanted
        rest.held += each.held
        rest.missing += each.missing
        rest.surplus += each.surplus
    return [*rules[:RULES_MAX], rest]


def read_distance(report: bytes) -> Distance | None:
    """Read what a member said of itself; None if it is nothing that this version understands."""
    try:
        return msgspec.json.decode(report, type=Distance)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
