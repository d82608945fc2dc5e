"""What tests of several carriers share."""

from __future__ import annotations

import gc
import sys
import warnings
from collections.abc import Iterator

import pytest

from tests.conformance.installers import mesh_libraries

if (mesh_libraries() / "requirements").exists():  # last: whatever else is installed comes first
    sys.path.append(str(mesh_libraries()))


@pytest.fixture
def swept() -> Iterator[None]:
    """Collect what libp2p leaves behind: sockets whose upgrade failed are not closed there."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()
