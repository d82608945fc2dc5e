"""The mesh beside its peers: the same work over the same shaped links, by turns."""
