"""A Meilisearch of the tests' own: its HTTP API as far as the official client is used here.

Spec: Meilisearch API reference, "Indexes", "Documents", "Settings", "Search", "Tasks".
"""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

WHEN = "2026-01-01T00:00:00.000000Z"
CONDITION = re.compile(r"(\w+) (IN|=) (.*)\Z", re.DOTALL)
STRING = re.compile(r'"((?:[^"\\]|\\.)*)"')


class Fake:
    """What the server holds."""

    def __init__(self) -> None:
        self.indexes: dict[str, dict[str, dict[str, Any]]] = {}
        self.settings: dict[str, Any] = {}
        self.searches: list[dict[str, Any]] = []
        self.keys: set[str] = set()
        self.fails = False  # answers 500
        self.failing_tasks = False
        self.liar: Any = None  # answers this to every search

    # --- searching -------------------------------------------------------------------------------
    def search(self, uid: str, asked: dict[str, Any]) -> dict[str, Any]:
        """Judge documents as the real one does: all words, each a beginning, within filters."""
        self.searches.append(asked)
        if self.liar is not None:
            return dict(self.liar)
        found = [d for d in self.indexes[uid].values() if self._matches(d, asked)]
        found.sort(key=lambda d: -d["updated"])
        facets = {f: dict(Counter(d[f] for d in found if d[f])) for f in asked.get("facets", ())}
        page = found[asked["offset"] : asked["offset"] + asked["limit"]]
        kept = asked.get("attributesToRetrieve", ["*"])
        hits = [{k: v for k, v in d.items() if k in kept} for d in page]
        return {"hits": hits, "estimatedTotalHits": len(found), "facetDistribution": facets}

    def _matches(self, document: dict[str, Any], asked: dict[str, Any]) -> bool:
        columns = asked.get("attributesToSearchOn", self.settings["searchableAttributes"])
        words = " ".join(document[each] for each in columns).split()
        wanted = asked["q"].replace('"', " ").split()
        if not all(any(word.startswith(each) for word in words) for each in wanted):
            return False
        return all(self._holds(document, each) for each in asked["filter"])

    def _holds(self, document: dict[str, Any], condition: str) -> bool:
        match = CONDITION.match(condition)
        assert match is not None, condition
        name, _, rest = match.groups()
        assert name in self.settings["filterableAttributes"]
        allowed: list[Any] = [re.sub(r"\\(.)", r"\1", each) for each in STRING.findall(rest)]
        if rest in {"true", "false"}:
            allowed = [rest == "true"]
        value = document[name]
        return bool(set(value if isinstance(value, list) else [value]) & set(allowed))

    # --- writing ---------------------------------------------------------------------------------
    def write(self, method: str, parts: list[str], body: Any) -> None:
        """Do what a task does."""
        if parts == ["indexes"]:
            self.indexes.setdefault(body["uid"], {})
            return
        held = self.indexes.setdefault(parts[1], {})
        if parts[2:] == ["settings"]:
            self.settings |= body
        elif parts[2:] == ["documents", "delete"]:
            for each in [d for d in held.values() if self._holds(d, body["filter"])]:
                del held[each["id"]]
        elif method == "DELETE":
            held.clear()
        else:
            for each in body:
                assert re.fullmatch(r"[A-Za-z0-9_-]{1,511}", each["id"])
                held[each["id"]] = each


class Handler(BaseHTTPRequestHandler):
    """Routes requests."""

    fake: Fake

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the name it overrides has
        """Quietly."""

    def _answer(self, status: int, content: Any) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _handle(self) -> None:
        size = int(self.headers.get("content-length") or 0)
        data = self.rfile.read(size)
        body = json.loads(data) if data else None
        self.fake.keys.add(self.headers.get("authorization", ""))
        parts = self.path.partition("?")[0].strip("/").split("/")
        if self.fake.fails:
            self._answer(500, {"message": "broken", "code": "internal", "type": "x", "link": ""})
        elif parts[0] == "tasks":
            status = "failed" if self.fake.failing_tasks else "succeeded"
            task = {"uid": int(parts[1]), "status": status, "type": "x", "enqueuedAt": WHEN}
            self._answer(200, task)
        elif self.command == "GET" and len(parts) == 2:
            self._index(parts[1])
        elif parts[-1] == "search":
            self._answer(200, self.fake.search(parts[1], body))
        else:
            self.fake.write(self.command, parts, body)
            summary = {"taskUid": 1, "indexUid": "x", "status": "enqueued", "type": "x"}
            self._answer(202, {**summary, "enqueuedAt": WHEN})

    def _index(self, uid: str) -> None:
        if uid in self.fake.indexes:
            found = {"uid": uid, "primaryKey": "id", "createdAt": WHEN, "updatedAt": WHEN}
            self._answer(200, found)
        else:
            code = "index_not_found"
            self._answer(404, {"message": "no", "code": code, "type": "x", "link": ""})

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _handle  # noqa: N815  the names it looks for


@contextmanager
def serving(fake: Fake, port: int = 0) -> Generator[str]:
    """Serve on a port of 127.0.0.1; gives the URL."""
    handler = type("Bound", (Handler,), {"fake": fake})
    server = ThreadingHTTPServer(("127.0.0.1", port), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
