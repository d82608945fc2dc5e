"""The folders are the import packages, so no library may bring one of the same name."""

from __future__ import annotations

import importlib.metadata

from tests.tidy.tree import PRODUCT

OURS = {*PRODUCT, "tests"}


def test_no_distribution_installs_a_package_of_ours() -> None:
    installed = importlib.metadata.packages_distributions()
    clashes = {name: set(installed.get(name, ())) - {"atoll"} for name in OURS}
    assert {name: who for name, who in clashes.items() if who} == {}
