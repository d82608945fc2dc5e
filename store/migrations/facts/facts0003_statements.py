"""Rotations, admissions and proposed root documents.

Revision: facts0003, after facts0002.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "facts0003"
down_revision = "facts0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create their table."""
    op.create_table(
        "statements",
        sa.Column("mesh", sa.String(64), primary_key=True),
        sa.Column("id", sa.LargeBinary(32), primary_key=True),
        sa.Column("kind", sa.String(12), nullable=False),
        sa.Column("about", sa.String(64), nullable=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
        sa.Column("noticed", sa.Float, nullable=False),
    )
    op.create_index("statements_about", "statements", ["about"])


def downgrade() -> None:
    """Drop it."""
    op.drop_table("statements")
