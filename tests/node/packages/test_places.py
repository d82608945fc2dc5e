"""Where a request acts: here, at a deploy target, or nowhere; and what a refusal gives away."""

from __future__ import annotations

from dataclasses import replace

import pytest

from formats.contract import Scope
from node.access.gate import ANONYMOUS, Caller
from node.directory import GrantEntry, RepositoryEntry
from node.packages.places import judge_place
from node.repositories.virtual.settings import Composition, Member
from store.errors import DeniedError, MethodNotAllowedError, RegistryError, UnauthorizedError
from tests.node.access.test_gate import gate

TARGET = RepositoryEntry(key="target", format="pypi", is_public=False)
VIRTUAL = RepositoryEntry(
    key="all",
    format="pypi",
    repo_type="virtual",
    virtual=Composition(members=(Member(key="target"),), deploy="target"),
)
REMOTE = RepositoryEntry(key="up", format="pypi", repo_type="remote")
ANN = Caller("ann", "user")
GRANT = GrantEntry(
    id="g", principal_type="user", principal="ann", repository="target", actions=("write",)
)
EVERYWHERE = GrantEntry(
    id="e", principal_type="user", principal="ann", repository="*", actions=("write",)
)


class Targets:
    def __init__(self, target: RepositoryEntry | None = TARGET) -> None:
        self.found = target

    def target(self, entry: RepositoryEntry) -> RepositoryEntry | None:
        return self.found


def place(caller: Caller, scope: Scope, *grants: GrantEntry, there: bool = True) -> str:
    targets = Targets(TARGET if there else None)
    return judge_place(gate(*grants), targets, caller, scope, VIRTUAL).key


def test_reads_stay_and_writes_go_to_the_target() -> None:
    assert place(ANONYMOUS, Scope.READ) == "all"
    assert place(ANN, Scope.OPEN) == "all"
    assert place(ANN, Scope.WRITE, GRANT) == "target"


@pytest.mark.parametrize("scope", [Scope.DELETE, Scope.ADMIN])
def test_rights_are_those_held_at_the_target(scope: Scope) -> None:
    with pytest.raises(DeniedError) as refused:
        place(ANN, scope, GRANT)
    assert "target" not in str(refused.value)


def test_refusals_do_not_name_the_target() -> None:
    for caller, error in ((ANN, DeniedError), (ANONYMOUS, UnauthorizedError)):
        with pytest.raises(error) as refused:
            place(caller, Scope.WRITE)
        assert "target" not in str(refused.value)
    bearer = replace(ANN, access=(("all", frozenset({"read", "write"})),))
    with pytest.raises(UnauthorizedError):  # its client fetches a wider one
        place(bearer, Scope.WRITE, GRANT)


def test_without_a_target_nothing_is_published() -> None:
    with pytest.raises(MethodNotAllowedError, match="no deploy target"):
        place(ANN, Scope.WRITE, GRANT, there=False)


def test_remote_repositories_take_nothing() -> None:
    with pytest.raises(MethodNotAllowedError):
        judge_place(gate(EVERYWHERE), Targets(), ANN, Scope.WRITE, REMOTE)
    with pytest.raises(RegistryError):
        judge_place(gate(), Targets(), ANN, Scope.WRITE, REMOTE)
