"""Bundles: records and blobs in a file, for sticks and one-way links.  Spec: docs/bundles.md."""
