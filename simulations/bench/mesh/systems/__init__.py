"""What moves the bytes: our nodes, and the programs that others use for the same work."""
