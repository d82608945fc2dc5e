"""Package traffic: from an ASGI request on a format's mount to its answer."""
