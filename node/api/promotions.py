"""Promotions: ask, approve, reject, carry out, roll back; rules and checks."""

from __future__ import annotations

from typing import Annotated

import msgspec

from node.api.contract import Access, Call, Long, Short, Table
from node.directory import RepositoryEntry
from node.promotion.book import Promotion, Said
from node.promotion.judging import Judged
from node.promotion.rules import Rules, Unmet
from node.promotion.service import ITEMS_MAX
from store.errors import NotFoundError, RejectedError

table = Table("promotion")
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]
Patterns = Annotated[tuple[Short, ...], msgspec.Meta(max_length=100)]
BEFORE = ("before", "limit", "status")


class Version(msgspec.Struct):
    package: Name
    version: Annotated[str, msgspec.Meta(max_length=1024)] = ""


class NewPromotion(msgspec.Struct):
    target_repository: Short = ""
    packages: Annotated[list[Version], msgspec.Meta(max_length=ITEMS_MAX)] = []
    artifacts: Annotated[list[Name], msgspec.Meta(max_length=ITEMS_MAX)] = []
    notes: Long = ""


class NewRequest(NewPromotion, kw_only=True):
    source_repository: Short


class Review(msgspec.Struct):
    notes: Long = ""


class NewRules(msgspec.Struct):
    sources: Patterns = ()
    min_age: Annotated[float, msgspec.Meta(ge=0, le=10 * 366 * 86400)] = 0.0
    approvals: Annotated[int, msgspec.Meta(ge=0, le=100)] = 0
    checks: Patterns = ()
    checkers: Patterns = ()
    promotion_only: bool | None = None


class RulesView(msgspec.Struct):
    repository_key: str
    promotion_only: bool
    rules: Rules


class NewCheck(msgspec.Struct):
    package: Name
    check: Short
    passed: bool
    version: Annotated[str, msgspec.Meta(max_length=1024)] = ""
    notes: Long = ""


class CheckView(msgspec.Struct):
    check: str
    passed: bool
    content: str


class ReleaseTarget(msgspec.Struct):
    target_repository: Short


class ItemView(msgspec.Struct):
    package: str
    version: str
    resolved: str
    content: str


class PromotionView(msgspec.Struct):
    id: str
    status: str
    source_repository: str
    target_repository: str
    packages: list[ItemView]
    requested_by: str
    requested_at: float
    notes: str
    approvals: list[Said]
    rejection: Said | None
    promoted_by: str | None
    promoted_at: float | None
    rollbacks: list[Said]


class PromotionAnswer(msgspec.Struct):
    promoted: bool
    source: str
    target: str
    promotion_id: str
    policy_violations: list[Unmet]
    message: str
    promotion: PromotionView


class Promotions(msgspec.Struct):
    items: list[PromotionView]
    next: str | None


def view(found: Promotion) -> PromotionView:
    """A promotion as the API shows it."""
    asked = found.asked
    return PromotionView(
        found.id,
        found.state,
        asked.source,
        found.target,
        [ItemView(each.package, each.version, each.resolved, each.content) for each in asked.items],
        asked.by,
        asked.at,
        asked.notes,
        [said for _, said in sorted(found.approvals.items())],
        found.rejection,
        found.done.by if found.done else None,
        found.done.at if found.done else None,
        [said for _, said in sorted(found.undone.items())],
    )


async def _answer(call: Call, judged: Judged) -> PromotionAnswer:
    found = judged.promotion
    promoted = found.state == "promoted"
    waiting = "; ".join(each.message for each in judged.unmet)
    message = f"in {found.target}" if promoted else f"{found.state}: {waiting}"
    await call.note("promotion.run" if promoted else "promotion.wait", f"{found.target} {found.id}")
    call.core.promotions.count(found.state)
    return PromotionAnswer(
        promoted,
        found.asked.source,
        found.target,
        found.id,
        list(judged.unmet),
        message,
        view(found),
    )


# --- asking -------------------------------------------------------------------------------------
async def _ask(call: Call, source: RepositoryEntry, body: NewPromotion) -> PromotionAnswer:
    key = body.target_repository or source.release_target
    if not key:
        raise RejectedError(f"say where to: {source.key} has no release target")
    target = call.core.entry(key)
    if target is None or not call.core.gate.may(call.caller, "read", target):
        raise NotFoundError(f"no repository {key!r}")
    wanted = [(each.package, each.version) for each in body.packages]
    served = call.core.format_of(source.format)
    for path in body.artifacts:
        artifact = await call.core.catalog.find(source.key, path)
        if artifact is None or served is None:
            raise NotFoundError(f"{source.key} has no {path}")
        place = served.releases.place(artifact)
        if place not in wanted:
            wanted.append(place)
    judged = await call.core.promotions.ask(call.caller, source, target, wanted, notes=body.notes)
    return await _answer(call, judged)


@table.route(
    "POST",
    "/promotion/repositories/{key}/promote",
    Access.READ,
    body=NewPromotion,
    answer=PromotionAnswer,
)
async def promote(call: Call) -> PromotionAnswer:
    """Promote versions, all or none: at once, or as a request that waits for what it lacks."""
    return await _ask(call, call.repository, call.body)


@table.route(
    "POST",
    "/promotion/repositories/{key}/artifacts/{path:path}/promote",
    Access.READ,
    body=NewPromotion,
    answer=PromotionAnswer,
)
async def promote_artifact(call: Call) -> PromotionAnswer:
    """Promote the version that a file belongs to."""
    body: NewPromotion = call.body
    body.artifacts = [call.params["path"]]
    return await _ask(call, call.repository, body)


@table.route(
    "POST", "/approval/request", Access.USER, body=NewRequest, answer=PromotionAnswer, status=201
)
async def request_approval(call: Call) -> PromotionAnswer:
    """Ask for a promotion; as ``promote``, with the source in the body."""
    body: NewRequest = call.body
    source = call.core.entry(body.source_repository)
    if source is None or not call.core.gate.may(call.caller, "read", source):
        raise NotFoundError(f"no repository {body.source_repository!r}")
    return await _ask(call, source, body)


# --- looking ------------------------------------------------------------------------------------
@table.route(
    "GET",
    "/promotion/repositories/{key}/promotion-history",
    Access.READ,
    answer=Promotions,
    parameters=BEFORE,
)
async def promotion_history(call: Call) -> Promotions:
    """List promotions into a repository, or out of it, the newest first."""
    key = call.repository.key
    return await _list(call, [(each, key) for each in _targets(call)], call.query.get("status", ""))


@table.route("GET", "/approval/pending", Access.USER, answer=Promotions, parameters=BEFORE[:2])
async def pending_approvals(call: Call) -> Promotions:
    """List the requests that wait, in the repositories that the caller may read."""
    return await _list(call, [(each, "") for each in _targets(call)], "pending")


@table.route("GET", "/approval/history", Access.USER, answer=Promotions, parameters=BEFORE)
async def approval_history(call: Call) -> Promotions:
    """List all promotions in the repositories that the caller may read."""
    return await _list(call, [(each, "") for each in _targets(call)], call.query.get("status", ""))


def _targets(call: Call) -> list[str]:
    entries = call.core.directory.all(RepositoryEntry)
    return [each.key for each in entries if call.core.gate.may(call.caller, "read", each)]


async def _list(call: Call, places: list[tuple[str, str]], status: str) -> Promotions:
    """Merge the newest of each target; ``next`` is the ``before`` of the following page."""
    limit, before = max(1, call.number("limit", 50, 200)), call.query.get("before", "")
    found: list[Promotion] = []
    for target, concerned in places:
        found += await call.core.promotions.page(
            target, before=before, limit=limit + 1, status=status, concerned=concerned
        )
    found.sort(key=lambda each: each.id, reverse=True)
    shown = [each for each in found[:limit] if _visible(call, each)]
    return Promotions([view(e) for e in shown], found[limit - 1].id if len(found) > limit else None)


def _visible(call: Call, found: Promotion) -> bool:
    """Who may not read the source shall not learn what is in it; once promoted, it is known."""
    source = call.core.entry(found.asked.source)
    if found.done is not None or source is None:
        return True
    return call.core.gate.may(call.caller, "read", source)


@table.route("GET", "/approval/{id}", Access.USER, answer=PromotionAnswer)
async def get_approval(call: Call) -> PromotionAnswer:
    """Show a promotion, and what it still lacks."""
    found = await call.core.promotions.show(call.caller, call.params["id"])
    if not _visible(call, found):
        raise NotFoundError(f"no promotion {call.params['id']!r}")
    pending = found.state == "pending"
    lacking = list((await call.core.promotions.judge(found)).unmet) if pending else []
    message = "; ".join(each.message for each in lacking) or found.state
    return PromotionAnswer(
        found.state == "promoted",
        found.asked.source,
        found.target,
        found.id,
        lacking,
        message,
        view(found),
    )


# --- deciding -----------------------------------------------------------------------------------
@table.route("POST", "/approval/{id}/approve", Access.USER, body=Review, answer=PromotionAnswer)
async def approve_promotion(call: Call) -> PromotionAnswer:
    """Approve a request; with the last thing that it lacks it is carried out."""
    notes = call.body.notes
    judged = await call.core.promotions.approve(call.caller, call.params["id"], notes=notes)
    await call.note("promotion.approve", call.params["id"])
    return await _answer(call, judged)


@table.route("POST", "/approval/{id}/reject", Access.USER, body=Review, answer=PromotionView)
async def reject_promotion(call: Call) -> PromotionView:
    """Reject a request, or take one's own back."""
    notes = call.body.notes
    found = await call.core.promotions.reject(call.caller, call.params["id"], notes=notes)
    await call.note("promotion.reject", call.params["id"])
    call.core.promotions.count(found.state)
    return view(found)


@table.route("POST", "/approval/{id}/run", Access.USER, answer=PromotionAnswer)
async def run_promotion(call: Call) -> PromotionAnswer:
    """Carry out a request whose rules hold by now."""
    return await _answer(call, await call.core.promotions.run(call.caller, call.params["id"]))


@table.route("POST", "/approval/{id}/rollback", Access.USER, body=Review, answer=PromotionView)
async def roll_back_promotion(call: Call) -> PromotionView:
    """Remove what a promotion brought, unless it was published otherwise too."""
    notes = call.body.notes
    found = await call.core.promotions.roll_back(call.caller, call.params["id"], notes=notes)
    await call.note("promotion.rollback", f"{found.target} {found.id}")
    call.core.promotions.count(found.state)
    return view(found)


# --- rules and checks ---------------------------------------------------------------------------
@table.route("GET", "/promotion/repositories/{key}/rules", Access.READ, answer=RulesView)
async def get_rules(call: Call) -> RulesView:
    """Show what a repository asks of promotions into it."""
    entry = call.repository
    return RulesView(entry.key, entry.promotion_only, entry.promotion)


@table.route(
    "PUT", "/promotion/repositories/{key}/rules", Access.ADMIN, body=NewRules, answer=RulesView
)
async def set_rules(call: Call) -> RulesView:
    """Set what a repository asks of promotions into it."""
    body: NewRules = call.body
    entry = msgspec.structs.replace(
        call.repository,
        promotion=Rules(
            sources=body.sources,
            min_age=body.min_age,
            approvals=body.approvals,
            checks=body.checks,
            checkers=body.checkers,
        ),
    )
    if body.promotion_only is not None:
        entry.promotion_only = body.promotion_only
    await call.append(call.core.directory.change(entry.key, entry))
    await call.note("promotion.rules", entry.key)
    return RulesView(entry.key, entry.promotion_only, entry.promotion)


@table.route(
    "GET", "/promotion/repositories/{key}/release-target", Access.READ, answer=ReleaseTarget
)
async def get_release_target(call: Call) -> ReleaseTarget:
    """Show where promotions out of a repository go that do not say it."""
    return ReleaseTarget(call.repository.release_target)


@table.route(
    "PUT",
    "/promotion/repositories/{key}/release-target",
    Access.ADMIN,
    body=ReleaseTarget,
    answer=ReleaseTarget,
)
async def set_release_target(call: Call) -> ReleaseTarget:
    """Set where promotions out of a repository go that do not say it."""
    target = call.body.target_repository
    entry = msgspec.structs.replace(call.repository, release_target=target)
    await call.append(call.core.directory.change(entry.key, entry))
    await call.note("promotion.target", entry.key)
    return ReleaseTarget(target)


@table.route(
    "POST",
    "/promotion/repositories/{key}/checks",
    Access.WRITE,
    body=NewCheck,
    answer=CheckView,
    status=201,
)
async def report_check(call: Call) -> CheckView:
    """Report whether a version of a staging repository passed a check."""
    body: NewCheck = call.body
    content = await call.core.promotions.report(
        call.caller,
        call.repository,
        (body.package, body.version),
        body.check,
        passed=body.passed,
        notes=body.notes,
    )
    await call.note("promotion.check", f"{call.repository.key} {body.package} {body.version}")
    return CheckView(body.check, body.passed, content)
