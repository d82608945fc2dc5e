"""The boundary around a task that serves one peer: a fault of ours ends its connection, not us all.

What is expected to go wrong with a peer is caught where it happens.  Anything else is a mistake in
this program that some peer has found: the node's other work must not end with it, and it must not
pass in silence.  The node's own tasks have no such boundary; they end the node (crash-only).
Spec: docs/mesh.md §5.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import structlog

LOGGED_MAX = 20  # tracebacks a minute: whoever has found a fault may show it a thousand times
MINUTE = 60.0  # seconds
Whose = bytes | str | Callable[[], bytes | str]  # a node, or an address
log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Fault:
    """What became of one task."""

    error: BaseException | None = None


@dataclass(slots=True)
class Faults:
    """Every fault of this process, counted by the kind of task."""

    counts: Counter[str] = field(default_factory=Counter[str])
    last: BaseException | None = None
    clock: Callable[[], float] = time.monotonic
    _since: float = 0.0
    _logged: int = 0

    @contextmanager
    def contained(
        self, task: str, whose: Whose = "", then: Callable[[bytes], None] | None = None
    ) -> Iterator[Fault]:
        """Let no Exception out of the block; tell it, count it, and hand the peer to ``then``.

        Cancellation, and whatever else is no Exception, passes,
        freed of the Exceptions that came with it.
        """
        fault = Fault()
        try:
            yield fault
        except Exception as error:  # noqa: BLE001  that is what it is for
            fault.error = error
            self._tell(task, whose, error, then)
        except BaseExceptionGroup as group:
            errors, rest = group.split(Exception)
            if errors is not None:
                fault.error = errors
                self._tell(task, whose, errors, then)
            if rest is not None:
                raise rest from None

    async def run(
        self,
        task: Callable[..., Awaitable[object]],
        *args: object,
        then: Callable[[bytes], None] | None = None,
    ) -> None:
        """Run a task within the boundary; the first bytes among its arguments are the peer."""
        whose = next((each for each in args if isinstance(each, bytes)), b"")
        with self.contained(getattr(task, "__name__", "task").strip("_"), whose, then):
            await task(*args)

    def _tell(
        self,
        task: str,
        whose: Whose,
        error: BaseException,
        then: Callable[[bytes], None] | None = None,
    ) -> None:
        self.counts[task] += 1
        self.last = error
        peer, now = whose() if callable(whose) else whose, self.clock()
        if now - self._since > MINUTE:
            self._since, self._logged = now, 0
        self._logged += 1
        if self._logged <= LOGGED_MAX:
            name = peer.hex() if isinstance(peer, bytes) else peer
            last = self._logged == LOGGED_MAX  # what follows within the minute is only counted
            log.error("mesh.fault", task=task, peer=name, exc_info=error, last_for_now=last)
        if then is not None and isinstance(peer, bytes):
            then(peer)


FAULTS = Faults()  # a process is a node
