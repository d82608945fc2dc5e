"""What this node carries between sites that are never up together, and what it asks of couriers."""

from __future__ import annotations

import time

import msgspec

from mesh.couriers import Cargo, Wish
from node.api.contract import Access, Call, Table
from node.api.transfers import mesh_of
from store.digest import Digest

table = Table("couriers")
ITEMS_MAX = 1000  # in one answer


class WishView(msgspec.Struct):
    """Who lacks it, who said so, and until when (seconds since 1970) that counts."""

    target: str
    teller: str
    expires: float
    urgent: bool
    guessed: bool


class CargoItem(msgspec.Struct):
    blob: str
    size: int
    state: str  # carried | coming | wanted | leaving
    wishes: list[WishView]


class ToldView(msgspec.Struct):
    """A linked courier, and how many blobs it has been asked for."""

    courier: str
    blobs: int


class CourierView(msgspec.Struct):
    """Sizes in bytes; counts since the start."""

    carrying: bool
    budget: int
    used: int
    wishes: int
    items: list[CargoItem]
    more: int  # items beyond those shown
    loaded: int
    delivered: int
    expired: int
    displaced: int
    refused: int
    lacking: int  # blobs that clients of this node asked for in vain of late
    told: list[ToldView]


@table.route("GET", "/mesh/couriers", Access.MANAGE, answer=CourierView)
async def show_cargo(call: Call) -> CourierView:
    """Show what this node carries and for whom, what it shall, and what it asks of couriers."""
    couriers = mesh_of(call).couriers
    cargo, counts = couriers.cargo, couriers.cargo.counts
    wishes: dict[bytes, list[tuple[bytes, Wish]]] = {blob: [] for blob in cargo.carried}
    for teller, told in cargo.wishes.items():
        for blob, wish in told.items():
            wishes.setdefault(blob, []).append((teller, wish))
    shown = list(wishes)[:ITEMS_MAX]
    now = time.time()
    couriers.waits.expire(now)
    return CourierView(
        carrying=couriers.carrying,
        budget=cargo.budget,
        used=cargo.used,
        wishes=cargo.count,
        items=[_item(cargo, blob, wishes[blob]) for blob in shown],
        more=len(wishes) - len(shown),
        loaded=counts.loaded,
        delivered=counts.delivered,
        expired=counts.expired,
        displaced=counts.displaced,
        refused=counts.refused,
        lacking=len(couriers.waits.blobs),
        told=[ToldView(peer.hex(), blobs) for peer, blobs in couriers.told().items()],
    )


def _item(cargo: Cargo, blob: bytes, wishes: list[tuple[bytes, Wish]]) -> CargoItem:
    if blob in cargo.leaving:
        state = "leaving"
    elif blob in cargo.carried:
        state = "carried"
    else:
        state = "coming" if blob in cargo.coming else "wanted"
    size = (
        cargo.carried.get(blob)
        or cargo.coming.get(blob)
        or max((w.size for _, w in wishes), default=0)
    )
    views = [
        WishView(wish.target.hex(), teller.hex(), wish.expires, wish.urgent, wish.guessed)
        for teller, wish in wishes
    ]
    return CargoItem(str(Digest("sha256", blob.hex())), size, state, views)
