"""Repositories as formats see them, and what commits their writes."""
