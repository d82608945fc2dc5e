"""Draft a revision: ``python -m store.migrations facts "count packages"``."""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

import sqlalchemy as sa
from alembic import command

from store import migrations


def draft(name: str, message: str) -> None:
    """Write the revision that leads from the newest one to ``store.schema``."""
    number = int(migrations.HEADS[name].removeprefix(name)) + 1
    with tempfile.TemporaryDirectory() as folder:
        engine = sa.create_engine(f"sqlite:///{folder}/draft.db")
        with engine.begin() as connection:
            migrations.upgrade(connection, name)
            command.revision(
                migrations.configuration(connection, name),
                message,
                autogenerate=True,
                rev_id=f"{name}{number:04}",
                version_path=str(Path(__file__).parent / name),
            )
        engine.dispose()
    slug = re.sub(r"\W+", "_", message).lower()
    print(f"check {slug} and name {name}{number:04} in store.migrations.HEADS")  # noqa: T201  a command for contributors


if __name__ == "__main__":
    draft(sys.argv[1], sys.argv[2])
