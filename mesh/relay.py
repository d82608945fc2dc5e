"""What a node does for members that cannot dial each other: whom it joins, and how much it carries.

Pure.  Spec: docs/mesh.md §14.  A relay joins two sockets and passes bytes that it cannot read, for
the two ends speak TLS with each other.  Everything has a quota, for each pair and for the node.
"""

from __future__ import annotations

from dataclasses import dataclass, field

TOKEN_SIZE = 16  # bytes
ARRIVE_MAX = 10.0  # seconds that both ends have to bring their sockets
IDLE_MAX = 60.0  # seconds without a byte in either direction: links ping every five
OFFERS_MAX = 8  # of one asker that are still waiting for an end
BURST = 0.25  # seconds' worth of a rate that may go at once
PIECE = 64 * 1024  # bytes held in each direction
RETRY = 60.0  # seconds between looks for a direct path
RELAYS_ASKED_MAX = 4  # for one peer


@dataclass(frozen=True, slots=True)
class Quota:
    """How much this node carries for others.  Rates in bytes per second, 0: no cap."""

    rate: float = 8_000_000.0  # all together, both directions
    pair_rate: float = 4_000_000.0
    streams: int = 64
    pair_streams: int = 6  # two links and two bulk sockets, while one takes over from another


@dataclass(slots=True)
class Bucket:
    """A token bucket that may run into debt: the waiting pays for what has gone."""

    rate: float
    level: float = 0.0
    at: float = 0.0

    def take(self, size: int, now: float) -> float:
        """Count bytes that are about to go; return how long to wait before them."""
        if self.rate <= 0:
            return 0.0
        self.level = min(self.rate * BURST, self.level + (now - self.at) * self.rate)
        self.at = now
        self.level -= size
        return max(0.0, -self.level / self.rate)


@dataclass(slots=True, eq=False)
class Joint:
    """Two ends that are to be joined, or are."""

    ends: tuple[bytes, bytes]  # who asked, and whom for
    tokens: tuple[bytes, bytes]
    made: float
    bucket: Bucket  # of the pair
    came: set[bytes] = field(default_factory=set[bytes])
    carried: int = 0

    @property
    def pair(self) -> frozenset[bytes]:
        """The two, whoever asked."""
        return frozenset(self.ends)

    @property
    def joined(self) -> bool:
        """Both sockets are here."""
        return len(self.came) == 2


class Relay:
    """The joints of one node."""

    def __init__(self, quota: Quota) -> None:
        self.quota = quota
        self.joints: dict[Joint, None] = {}
        self.carried = 0  # bytes, ever
        self.refused: dict[str, int] = {}  # reason → how often
        self._all = Bucket(quota.rate)
        self._pairs: dict[frozenset[bytes], Bucket] = {}

    @property
    def streams(self) -> int:
        """How many are carried: one whose ends have not both come is none."""
        return sum(joint.joined for joint in self.joints)

    def open(
        self, source: bytes, target: bytes, tokens: tuple[bytes, bytes], now: float
    ) -> Joint | str:
        """Accept to join two members, or say why not.  ``tokens`` are fresh and secret."""
        reason = self._reason(source, target)
        if reason:
            self.refused[reason] = self.refused.get(reason, 0) + 1
            return reason
        pair = frozenset({source, target})
        bucket = self._pairs.setdefault(pair, Bucket(self.quota.pair_rate))
        joint = Joint((source, target), tokens, now, bucket)
        self.joints[joint] = None
        return joint

    def _reason(self, source: bytes, target: bytes) -> str:
        if source == target:
            return "that is yourself"
        pair = frozenset({source, target})
        if len(self.joints) >= self.quota.streams:
            return "the relay is full"
        if sum(joint.pair == pair for joint in self.joints) >= self.quota.pair_streams:
            return "too many streams between the two"
        share = max(self.quota.pair_streams, self.quota.streams // 4)
        if any(sum(end in joint.ends for joint in self.joints) >= share for end in pair):
            return "too many streams of one member"
        waiting = sum(joint.ends[0] == source and not joint.joined for joint in self.joints)
        return "too many streams that nobody has taken" if waiting >= OFFERS_MAX else ""

    def arrive(self, end: bytes, token: bytes) -> Joint | None:
        """An end brings a socket; return its joint, or None if the token is not its own."""
        for joint in self.joints:
            if (end, token) in zip(joint.ends, joint.tokens, strict=True) and end not in joint.came:
                joint.came.add(end)
                return joint
        return None

    def carry(self, joint: Joint, size: int, now: float) -> float:
        """Count bytes that are about to be passed on; return how long to wait before them.

        Of a joint that is closed, too: a task may have bytes in hand when its ends are parted.
        """
        joint.carried += size
        self.carried += size
        return max(joint.bucket.take(size, now), self._all.take(size, now))

    def close(self, joint: Joint) -> None:
        """The two are apart again."""
        self.joints.pop(joint, None)
        if not any(other.pair == joint.pair for other in self.joints):
            self._pairs.pop(joint.pair, None)

    def overdue(self, now: float) -> list[Joint]:
        """Return joints whose ends have not both come in time."""
        return [j for j in self.joints if not j.joined and now >= j.made + ARRIVE_MAX]


def detour(relay: bytes, target: bytes) -> str:
    """Write the address of a member behind a relay."""
    return f"relay://{relay.hex()}/{target.hex()}"


def parse_detour(address: str) -> tuple[bytes, bytes]:
    """Split it into relay and member.  Raises OSError if it is no such address."""
    head, _, rest = address.partition("://")
    relay, _, target = rest.partition("/")
    try:
        found = bytes.fromhex(relay), bytes.fromhex(target)
    except ValueError as error:
        raise OSError(f"not an address: {address!r}") from error
    if head != "relay" or len(found[0]) != 32 or len(found[1]) != 32:
        raise OSError(f"not an address: {address!r}")
    return found
