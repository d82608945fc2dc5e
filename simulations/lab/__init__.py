"""The network lab: real nodes in network namespaces, joined by links that are shaped and cut."""
