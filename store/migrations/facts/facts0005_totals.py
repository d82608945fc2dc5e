"""What each repository comes to.

Revision: facts0005, after facts0004.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "facts0005"
down_revision = "facts0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table, and add up what is there."""
    key = sa.String(255).with_variant(sa.String(255, collation="C"), "postgresql")
    op.create_table(
        "totals",
        sa.Column("repository", key, primary_key=True),
        sa.Column("files", sa.BigInteger, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
    )
    op.execute(
        "INSERT INTO totals (repository, files, size) "
        "SELECT repository, SUM(files), SUM(size) FROM packages "
        "GROUP BY repository HAVING SUM(files) > 0"
    )


def downgrade() -> None:
    """Drop it."""
    op.drop_table("totals")
