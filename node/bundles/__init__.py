"""Bundles at a node: what they are made from, where imports stand, who may."""
