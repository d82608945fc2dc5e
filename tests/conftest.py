"""What every test shares."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.faults import no_faults

pytest_plugins = ["tests.postgres"]

# Two workers share two cores with linters and clients: a slow example is no finding.
settings.register_profile(
    "atoll", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("atoll")

CONFORMANCE = Path(__file__).parent / "conformance"


@pytest.fixture(autouse=True)
def _no_faults() -> Generator[None]:
    with no_faults():
        yield


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that drive real clients, so that `--fast` can leave them out."""
    for item in items:
        if CONFORMANCE in item.path.parents:
            item.add_marker("conformance")
