"""Users, groups and permissions."""

from __future__ import annotations

import re
import time
import uuid
from typing import Any

import msgspec

from node.access.gate import ACTIONS
from node.api.contract import Access, Call, Long, Names, Short, Table
from node.directory import Entry, GrantEntry, GroupEntry, TokenEntry, UserEntry
from store.errors import ConflictError, DeniedError, NameInvalidError, NotFoundError, RejectedError
from store.facts import Fact

table = Table("users")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,127}\Z")
PASSWORD_MIN = 8


class NewUser(msgspec.Struct):
    username: Short
    password: Long | None = None
    email: Short = ""
    display_name: Short = ""
    is_admin: bool = False


class UserChange(msgspec.Struct):
    email: Short | None = None
    display_name: Short | None = None
    is_admin: bool | None = None
    is_active: bool | None = None


class Password(msgspec.Struct):
    new_password: Long
    current_password: Long = ""


class UserView(msgspec.Struct):
    id: str
    username: str
    email: str
    display_name: str
    is_admin: bool
    is_active: bool
    created_at: float


class UserList(msgspec.Struct):
    items: list[UserView]


class NewGroup(msgspec.Struct):
    name: Short
    description: Long = ""
    members: Names = []


class GroupView(msgspec.Struct):
    name: str
    description: str
    members: list[str]


class GroupList(msgspec.Struct):
    items: list[GroupView]


class NewPermission(msgspec.Struct):
    principal_type: Short
    principal: Short
    repository: Short
    actions: Names


class PermissionView(NewPermission, kw_only=True):
    id: str


class PermissionList(msgspec.Struct):
    items: list[PermissionView]


def view(user: UserEntry) -> UserView:
    """A user without the password hash."""
    return UserView(
        user.username,
        user.username,
        user.email,
        user.display_name,
        user.is_admin,
        not user.disabled,
        user.created_at,
    )


async def _write(call: Call, action: str, target: str, *facts: Fact) -> None:
    await call.append(*facts)
    await call.note(action, target)


def _find(call: Call, model: type[Any], key: str, what: str) -> Any:
    found = call.core.directory.get(model, key)
    if found is None:
        raise NotFoundError(f"no {what} {key!r}")
    return found


def _judge_password(password: str) -> None:
    if len(password) < PASSWORD_MIN:
        raise RejectedError(f"a password has at least {PASSWORD_MIN} characters")


@table.route("GET", "/users", Access.MANAGE, answer=UserList)
async def list_users(call: Call) -> UserList:
    """List all users."""
    return UserList([view(each) for each in call.core.directory.all(UserEntry)])


@table.route("POST", "/users", Access.MANAGE, body=NewUser, answer=UserView, status=201)
async def create_user(call: Call) -> UserView:
    """Create a user; without a password it can only use tokens made for it."""
    body: NewUser = call.body
    if not NAME.match(body.username):
        raise NameInvalidError("a user name is letters, digits, '.', '_', '@' and '-'")
    if call.core.directory.get(UserEntry, body.username) is not None:
        raise ConflictError(f"user {body.username!r} exists")
    if body.password is not None:
        _judge_password(body.password)
    user = UserEntry(
        username=body.username,
        email=body.email,
        display_name=body.display_name,
        is_admin=body.is_admin,
        created_at=time.time(),
        created_by=call.caller.name,
    )
    fact = await call.core.accounts.user_fact(user, body.password)
    await call.append(fact, check=call.core.directory.absent(user))
    await call.note("user.create", user.username)
    return view(user)


@table.route("GET", "/users/{id}", Access.USER, answer=UserView)
async def get_user(call: Call) -> UserView:
    """Show a user; others only to administrators."""
    if call.params["id"] != call.caller.name:
        call.core.gate.require_management(call.caller)
    return view(_find(call, UserEntry, call.params["id"], "user"))


@table.route("PATCH", "/users/{id}", Access.MANAGE, body=UserChange, answer=UserView)
async def change_user(call: Call) -> UserView:
    """Change a user; fields left out stay as they are."""
    body: UserChange = call.body
    user = msgspec.structs.replace(_find(call, UserEntry, call.params["id"], "user"))
    for name in ("email", "display_name", "is_admin"):
        value = getattr(body, name)
        if value is not None:
            setattr(user, name, value)
    if body.is_active is not None:
        user.disabled = not body.is_active
    _keep_an_admin(call, user.username, still=user.is_admin and not user.disabled)
    await _write(call, "user.change", user.username, await call.core.accounts.user_fact(user, None))
    return view(user)


def _keep_an_admin(call: Call, username: str, *, still: bool) -> None:
    """Refuse to leave the mesh without an administrator."""
    others = [
        each
        for each in call.core.directory.all(UserEntry)
        if each.is_admin and not each.disabled and each.username != username
    ]
    if not still and not others:
        raise ConflictError("this would leave no administrator")


@table.route("POST", "/users/{id}/password", Access.USER, body=Password, status=204)
async def set_password(call: Call) -> None:
    """Set a password: one's own with the current one, anybody's as an administrator."""
    body: Password = call.body
    name = call.params["id"]
    if name != call.caller.name:
        call.core.gate.require_management(call.caller)
    user = msgspec.structs.replace(_find(call, UserEntry, name, "user"))
    _judge_password(body.new_password)
    if name == call.caller.name and call.caller.kind != "operator":
        if call.caller.kind == "token" and "manage" not in call.caller.allowed:
            raise DeniedError("this token cannot change passwords")
        await call.core.accounts.by_password(
            user.username, body.current_password, call.caller.address
        )
    fact = await call.core.accounts.user_fact(user, body.new_password)
    await _write(call, "user.password", user.username, fact)


@table.route("DELETE", "/users/{id}", Access.MANAGE, status=204)
async def delete_user(call: Call) -> None:
    """Delete a user with its tokens, permissions and memberships: a later namesake gets none."""
    name = call.params["id"]
    _find(call, UserEntry, name, "user")
    _keep_an_admin(call, name, still=False)
    directory = call.core.directory
    facts: list[Fact] = [directory.remove(UserEntry, name)]
    facts += [
        directory.remove(TokenEntry, each.id)
        for each in directory.all(TokenEntry)
        if each.username == name
    ]
    facts += [
        directory.remove(GrantEntry, each.id)
        for each in directory.all(GrantEntry)
        if (each.principal_type, each.principal) == ("user", name)
    ]
    facts += [
        directory.change(each.name, msgspec.structs.replace(each, members=others))
        for each in directory.all(GroupEntry)
        if (others := tuple(m for m in each.members if m != name)) != each.members
    ]
    await _write(call, "user.delete", name, *facts)


@table.route("GET", "/groups", Access.MANAGE, answer=GroupList)
async def list_groups(call: Call) -> GroupList:
    """List all groups."""
    groups = call.core.directory.all(GroupEntry)
    return GroupList([GroupView(g.name, g.description, list(g.members)) for g in groups])


@table.route("PUT", "/groups/{name}", Access.MANAGE, body=NewGroup, answer=GroupView)
async def put_group(call: Call) -> GroupView:
    """Create or replace a group."""
    body: NewGroup = call.body
    if body.name != call.params["name"] or not NAME.match(body.name):
        raise NameInvalidError("the group's name in body and path must be equal and valid")
    for member in body.members:
        _find(call, UserEntry, member, "user")
    group = GroupEntry(
        name=body.name,
        description=body.description,
        members=tuple(body.members),
        created_at=time.time(),
        created_by=call.caller.name,
    )
    await _write(call, "group.put", group.name, _change(call, group.name, group))
    return GroupView(group.name, group.description, list(group.members))


def _change(call: Call, key: str, entry: Entry) -> Fact:
    return call.core.directory.change(key, entry)


@table.route("DELETE", "/groups/{name}", Access.MANAGE, status=204)
async def delete_group(call: Call) -> None:
    """Delete a group and its permissions."""
    name = call.params["name"]
    _find(call, GroupEntry, name, "group")
    directory = call.core.directory
    grants = [
        directory.remove(GrantEntry, each.id)
        for each in directory.all(GrantEntry)
        if (each.principal_type, each.principal) == ("group", name)
    ]
    await _write(call, "group.delete", name, directory.remove(GroupEntry, name), *grants)


@table.route(
    "GET", "/permissions", Access.MANAGE, answer=PermissionList, parameters=("repository",)
)
async def list_permissions(call: Call) -> PermissionList:
    """List permissions, all or those of one repository pattern."""
    wanted = call.query.get("repository")
    return PermissionList(
        [
            PermissionView(
                id=each.id,
                principal_type=each.principal_type,
                principal=each.principal,
                repository=each.repository,
                actions=list(each.actions),
            )
            for each in call.core.directory.all(GrantEntry)
            if wanted is None or each.repository == wanted
        ]
    )


@table.route(
    "POST", "/permissions", Access.MANAGE, body=NewPermission, answer=PermissionView, status=201
)
async def create_permission(call: Call) -> PermissionView:
    """Allow a user or group some actions on repositories that match a pattern."""
    body: NewPermission = call.body
    kinds: dict[str, type[Entry]] = {"user": UserEntry, "group": GroupEntry}
    if body.principal_type not in kinds:
        raise RejectedError("principal_type is 'user' or 'group'")
    _find(call, kinds[body.principal_type], body.principal, body.principal_type)
    unknown = [each for each in body.actions if each not in ACTIONS]
    if unknown or not body.actions:
        raise RejectedError(f"actions are some of {', '.join(ACTIONS)}")
    entry = GrantEntry(
        id=uuid.uuid4().hex,
        principal_type=body.principal_type,
        principal=body.principal,
        repository=body.repository,
        actions=tuple(body.actions),
        created_at=time.time(),
        created_by=call.caller.name,
    )
    await _write(call, "permission.create", entry.id, _change(call, entry.id, entry))
    return PermissionView(
        id=entry.id,
        principal_type=entry.principal_type,
        principal=entry.principal,
        repository=entry.repository,
        actions=list(entry.actions),
    )


@table.route("DELETE", "/permissions/{id}", Access.MANAGE, status=204)
async def delete_permission(call: Call) -> None:
    """Withdraw a permission."""
    _find(call, GrantEntry, call.params["id"], "permission")
    fact = call.core.directory.remove(GrantEntry, call.params["id"])
    await _write(call, "permission.delete", call.params["id"], fact)
