"""Talking to other people's registries: addresses judged, credentials kept, failures remembered."""
