"""Databases for the store's tests: every test that takes ``database_url`` runs on both kinds."""

from __future__ import annotations

import shutil
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
import sqlalchemy as sa

from store import migrations, schema
from store.database import Database, open_database

BOTH = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)]


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make one SQLite file with both schemas at their heads, to be copied."""
    path = tmp_path_factory.mktemp("migrated") / "template.db"
    engine = sa.create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        for name in migrations.HEADS:
            migrations.upgrade(connection, name)
    engine.dispose()
    return path


@pytest.fixture(params=BOTH)
def database_url(request: pytest.FixtureRequest, migrated: Path, tmp_path: Path) -> str:
    """Give the URL of an empty database, on SQLite and then on PostgreSQL."""
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgres_url"))
    return f"sqlite+aiosqlite:///{shutil.copy(migrated, tmp_path / 'test.db')}"


@pytest.fixture
def sqlite_url(migrated: Path, tmp_path: Path) -> str:
    """Give the URL of an empty SQLite database."""
    return f"sqlite+aiosqlite:///{shutil.copy(migrated, tmp_path / 'test.db')}"


@pytest.fixture
async def facts(database_url: str) -> AsyncGenerator[Database]:
    """Open a facts database."""
    async with open_database(database_url, schema.facts, synchronous="NORMAL") as database:
        yield database


@pytest.fixture
async def local(database_url: str) -> AsyncGenerator[Database]:
    """Open a local database."""
    async with open_database(database_url, schema.local, synchronous="NORMAL") as database:
        yield database
