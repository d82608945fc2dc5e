"""What is refused for caution's sake, and the record of who was refused."""

from __future__ import annotations

from collections.abc import Mapping

import structlog
import trio

from node.access.rates import RateLimit
from node.logs import scrubbed
from node.packages.observe import Observation
from store.audit import AuditLog
from store.errors import DeniedError, RegistryError, TooManyRequestsError, UnauthorizedError

log = structlog.get_logger(__name__)
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
FOREIGN = frozenset({"cross-site", "same-site"})
NOTES_PER_MINUTE = 60  # audit entries of refusals, per actor or address


def judge_origin(method: str, headers: Mapping[str, str]) -> None:
    """Refuse writes that a browser sends for somebody else's page.  Raises DeniedError.

    A browser adds remembered Basic credentials to any page's forms.  Every browser of the last
    years says so in Sec-Fetch-Site (Fetch Metadata); package clients send nothing of the kind.
    """
    if method not in SAFE and headers.get("sec-fetch-site", "").lower() in FOREIGN:
        raise DeniedError("writes from other sites' pages are refused")


class Refusals:
    """Writes refused attempts to the audit log; a flood of them is cut to a trickle."""

    def __init__(self, audit: AuditLog) -> None:
        self._audit = audit
        self._limit = RateLimit(NOTES_PER_MINUTE, 60.0, "audit entries")

    async def note(
        self, error: RegistryError, seen: Observation, *, path: str, shown: Mapping[str, str]
    ) -> None:
        """Record a refusal of shown credentials.  Asking without any is how clients begin."""
        if isinstance(error, UnauthorizedError):
            refused = not seen.actor and "authorization" in shown
        else:
            refused = isinstance(error, DeniedError)
        if not refused:
            return
        try:
            self._limit.take(seen.actor or seen.address, trio.current_time())
            action = f"{seen.format}.{seen.method.lower()}"
            await self._audit.write(
                seen.actor,
                action,
                scrubbed(path),  # npm names tokens in paths
                "refused",
                address=seen.address,
                detail=scrubbed(str(error)),
            )
        except TooManyRequestsError:
            return
        except RegistryError as failure:
            log.warning("a refusal was not audited", error=str(failure))
