"""The node's HTTP server: given an ASGI app, listen and serve it.

Knows nothing of stores, formats or peers.  docs/http.md says how it works and what it measures.
"""

from __future__ import annotations

from node.http.asgi import App, Message, Receive, Scope, Send
from node.http.limits import Limits
from node.http.server import Binding, Bound, serve

__all__ = ["App", "Binding", "Bound", "Limits", "Message", "Receive", "Scope", "Send", "serve"]
