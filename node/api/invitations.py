"""Invitations that this node gives out."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from node.api.contract import Access, Call, Short, Table
from store.errors import RejectedError

table = Table("mesh")
EXPIRES_MAX = 30 * 86400.0  # seconds that an invitation may be open


class NewInvitation(msgspec.Struct):
    site: Short = "default"
    roles: tuple[Short, ...] = ("writer", "admin")  # a whole registry: users log in there too
    repositories: tuple[Short, ...] = ("*",)
    expires_in: float = 86400.0


class InvitationView(msgspec.Struct):
    invitation: str


class OpenInvitation(msgspec.Struct):
    """An invitation that was given out here; never its secret."""

    id: str
    site: str
    roles: list[str]
    repositories: list[str]
    expires: float
    state: str  # open | used | waiting for owners | expired


class InvitationList(msgspec.Struct):
    items: list[OpenInvitation]


@table.route(
    "POST",
    "/mesh/invitations",
    Access.MANAGE,
    body=NewInvitation,
    answer=InvitationView,
    status=201,
)
async def invite(call: Call) -> InvitationView:
    """Make a one-time invitation for a new node."""
    body: NewInvitation = call.body
    if not 0 < body.expires_in <= EXPIRES_MAX:
        raise RejectedError("expires_in is between 1 second and 30 days")
    text = await call.mesh.invite(
        site=body.site, roles=body.roles, scopes=body.repositories, expires_in=body.expires_in
    )
    await call.note("mesh.invite", body.site)
    return InvitationView(text)


@table.route("GET", "/mesh/invitations", Access.MANAGE, answer=InvitationList)
async def list_invitations(call: Call) -> InvitationList:
    """List the invitations that this node gave out, without their secrets."""
    now = time.time()

    def state(entry: Any) -> str:
        if entry.signed:
            return "used"
        if entry.key:
            return "waiting for owners"
        return "open" if now < entry.expires else "expired"

    return InvitationList(
        [
            OpenInvitation(e.id, e.site, list(e.roles), list(e.scopes), e.expires, state(e))
            for e in call.mesh.joining.invitations()
        ]
    )


@table.route("DELETE", "/mesh/invitations/{id}", Access.MANAGE, answer=None, status=204)
async def withdraw_invitation(call: Call) -> None:
    """Take an open invitation back."""
    await call.mesh.joining.withdraw(call.params["id"])
    await call.note("mesh.uninvite", call.params["id"])
