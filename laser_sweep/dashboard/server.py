"""The web server: on this machine only, for this machine only."""

from __future__ import annotations

import logging
import socket
from pathlib import Path

from dash.exceptions import DependencyException
from flask import Flask, Response, abort, request
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from laser_sweep.dashboard.app import make_app
from laser_sweep.dashboard.data import LiveStore
from laser_sweep.errors import RequestError

HOST = "127.0.0.1"
_NAMES = ("127.0.0.1", "localhost", "[::1]")
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; frame-ancestors 'none'; form-action 'self'; base-uri 'self'"
)


def check_store(store: str) -> None:
    """Raises RequestError where there is no directory that could be a store. An empty one is: a sweep may begin."""
    path = Path(store)
    if not path.exists():
        raise RequestError(f"store {store} does not exist; give the directory of a store, as a sweep prints it")
    if not path.is_dir():
        raise RequestError(f"store {store} is a file; give the directory of a store, as a sweep prints it")
    strangers = [one.name for one in path.iterdir() if not one.name.startswith(".")]
    if strangers and not any((path / table).is_dir() for table in ("trials", "predictions", "spectra")):
        raise RequestError(f"store {store} holds {strangers[0]} and no trials; give the directory of a store")


def bind(store: str, port: int) -> BaseWSGIServer:
    """A server of the dashboard of a store that listens. Raises RequestError where the port cannot be had."""
    live = LiveStore(store)
    app = make_app(live)
    guard(app.server)
    if not 0 <= port < 65536:
        raise RequestError(f"--port={port} is no port; give one from 1024 to 65535, or 0 for one that is free")
    with _listening(port) as listener:
        server = make_server(
            HOST, port, app.server, threaded=True, request_handler=_Quiet, fd=listener.fileno()
        )  # which is duplicated
    live.snapshot()
    return server


def _listening(port: int) -> socket.socket:
    """A socket of this machine's own. Raises RequestError where the port cannot be had."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        listener.listen()
    except OSError as error:
        listener.close()
        raise RequestError(
            f"--port={port} cannot be had ({error.strerror}); choose another, or --port 0 for one that is free"
        ) from None
    return listener


def guard(server: Flask) -> None:
    """Answers only what was asked under this machine's own name, and lets no page load anything from elsewhere.

    A page of another site could have its name resolve to 127.0.0.1 and then read what is served here.
    """

    def check_name() -> None:
        name = request.host.rpartition(":")[0] if request.host.rpartition(":")[2].isdigit() else request.host
        if name not in _NAMES:
            abort(403)

    def add_headers(response: Response) -> Response:
        response.headers["Content-Security-Policy"] = _POLICY
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        return response

    def not_there(error: DependencyException) -> tuple[str, int]:
        return "there is no such script", 404

    server.register_error_handler(DependencyException, not_there)
    server.before_request(check_name)
    server.after_request(add_headers)


class _Quiet(WSGIRequestHandler):
    """Requests are not news."""

    def log_request(self, *arguments: object) -> None:
        pass


logging.getLogger("werkzeug").setLevel(logging.ERROR)
