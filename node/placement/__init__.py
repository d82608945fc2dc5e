"""What this node holds, for whom, and what it lets go.  Docs: docs/mesh.md §13."""
