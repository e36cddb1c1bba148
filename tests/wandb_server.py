"""A W&B server of this machine, as far as runs, tables and views need one: it says yes and writes down what it is told.

The client is real, with its service process and its files; only the network's other end is not.
"""

from __future__ import annotations

import gzip
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ENTITY = "somebody"
_VIEW = {"id": "view-1", "type": "runs", "description": "", "createdAt": None, "updatedAt": None}


class WandbServer:
    """What was asked: `calls` of GraphQL with their variables, and the `history` of each run by step."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.history: dict[str, list[dict[str, Any]]] = {}
        self.summary: dict[str, dict[str, Any]] = {}
        self.known: set[str] = set()
        self.stalled = threading.Event()
        """While it is set, nothing that belongs to a run's history is answered."""
        self.released = threading.Event()
        self.port = 0

    @property
    def environment(self) -> dict[str, str]:
        """Variables that lead the client here."""
        here = f"http://127.0.0.1:{self.port}"
        return {"WANDB_BASE_URL": here, "WANDB_API_KEY": "0" * 40, "WANDB_ERROR_REPORTING": "false"}

    def named(self, call: str) -> list[dict[str, Any]]:
        return [variables for name, variables in self.calls if name == call]

    @contextmanager
    def running(self) -> Iterator[WandbServer]:
        server = _Server(("127.0.0.1", 0), _handler(self))
        self.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.released.set()
            server.shutdown()
            server.server_close()

    def graphql(self, name: str, variables: dict[str, Any]) -> dict[str, Any]:
        self.calls.append((name, variables))
        if name == "UpsertBucket":
            return {"upsertBucket": {"bucket": self._bucket(variables), "inserted": True}}
        if name == "RunResumeStatus":
            seen = variables["name"] in self.known
            return {"model": {"bucket": self._resumed(variables) if seen else None}}
        if name == "CreateRunFiles":
            files = [{"name": file, "uploadUrl": f"http://127.0.0.1:{self.port}/upload"} for file in variables["files"]]
            return {"createRunFiles": {"runID": "run", "uploadHeaders": [], "files": files}}
        if name in ("UpsertView2", "upsertView"):
            view = {**_VIEW, **{key: variables.get(key) for key in ("name", "displayName", "spec")}}
            project = {"id": "p", "name": variables["projectName"], "entityName": variables["entityName"]}
            return {"upsertView": {"view": {**view, "project": project}, "inserted": True}}
        return _ANSWERS.get(name, {})

    def _bucket(self, variables: dict[str, Any]) -> dict[str, Any]:
        self.known.add(variables["name"])
        project = {"name": variables["project"], "entity": {"name": ENTITY}}
        names = {name: variables[name] for name in ("name", "displayName")}
        said = {"description": "", "config": "{}", "sweepName": None, "historyLineCount": 0}
        return {"id": variables["name"], **names, **said, "project": project}

    def _resumed(self, variables: dict[str, Any]) -> dict[str, Any]:
        """A run that is there already."""
        counts = {f"{name}LineCount": 0 for name in ("history", "events", "log")}
        config = json.dumps({"seed": {"value": "another one"}})
        state = {"config": config, "summaryMetrics": "{}", "historyTail": "[]", "eventsTail": "[]", "wandbConfig": "{}"}
        return {"name": variables["name"], "id": "x", "tags": [], **counts, **state}

    def stream(self, run: str, body: dict[str, Any]) -> None:
        files = body.get("files") or {}
        for line in files.get("wandb-history.jsonl", {}).get("content", []):
            self.history.setdefault(run, []).append(json.loads(line))
        for line in files.get("wandb-summary.json", {}).get("content", []):
            self.summary[run] = json.loads(line)


_ANSWERS: dict[str, Any] = {
    "Viewer": {"viewer": {"id": "1", "entity": ENTITY, "username": ENTITY, "flags": "{}", "teams": {"edges": []}}},
    "GetDefaultEntity": {"viewer": {"id": "1", "entity": ENTITY}},
    "ArtifactType": {"project": {"artifact": None}},
    "ServerFeaturesQuery": {"serverInfo": {"features": []}},
    "CreateArtifact": {
        "createArtifact": {
            "artifact": {"id": "a", "state": "COMMITTED", "artifactSequence": {"latestArtifact": {"id": "a"}}}
        }
    },
    "GetProjects": {
        "models": {"pageInfo": {"__typename": "PageInfo", "endCursor": None, "hasNextPage": False}, "edges": []}
    },
    "CreateProject": {"upsertModel": {"model": {"id": "p", "name": "p", "entityName": ENTITY}, "inserted": True}},
}  # fmt: skip


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *args: object) -> None:
        """The client leaves when it likes."""


def _handler(server: WandbServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: object) -> None:
            pass

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            answer: dict[str, Any] = {"exitcode": None, "limits": {}}
            if self.path == "/graphql":
                asked = json.loads(body)
                name = re.search(r"(?:query|mutation)\s+(\w+)", asked["query"])
                answer = {"data": server.graphql(name[1] if name else "", asked.get("variables") or {})}
            elif self.path.endswith("/file_stream"):
                if server.stalled.is_set():
                    server.released.wait()
                server.stream(self.path.split("/")[-2], json.loads(body))
            text = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_PUT = do_GET = do_POST

    return Handler
