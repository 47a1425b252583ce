"""A local server that does what a case says, honest or hostile, and what most cases of an endpoint share."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from auditkit.outside import http_session
from auditkit.outside.endpoint import source
from auditkit.outside.source import Ids, Source

SECRET = "sesame-4711-open"
N_USERS, N_ITEMS = 3, 4
SCORES: list[list[float | None]] = [[0.5, -1.25, None, 3.0], [2.0, 1.0, 0.0, -1.0], [1e-300, 5e-324, -0.0, 1e300]]
ABOUT: dict[str, Any] = {"contract": "auditkit/1", "n_users": N_USERS, "n_items": N_ITEMS, "access": ["scores"]}
LISTS = {**ABOUT, "access": ["lists"]}
IDS = Ids(N_USERS, N_ITEMS)

Answer = Callable[["Handler", Any], None]


class Handler(BaseHTTPRequestHandler):
    """Does what a case says: the first part of the path names it, the rest is the route."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Scripted

    def do_GET(self) -> None:
        self._do(None)

    def do_POST(self) -> None:
        self._do(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def _do(self, body: Any) -> None:
        _, name, *rest = self.path.split("/")
        self.server.seen.append((self.path, dict(self.headers), body))
        self.server.cases[name].get("/".join(rest), send({}, 404))(self, body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


class Scripted(ThreadingHTTPServer):
    """A server of cases: name -> route -> what it does."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.cases: dict[str, Mapping[str, Answer]] = {}
        self.seen: list[tuple[str, dict[str, str], Any]] = []
        self.over = threading.Event()

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass

    def case(self, name: str, routes: Mapping[str, Answer]) -> str:
        self.cases[name] = routes
        self.seen.clear()
        return f"http://127.0.0.1:{self.server_port}/{name}"

    def asked(self, name: str) -> int:
        return sum(path.split("/")[1] == name for path, _, _ in self.seen)


def raw(content: bytes, status: int = 200, kind: str = "application/json", **headers: str) -> Answer:
    def answer(handler: Handler, body: Any) -> None:
        handler.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(content)), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(content)

    return answer


def send(answer: Any, status: int = 200, **headers: str) -> Answer:
    return raw(json.dumps(answer).encode(), status, **headers)


def scores(handler: Handler, body: Any) -> None:
    send({"scores": [SCORES[u] for u in body["users"]]})(handler, body)


def told(handler: Handler, body: Any) -> None:
    width = N_ITEMS if body["side"] == "user" else N_USERS
    send({"scores": [[float(sum(h))] * width for h in body["histories"]]})(handler, body)


def each(row: Any) -> Answer:
    """The same row for everybody, as it stands."""

    def answer(handler: Handler, body: Any) -> None:
        text = row if isinstance(row, str) else json.dumps(row)
        raw(f'{{"scores": [{", ".join([text] * len(body["users"]))}]}}'.encode())(handler, body)

    return answer


def listed(row: Any) -> Answer:
    return lambda handler, body: send({"items": [row] * len(body["users"])})(handler, body)


def hangs(handler: Handler, body: Any) -> None:
    handler.server.over.wait(20)


def endless(handler: Handler, body: Any) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    while not handler.server.over.is_set():
        handler.wfile.write(b"4000\r\n" + b" " * 0x4000 + b"\r\n")


def drips(handler: Handler, body: Any) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", "200")
    handler.end_headers()
    while not handler.server.over.wait(0.02):
        handler.wfile.write(b" ")


def breaks_off(handler: Handler, body: Any) -> None:
    handler.close_connection = True
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"contract": ')


def hangs_up(handler: Handler, body: Any) -> None:
    handler.close_connection = True


def drifting() -> Answer:
    count = iter(range(10**6))
    return lambda handler, body: each([float(next(count)), 1.0, 2.0, 3.0])(handler, body)


def in_id_order(handler: Handler, body: Any) -> None:
    send({"scores": [SCORES[u] for u in sorted(body["users"])]})(handler, body)


def echoes(handler: Handler, body: Any) -> None:
    told = handler.headers["Authorization"].removeprefix("Bearer ")
    send({**ABOUT, "contract": told, told: told})(handler, body)


@contextmanager
def running(made: ThreadingHTTPServer) -> Iterator[str]:
    thread = threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{made.server_port}"
    finally:
        made.shutdown()
        thread.join()


@contextmanager
def scripted() -> Iterator[Scripted]:
    """A running server of cases, asked by sessions that hardly pause."""
    with pytest.MonkeyPatch.context() as patch, Scripted() as made, running(made):
        patch.setattr(http_session, "_PAUSE_S", 0.001)
        yield made
        made.over.set()


def opened(url: str, ids: Ids = IDS, **options: Any) -> Source:
    return source(url, ids, options, folder=Path())


# Name -> what is asked first (GET) or for scores, and what is said of it.
