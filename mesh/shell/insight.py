"""What people see of transfers, links and their limits.  Reads everything, changes nothing."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import trio

from mesh import explaining
from mesh.exchange import Exchange
from mesh.journal import Totals
from mesh.ports import LedgerPort
from mesh.shell.links import Links
from mesh.status import LinkStatus, SendingStatus, TransferStatus, Why
from store.digest import Digest


@dataclass(slots=True)
class Insight:
    """The view of one node; ``links`` is set once they exist."""

    ledger: LedgerPort
    exchange: Exchange
    links: Links

    def _known(self) -> explaining.Known:
        members = self.ledger.authority.members().items()
        names = {bytes.fromhex(node): (member.name, member.site) for node, member in members}
        return explaining.Known(self.exchange, names, trio.current_time())

    def transfers(self) -> list[TransferStatus]:
        """Return what is on its way here."""
        return explaining.transfers(self._known())

    def totals(self) -> Totals:
        """Return what became of all transfers since the start."""
        return self.exchange.journal.totals

    def paths(self) -> list[LinkStatus]:
        """Return what is believed of the path to every peer, the nearest first."""
        found = [
            msgspec.structs.replace(each, sockets=len(self.links.bundle(bytes.fromhex(each.node))))
            for each in explaining.links(self._known())
        ]
        return sorted(found, key=lambda each: (not each.up, each.rtt or 9e9, each.node))

    @property
    def limits(self) -> list[str]:
        """The operator's rules for links in force."""
        return [str(rule) for rule in self.exchange.limits.rules]

    def sending(self) -> list[SendingStatus]:
        """Return what peers are being sent now, the longest queue first."""
        known, found = self._known(), list[SendingStatus]()
        for peer, connection in self.links.bulk.items():
            queued = connection.serving.backlog
            rate = sum(each.sent.rate(known.now) for each in self.links.bundle(peer))
            if queued or rate >= explaining.RATE_MIN:
                left = queued / rate if rate >= explaining.RATE_MIN else None
                found.append(SendingStatus(peer.hex(), known.name(peer), queued, rate, left))
        return sorted(found, key=lambda each: (-each.queued, each.node))

    def why(self, blob: Digest) -> Why | None:
        """Explain a transfer under way or ended lately; None if nothing is known of it."""
        return explaining.why(self._known(), blob.raw)
