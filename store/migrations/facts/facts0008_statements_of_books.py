"""Find the statements of a book without its texts: what was asked for and is not decided."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "facts0008"
down_revision = "facts0007"
branch_labels = None
depends_on = None

INDEX = "flags_statements"


def upgrade() -> None:
    """Apply the change."""
    condition = sa.text("path = '' AND substr(package, 1, 1) = ':'")
    columns = ["repository", "package", "version", "name"]
    op.create_index(INDEX, "flags", columns, sqlite_where=condition, postgresql_where=condition)


def downgrade() -> None:
    """Undo the change."""
    op.drop_index(INDEX, "flags")
