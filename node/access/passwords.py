"""Passwords: hashed with Argon2id, verified off the event loop, remembered for a minute."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections import OrderedDict
from functools import cache
from typing import TYPE_CHECKING

import trio

from store.errors import RejectedError

if TYPE_CHECKING:
    from argon2 import PasswordHasher

REMEMBERED_MAX = 1024  # verified (hash, password) pairs
REMEMBERED_FOR = 60.0  # seconds
LENGTH_MAX = 1024  # bytes of a password that are looked at


class Passwords:
    """Hash and verify.  A repeated Basic login costs one HMAC, not one Argon2 run."""

    def __init__(self) -> None:
        self._limiter = trio.CapacityLimiter(2)
        self._key = secrets.token_bytes(32)
        self._remembered: OrderedDict[bytes, float] = OrderedDict()
        self._decoy = ""

    async def hash(self, password: str) -> str:
        """Return the encoded hash.  Raises RejectedError for one that ``verify`` would not take."""
        if len(password.encode()) > LENGTH_MAX:
            raise RejectedError(f"a password has at most {LENGTH_MAX} bytes")

        def run() -> str:
            return hasher().hash(password)

        return await trio.to_thread.run_sync(run, limiter=self._limiter)

    async def verify(self, encoded: str, password: str) -> bool:
        """Tell whether the password fits; an empty ``encoded`` costs as much and never does."""
        if len(password.encode()) > LENGTH_MAX:
            return False
        if not encoded:
            self._decoy = self._decoy or await self.hash(secrets.token_hex(8))
            await self._verify_slow(self._decoy, password)
            return False
        if self.remembers(encoded, password):
            return True
        if not await self._verify_slow(encoded, password):
            return False
        self._remembered[self._mark(encoded, password)] = trio.current_time() + REMEMBERED_FOR
        while len(self._remembered) > REMEMBERED_MAX:
            self._remembered.popitem(last=False)
        return True

    def remembers(self, encoded: str, password: str) -> bool:
        """Tell whether this password was found right within the last minute."""
        if not encoded or len(password.encode()) > LENGTH_MAX:
            return False
        return self._remembered.get(self._mark(encoded, password), 0.0) > trio.current_time()

    def _mark(self, encoded: str, password: str) -> bytes:
        return hmac.new(self._key, f"{encoded}\0{password}".encode(), hashlib.sha256).digest()

    async def _verify_slow(self, encoded: str, password: str) -> bool:
        def run() -> bool:
            from argon2.exceptions import InvalidHashError, VerificationError

            try:
                return hasher().verify(encoded, password)
            except (VerificationError, InvalidHashError):
                return False

        return await trio.to_thread.run_sync(run, limiter=self._limiter)


@cache
def hasher() -> PasswordHasher:
    """Make the hasher, with the first password; on a worker thread, where its import runs, too.

    Parameters are OWASP's second choice (19 MiB, 2 passes): two at a time stay within the node's
    memory budget.
    """
    from argon2 import PasswordHasher

    return PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
