"""Who we are on links: the present key, on every carrier, and how it followed the one before.

Spec: docs/mesh.md §4.
"""

from __future__ import annotations

from collections.abc import Sequence

from mesh.carrier import Carrier, Rekeyed
from mesh.handshake import Self
from mesh.ports import LedgerPort


class Own:
    """Our side of every introduction.  ``carriers`` and ``features`` come when they are known."""

    def __init__(self, ledger: LedgerPort, site: str) -> None:
        self.carriers: Sequence[Carrier] = ()
        self.features = 0
        self._ledger, self._site = ledger, site
        self._key = ledger.identity.key

    def me(self) -> Self:
        """Return what we say of ourselves now."""
        ledger, authority = self._ledger, self._ledger.authority
        return Self(
            ledger.identity,
            bytes.fromhex(ledger.mesh),
            ledger.incarnation,
            self._site,
            tuple(sorted(authority.roles(ledger.node))),
            self.features,
            authority.succession(ledger.node),
        )

    def follow_key(self) -> bool:
        """Show our new key, if we have one; whether we do.

        Peers close the links that the old one opened as soon as they hear of it.
        """
        current = self._ledger.identity
        if current.key == self._key:
            return False
        self._key = current.key
        for carrier in self.carriers:
            if isinstance(carrier, Rekeyed):
                carrier.rekey(current.seed)
        return True
