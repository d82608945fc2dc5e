"""Nodes that break the rules, in ways that the others must survive.

A liar runs the same cores as everybody; its vices change what it says.  What it forges of the
ledger goes through ``simulations.forgery``.
"""

from __future__ import annotations

from contextlib import suppress

import msgspec

from mesh.effects import ServeManifest
from mesh.messages import COMPLETE, Bitfield, Data, Find, HaveBlob, Heads, Message, Records, Want
from mesh.wire import encode
from simulations.life import Subject
from store import canonical
from store.chunks import Chunk, Manifest
from store.errors import RejectedError
from store.records import Batch, read_batch

MISCHIEF = (1.0, 4.0)  # seconds between two acts of one's own accord
FAR = 1 << 40  # a seq that nobody reaches


class Honest:
    """Says what the cores say."""

    hoards = False  # as a courier it takes every lease, and brings nothing

    def begin(self, node: Subject) -> None:
        """A life begins."""

    def says(self, node: Subject, peer: bytes, message: Message) -> list[Message]:
        """Return what is sent instead of a message."""
        return [message]

    def serves(self, want: Want) -> bool:
        """Tell whether a request is answered at all."""
        return True

    def manifest_page(self, node: Subject, asked: ServeManifest, page: bytes) -> bytes:
        """Return the manifest page that is sent."""
        return page


class Corruptor(Honest):
    """Sends wrong bytes for some chunks."""

    def says(self, node: Subject, peer: bytes, message: Message) -> list[Message]:
        """Flip a byte, now and then."""
        if isinstance(message, Data) and node.world.rng.random() < 0.5:
            place = node.world.rng.randrange(len(message.raw))
            raw = bytearray(message.raw)
            raw[place] ^= 0xFF
            return [msgspec.structs.replace(message, raw=bytes(raw))]
        return [message]


class Boaster(Honest):
    """Claims to have all of everything."""

    def says(self, node: Subject, peer: bytes, message: Message) -> list[Message]:
        """Answer every question with yes."""
        download = _download(node, message)
        if isinstance(message, HaveBlob) and message.state != COMPLETE and download is not None:
            size, manifest = download
            return [HaveBlob(message.blob, COMPLETE, size, manifest)]
        if isinstance(message, Bitfield):
            return [msgspec.structs.replace(message, bits=b"\xff" * len(message.bits))]
        return [message]


class Mute(Boaster):
    """Takes requests for everything and never answers."""

    def serves(self, want: Want) -> bool:
        """Keep silent."""
        return False


class Stranger(Honest):
    """Sends chunks that nobody asked for."""

    def says(self, node: Subject, peer: bytes, message: Message) -> list[Message]:
        """Shift the place, or invent a request."""
        if isinstance(message, Data):
            if node.world.rng.random() < 0.5:
                return [msgspec.structs.replace(message, first=message.first + 1)]
            return [message, msgspec.structs.replace(message, request=message.request + 1000)]
        return [message]


class Babbler(Honest):
    """Speaks garbage: random bytes, and claims beyond reason."""

    def begin(self, node: Subject) -> None:
        """Begin to babble."""
        node.later(node.world.between(*MISCHIEF), lambda: self._babble(node))

    def _babble(self, node: Subject) -> None:
        rng, links = node.world.rng, node.life.links
        sockets = [*links.control.values(), *links.bulk.values()]
        if sockets:
            connection = rng.choice(sockets)
            if rng.random() < 0.5:
                connection.stream.write(rng.randbytes(rng.randint(1, 200)))
            elif not connection.bulk:
                blob = rng.choice([*node.disk.whole, rng.randbytes(32)])
                edges = tuple(sorted(rng.randrange(FAR) for _ in range(4)))
                connection.stream.write(encode(Bitfield(blob, rng.randbytes(32), edges[0], b"\1")))
                connection.stream.write(encode(Find(blob, edges[1], b"", 8, ())))
        node.later(node.world.between(*MISCHIEF), lambda: self._babble(node))


class Braggart(Honest):
    """Claims that ledgers reach far beyond what exists, and answers nothing about it."""

    def says(self, node: Subject, peer: bytes, message: Message) -> list[Message]:
        """Add to every head."""
        if isinstance(message, Heads) and node.world.rng.random() < 0.5:
            heads = tuple(msgspec.structs.replace(h, seq=h.seq + FAR) for h in message.heads)
            return [msgspec.structs.replace(message, heads=heads)]
        return [message]


class Counterfeiter(Honest):
    """Serves manifests of its own making, where no record says which one is right."""

    def says(self, node: Subject, peer: bytes, message: Message) -> list[Message]:
        """Name the wrong manifest."""
        if isinstance(message, HaveBlob) and message.state == COMPLETE:
            wrong = _counterfeit(node, message.blob)
            if wrong is not None:
                return [HaveBlob(message.blob, COMPLETE, message.size, wrong.id)]
        return [message]

    def manifest_page(self, node: Subject, asked: ServeManifest, page: bytes) -> bytes:
        """Give it."""
        wrong = _counterfeit(node, asked.blob)
        if wrong is None or wrong.id != asked.manifest:
            return page
        return wrong.root.encode() if asked.page == 0 else wrong.page(asked.page - 1)


class Skipper(Honest):
    """Leaves out the first of several records: what follows has lost what it builds on."""

    def says(self, node: Subject, peer: bytes, message: Message) -> list[Message]:
        """Take it out of the batch."""
        if isinstance(message, Records) and message.last:
            with suppress(RejectedError):
                batch = read_batch(message.piece)
                rest = canonical.encode(Batch(batch.records[1:], batch.head))
                if len(batch.records) > 1:
                    return [msgspec.structs.replace(message, piece=rest)]
        return [message]


class Hoarder(Honest):
    """A courier that takes what there is to carry, for ever, and gives nothing."""

    hoards = True

    def serves(self, want: Want) -> bool:
        """Give nothing."""
        return False


VICES: dict[str, type[Honest]] = {
    "corruptor": Corruptor,
    "boaster": Boaster,
    "mute": Mute,
    "stranger": Stranger,
    "babbler": Babbler,
    "braggart": Braggart,
    "counterfeiter": Counterfeiter,
    "skipper": Skipper,
}
COURIER_VICES: dict[str, type[Honest]] = {"": Honest, "hoarder": Hoarder}


def _download(node: Subject, message: Message) -> tuple[int, bytes] | None:
    """Return size and manifest of a blob that the liar has heard of."""
    if not isinstance(message, HaveBlob):
        return None
    if message.blob in node.disk.whole:
        manifest = node.disk.whole[message.blob][0]
        return manifest.size, manifest.id
    download = node.life.transfers.exchange.downloads.get(message.blob)
    if download is not None and download.manifest_id and download.size:
        return download.size, download.manifest_id
    interest = node.life.transfers.exchange.finding.interests.get(message.blob, {})
    for each in interest.values():
        if each.find.manifest and each.find.size:
            return each.find.size, each.find.manifest
    return None


def _counterfeit(node: Subject, blob: bytes) -> Manifest | None:
    """Return a well-formed manifest of other bytes for a blob that the liar has."""
    held = node.disk.whole.get(blob)
    if held is None or len(held[0].chunks) < 2:
        return None
    manifest = held[0]
    chunks = list(manifest.chunks)
    chunks[0] = Chunk(chunks[0].length, bytes(32))
    return Manifest(manifest.blob, manifest.size, chunks)
