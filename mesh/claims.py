"""What others say is on its way to them, and for how long it is left to them.  Pure.

Spec: docs/mesh.md §8.  Whoever says so gives nothing for it, so the sum is bounded: a chunk is left
to others for CLAIM_MAX seconds in all, whoever names it, however often, over however many links.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import or_

CLAIM_STEP = 0.5  # seconds over which what is said to be awaited is taken together
CLAIM_MAX = 5.0  # seconds after which nobody waits for what others await
LEFT_STEP = 0.25  # seconds by which is counted how long a chunk has been left to others


class Ages:
    """Since when which chunks have been named, to within CLAIM_STEP, for CLAIM_MAX at most."""

    def __init__(self) -> None:
        self.steps: list[tuple[float, int]] = []

    def add(self, chunks: int, now: float) -> None:
        """These are named from now on."""
        if chunks and self.steps and now < self.steps[-1][0] + CLAIM_STEP:
            self.steps[-1] = (self.steps[-1][0], self.steps[-1][1] | chunks)
        elif chunks:
            self.steps = [*self.drop(now), (now, chunks)]

    def drop(self, now: float) -> list[tuple[float, int]]:
        """Return what is not too old."""
        return [step for step in self.steps if step[0] > now - CLAIM_MAX]

    @property
    def chunks(self) -> int:
        """Return what has been named, unless it was too long ago."""
        return reduce(or_, (chunks for _, chunks in self.steps), 0)


class Spent:
    """How long each chunk has been left to others, in steps of LEFT_STEP, up to CLAIM_MAX."""

    def __init__(self) -> None:
        self._steps = [0] * int(
            CLAIM_MAX / LEFT_STEP
        )  # the chunks that have spent more than so many
        self._step, self._left = 0, 0

    @property
    def all(self) -> int:
        """Return the chunks that have spent all of it."""
        return self._steps[-1]

    def leave(self, chunks: int, now: float) -> None:
        """These are left to others now, and so for a whole step."""
        passed = int(now / LEFT_STEP) - self._step
        for _ in range(min(passed, len(self._steps)) if self._left else 0):
            carry = self._left
            for index, spent in enumerate(self._steps):
                self._steps[index], carry = spent | carry, spent & carry
        if passed:
            self._step, self._left = self._step + passed, 0
        self._left |= chunks


@dataclass(slots=True)
class _Claim:
    """What one peer awaits.  ``untrue``: it once did for CLAIM_MAX, and had it not then."""

    coming: int = 0
    untrue: bool = False
    ages: Ages = field(default_factory=Ages)  # of what it has named without a break


class Claims:
    """What all others await of one blob.  Losing its link renews nobody's claims."""

    def __init__(self) -> None:
        self._of: dict[bytes, _Claim] = {}
        self._spent = Spent()

    def hear(self, peer: bytes, coming: int, lacking: int, now: float) -> bool:
        """A peer says all that it awaits.  ``lacking`` is what neither it nor we have.

        Returns whether some of that is on its way to it no longer.
        """
        claim = self._of.setdefault(peer, _Claim())
        claim.ages.steps = claim.ages.drop(now)
        claim.untrue = claim.untrue or bool(claim.coming & lacking & ~claim.ages.chunks)
        claim.ages.steps = [(at, chunks & coming) for at, chunks in claim.ages.steps]
        claim.ages.add(coming & ~claim.coming, now)
        given_up = claim.coming & ~coming & lacking
        claim.coming = coming
        return bool(given_up)

    def unlinked(self, peer: bytes) -> None:
        """Whatever it awaited, it does not any more; what it was once wrong about stands."""
        claim = self._of.get(peer)
        if claim is not None:
            claim.coming, claim.ages = 0, Ages()

    def of(self, peer: bytes) -> Sequence[tuple[float, int]]:
        """Return since when a peer awaits what, of what may still be left to others.

        Nothing of one whose word has once not held.
        """
        claim = self._of.get(peer)
        if claim is None or claim.untrue:
            return []
        spent = self._spent.all
        return [(at, mine) for at, chunks in claim.ages.steps if (mine := chunks & ~spent)]

    def leave(self, chunks: int, now: float) -> None:
        """These are not asked for now, for the sake of those who await them."""
        self._spent.leave(chunks, now)

    def restart(self) -> None:
        """Other chunks are meant from now on.  Whose word has once not held has none left."""
        self._of = {peer: _Claim(untrue=True) for peer, claim in self._of.items() if claim.untrue}
        self._spent = Spent()
