"""A reference server of the endpoint contract `auditkit/1`: embedding tables, answered over HTTP.

    python examples/serve.py exports/ --port 8000

serves every folder in exports/ that holds users.npy and items.npy (float [n_users, d] and [n_items, d]) below its own
name, such as http://127.0.0.1:8000/original-1, and exports/ itself, if it holds the two files, at the root. The score
of a user for an item is the product of their vectors, null where it is not finite; a fresh user is the mean of the
told items' vectors, a fresh item the mean of the told users'. The contract is in `auditkit.outside.endpoint`.

HTTP is the standard library's, the tables are NumPy's. It is made to be read and tried out, and for a trusted network.
"""

from __future__ import annotations

import argparse
import hmac
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

WORDS = ("scores", "lists", "new-users", "new-items")
MAX_USERS = 1024
MAX_BODY = 16 * 2**20


class BadRequestError(ValueError):
    """The question is not what the contract says."""


@dataclass(frozen=True, eq=False)
class Tables:
    """The vectors of one system, float [n_users, d] and [n_items, d]."""

    users: NDArray[Any]
    items: NDArray[Any]

    @classmethod
    def load(cls, folder: Path) -> Tables:
        """Read users.npy and items.npy."""
        users, items = (np.load(folder / f"{side}.npy", allow_pickle=False) for side in ("users", "items"))
        if users.ndim != 2 or items.ndim != 2 or users.shape[1] != items.shape[1]:
            raise SystemExit(f"{folder}: users.npy and items.npy must be tables of one width")
        return cls(users, items)

    def scores(self, users: Sequence[int]) -> NDArray[Any]:
        """Scores of all items, [n_given_users, n_items]."""
        return products(self.users[list(users)], self.items)

    def fold_in(self, histories: Sequence[Sequence[int]], side: str) -> NDArray[Any]:
        """Scores of fresh entities told some ids, [n_histories, n_items] or [n_histories, n_users]."""
        told = self.items if side == "user" else self.users
        return products(np.stack([told[list(history)].mean(0) for history in histories]), told)


def products(some: NDArray[Any], others: NDArray[Any]) -> NDArray[Any]:
    """Scores of rows of one table for all rows of another; what is not finite is not offered, and no cause to warn."""
    with np.errstate(invalid="ignore", over="ignore"):
        found: NDArray[Any] = some @ others.T
    return found


def ids_in(values: Any, size: int, name: str) -> list[int]:
    """The ids, if that is what they are."""
    if not isinstance(values, list) or not values or not all(type(v) is int and 0 <= v < size for v in values):
        raise BadRequestError(f"{name} must be a list of ids from 0 to {size - 1}")
    return values


def rows_in(values: Any, name: str) -> list[Any]:
    """The rows, if they are not too many."""
    if not isinstance(values, list) or not 0 < len(values) <= MAX_USERS:
        raise BadRequestError(f"{name} must be a list of 1 to {MAX_USERS}")
    return values


def with_nulls(scores: NDArray[Any]) -> list[list[float | None]]:
    """Rows for JSON. A float64 that Python writes is read back as the same float64."""
    rows: list[list[float | None]] = scores.tolist()
    for k, j in np.argwhere(~np.isfinite(scores)):
        rows[k][j] = None
    return rows


def answer_scores(system: Tables, body: Mapping[str, Any]) -> dict[str, Any]:
    """Full rows."""
    users = ids_in(rows_in(body.get("users"), "users"), len(system.users), "users")
    return {"scores": with_nulls(system.scores(users))}


def answer_lists(system: Tables, body: Mapping[str, Any]) -> dict[str, Any]:
    """The k best items of each user; equal scores rank the lower id first. Nothing a user has is left out."""
    users = ids_in(rows_in(body.get("users"), "users"), len(system.users), "users")
    k = body.get("k")
    if type(k) is not int or k < 1:
        raise BadRequestError("k must be a whole number of 1 or more")
    scores = system.scores(users).astype(float)
    order = np.argsort(np.where(np.isfinite(scores), -scores, np.inf), axis=1, kind="stable")
    return {
        "items": [[int(i) for i in best[:k] if np.isfinite(row[i])] for row, best in zip(scores, order, strict=True)]
    }


def answer_fold_in(system: Tables, body: Mapping[str, Any]) -> dict[str, Any]:
    """Rows of fresh users or items."""
    side = body.get("side")
    if side not in ("user", "item"):
        raise BadRequestError('side must be "user" or "item"')
    size = len(system.items if side == "user" else system.users)
    histories = [ids_in(h, size, "a history") for h in rows_in(body.get("histories"), "histories")]
    return {"scores": with_nulls(system.fold_in(histories, side))}


ROUTES = {"scores": answer_scores, "lists": answer_lists, "fold-in": answer_fold_in}


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "auditkit-serve", ""
    timeout = 60
    # Headers and body are sent one after the other: without this the second waits for the first's receipt.
    disable_nagle_algorithm = True
    server: Server

    def do_GET(self) -> None:
        """Describe a system."""
        self._answer(None)

    def do_POST(self) -> None:
        """Answer a question."""
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > MAX_BODY:
            self.close_connection = True
            self._send(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, {"error": f"send Content-Length, at most {MAX_BODY}"})
            return
        self._answer(self.rfile.read(int(length)))

    def _answer(self, content: bytes | None) -> None:
        try:
            self._send(*self._found(content))
        except (BadRequestError, json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
            self._send(HTTPStatus.BAD_REQUEST, {"error": str(error)})

    def _found(self, content: bytes | None) -> tuple[HTTPStatus, dict[str, Any]]:
        if not self.server.lets_in(self.headers.get("Authorization", "")):
            return HTTPStatus.UNAUTHORIZED, {"error": "the bearer token is missing or wrong"}
        path = self.path.strip("/")
        if content is None:
            system = self.server.systems.get(path)
            return (HTTPStatus.OK, self.server.described(system)) if system else _ABSENT
        name, _, route = path.rpartition("/")
        system = self.server.systems.get(name)
        if system is None or route not in ROUTES:
            return _ABSENT
        body = json.loads(content.decode("utf-8"))
        if not isinstance(body, dict):
            raise BadRequestError("the body must be an object")
        needed = f"new-{body.get('side')}s" if route == "fold-in" else route
        return (HTTPStatus.OK, ROUTES[route](system, body)) if needed in self.server.access else _ABSENT

    def _send(self, status: HTTPStatus, answer: Mapping[str, Any]) -> None:
        content = json.dumps(answer, allow_nan=False, separators=(",", ":")).encode("utf-8")
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        if status is HTTPStatus.UNAUTHORIZED:
            self.send_header("WWW-Authenticate", "Bearer")
        self.end_headers()
        self.wfile.write(content)


_ABSENT = (HTTPStatus.NOT_FOUND, {"error": "nothing is served here"})


class Server(ThreadingHTTPServer):
    """Systems by name, behind one token.

    Attributes:
        systems: name -> tables; the empty name is the root.
        access: words of the contract that are served.
    """

    def __init__(
        self, place: tuple[str, int], systems: Mapping[str, Tables], *, token: str = "", access: Sequence[str] = WORDS
    ) -> None:
        self.systems, self.access, self._token = systems, tuple(access), token
        super().__init__(place, Handler)

    def lets_in(self, authorization: str) -> bool:
        """Whether a header holds the token; compared in a time that tells nothing about it."""
        wanted = f"Bearer {self._token}".encode()
        return not self._token or hmac.compare_digest(authorization.encode("utf-8", "replace"), wanted)

    def described(self, system: Tables) -> dict[str, Any]:
        """What the contract asks a service to say of itself."""
        return {
            "contract": "auditkit/1", "n_users": len(system.users), "n_items": len(system.items),
            "access": list(self.access), "max_users_per_request": MAX_USERS,
        }  # fmt: skip


def systems_in(folder: Path) -> dict[str, Tables]:
    """The systems in a folder, by name."""
    places = {"": folder, **{path.name: path for path in sorted(folder.iterdir()) if path.is_dir()}}
    return {name: Tables.load(path) for name, path in places.items() if (path / "users.npy").is_file()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="with users.npy and items.npy, or with folders that have them")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine alone)")
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one")
    parser.add_argument("--token-env", default="", help="environment variable with the token that is asked for")
    parser.add_argument("--access", nargs="+", choices=WORDS, default=list(WORDS), help="what is served")
    chosen = parser.parse_args(arguments)
    token = os.environ.get(chosen.token_env, "")
    if chosen.token_env and not token:
        parser.error(f"the environment variable {chosen.token_env} is not set")
    systems = systems_in(chosen.folder)
    if not systems:
        parser.error(f"{chosen.folder} holds no users.npy, nor does a folder in it")
    with Server((chosen.host, chosen.port), systems, token=token, access=chosen.access) as server:
        for name, system in systems.items():
            sizes = f"{len(system.users)} users, {len(system.items)} items"
            print(f"serving http://{chosen.host}:{server.server_port}/{name} ({sizes})", file=sys.stderr, flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)


if __name__ == "__main__":
    main()
