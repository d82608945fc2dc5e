"""Find what was moved concurrently without a look at every pointer."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "facts0002"
down_revision = "facts0001"
branch_labels = None
depends_on = None

INDEX = "pointers_siblings"


def upgrade() -> None:
    """Apply the change."""
    condition = sa.text("length(siblings) > 1")
    columns = ["repository", "package", "name"]
    op.create_index(INDEX, "pointers", columns, sqlite_where=condition, postgresql_where=condition)


def downgrade() -> None:
    """Undo the change."""
    op.drop_index(INDEX, "pointers")
