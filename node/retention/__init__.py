"""Retention: versions that nobody needs any more go, by policy, and may come back for a while."""
