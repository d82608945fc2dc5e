"""Figures of one node beside its peers: same machine, same payloads, interleaved runs."""
