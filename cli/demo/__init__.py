"""``atoll demo``: three nodes in a row, cables that break, real clients at both ends."""
