"""What operators lay down about paths: caps, which are metered or dear, hours for the rest.  Pure.

Spec: docs/mesh.md §8.  A rule is a line of text, ``TARGET [up=RATE] [down=RATE] [metered]
[cost=N] [hours=HH:MM-HH:MM/…]``; TARGET is ``node:ID`` (its first characters suffice),
``site:NAME`` or ``*``.  A rate is bytes per second, or ends in kbit, Mbit, Gbit, kB, MB or GB.
The rule of a node comes before that of its site, and that before ``*``, field by field.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from store.errors import RejectedError

RULES_MAX = 256
RULE_LENGTH_MAX = 512
COST_MAX = 1000.0
RATE_MIN = 1000.0  # bytes per second: less would starve the links' own messages
BURST = 0.25  # seconds of a capped rate that may go at once after a pause
DAY = 86400
UNITS = {"": 1, "kbit": 125, "mbit": 125_000, "gbit": 125_000_000, "kb": 1e3, "mb": 1e6, "gb": 1e9}
RATE = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)([a-zA-Z]{0,4})(?:/s)?")
HOURS = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-4]):([0-5]\d)")


@dataclass(frozen=True, slots=True)
class Rule:
    """One line.  What is None says nothing, and leaves it to the next rule."""

    kind: str  # node | site | *
    name: str
    up: float | None = None  # bytes per second of chunks to there
    down: float | None = None  # and from there
    metered: bool | None = None
    cost: float | None = None
    hours: tuple[tuple[int, int], ...] | None = None  # seconds of the day in which the rest may go

    def __str__(self) -> str:
        target = "*" if self.kind == "*" else f"{self.kind}:{self.name}"
        words = [target]
        words += [f"{n}={v:g}" for n, v in (("up", self.up), ("down", self.down)) if v is not None]
        if self.metered is not None:
            words.append("metered" if self.metered else "unmetered")
        if self.cost is not None:
            words.append(f"cost={self.cost:g}")
        if self.hours is not None:
            spans = "/".join(f"{_clock(start)}-{_clock(stop)}" for start, stop in self.hours)
            words.append(f"hours={spans}")
        return " ".join(words)


@dataclass(slots=True)
class Bucket:
    """A capped rate: bytes flow while there are tokens, and may overdraw once."""

    rate: float
    tokens: float = 0.0
    at: float | None = None

    def room(self, now: float) -> float:
        """Return the tokens there are."""
        if self.at is None:
            self.at, self.tokens = now, self.rate * BURST
        self.tokens = min(self.tokens + self.rate * (now - self.at), self.rate * BURST)
        self.at = now
        return self.tokens

    def wait(self, now: float) -> float:
        """Return in how many seconds something may flow again; 0 is now."""
        room = self.room(now)
        return 0.0 if room > 0 else max(-room / self.rate, 1e-3)

    def spend(self, size: int, now: float) -> None:
        """Something flows."""
        self.room(now)
        self.tokens -= size


@dataclass(frozen=True, slots=True)
class Terms:
    """All that holds for one peer."""

    up: Bucket | None = None
    down: Bucket | None = None
    metered: bool = False
    cost: float = 0.0
    hours: tuple[tuple[int, int], ...] = ()

    def background(self, clock: float) -> bool:
        """Tell whether what nobody waits for may go at this second of the day."""
        if self.metered:
            return False
        if not self.hours:
            return True
        second = clock % DAY
        return any(
            start <= second < stop if start < stop else (second >= start or second < stop)
            for start, stop in self.hours
        )


FREE = Terms()


@dataclass(slots=True)
class Limits:
    """The rules in force.  ``clock`` is the local second of the day, set by the shell."""

    rules: tuple[Rule, ...] = ()
    clock: float = 0.0
    _buckets: dict[tuple[Rule, str], Bucket] = field(default_factory=dict[tuple[Rule, str], Bucket])
    _terms: dict[tuple[bytes, str], Terms] = field(default_factory=dict[tuple[bytes, str], Terms])

    def set(self, rules: Iterable[Rule]) -> None:
        """Replace the rules."""
        self.rules = tuple(rules)
        self._buckets.clear()
        self._terms.clear()

    def terms(self, node: bytes, site: str) -> Terms:
        """Return what holds for a peer; nodes under one rule share its rates."""
        if not self.rules:
            return FREE
        known = self._terms.get((node, site))
        if known is None:
            if len(self._terms) > 4 * RULES_MAX:
                self._terms.clear()
            known = self._terms[node, site] = self._merge(node, site)
        return known

    def _merge(self, node: bytes, site: str) -> Terms:
        name = node.hex()
        order = [rule for rule in self.rules if rule.kind == "node" and name.startswith(rule.name)]
        order += [rule for rule in self.rules if rule.kind == "site" and rule.name == site]
        order += [rule for rule in self.rules if rule.kind == "*"]
        return Terms(
            up=self._bucket(order, "up"),
            down=self._bucket(order, "down"),
            metered=next((r.metered for r in order if r.metered is not None), False),
            cost=next((r.cost for r in order if r.cost is not None), 0.0),
            hours=next((r.hours for r in order if r.hours is not None), ()),
        )

    def _bucket(self, order: Sequence[Rule], direction: str) -> Bucket | None:
        for rule in order:
            rate = rule.up if direction == "up" else rule.down
            if rate is not None:
                return self._buckets.setdefault((rule, direction), Bucket(rate))
        return None


def parse(text: str) -> Rule:
    """Read one rule.  Raises RejectedError."""
    words = text.split()
    if not words or len(text) > RULE_LENGTH_MAX:
        raise RejectedError(f"not a rule for links: {text[:80]!r}")
    kind, _, name = words[0].partition(":")
    if (kind, name) != ("*", "") and (kind not in {"node", "site"} or not name):
        raise RejectedError(f"{words[0]!r}: a rule is for node:ID, site:NAME or *")
    if kind == "node" and not re.fullmatch(r"[0-9a-f]{4,64}", name):
        raise RejectedError(f"{words[0]!r}: not 4 to 64 hexadecimal characters of a node's id")
    found: dict[str, object] = {}
    for word in words[1:]:
        key, _, value = word.partition("=")
        key = {"unmetered": "metered"}.get(key, key)
        if key in found:
            raise RejectedError(f"{text!r}: {key} is said twice")
        found[key] = _field(key, value, word)
    if not found:
        raise RejectedError(f"{text!r} says nothing")
    return Rule(kind, name, **found)  # type: ignore[arg-type]  # _field gave each its type


def _field(key: str, value: str, word: str) -> object:
    if key in {"up", "down"}:
        return rate_of(value)
    if key == "metered" and not value:
        return word == "metered"
    if key == "cost":
        try:
            cost = float(value)
        except ValueError:
            cost = -1.0
        if not 0 <= cost <= COST_MAX:
            raise RejectedError(f"{word!r}: a cost is between 0 and {COST_MAX:g}")
        return cost
    if key == "hours":
        return tuple(_span(part) for part in value.split("/")[:24])
    raise RejectedError(f"{word!r}: there are up, down, metered, unmetered, cost and hours")


def rate_of(text: str) -> float:
    """Read a rate in bytes per second.  Raises RejectedError."""
    found = RATE.fullmatch(text)
    unit = UNITS.get(found[2].lower()) if found else None
    if found is None or unit is None or float(found[1]) * unit < RATE_MIN:
        raise RejectedError(f"{text!r} is no rate of at least {RATE_MIN:g} bytes per second")
    return float(found[1]) * unit


def _span(text: str) -> tuple[int, int]:
    found = HOURS.fullmatch(text)
    if found is None:
        raise RejectedError(f"{text!r}: hours are HH:MM-HH:MM")
    start = int(found[1]) * 3600 + int(found[2]) * 60
    stop = int(found[3]) * 3600 + int(found[4]) * 60
    if stop > DAY or start == stop:
        raise RejectedError(f"{text!r}: hours end at 24:00 at the latest, and not as they begin")
    return start, stop


def _clock(second: int) -> str:
    return f"{second // 3600:02}:{second % 3600 // 60:02}"


def parse_all(texts: Sequence[str]) -> tuple[Rule, ...]:
    """Read rules.  Raises RejectedError."""
    if len(texts) > RULES_MAX:
        raise RejectedError(f"at most {RULES_MAX} rules for links")
    return tuple(parse(text) for text in texts)
