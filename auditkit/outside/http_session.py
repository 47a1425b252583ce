"""Speaking HTTP with a service that need not be friendly: only as configured, bounded in size, time and number.

`requests` is the extra `auditkit[http]` and is imported when it is needed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from auditkit.errors import ConfigurationError, DataError
from auditkit.extras import needed
from auditkit.outside.http_manners import Manners
from auditkit.outside.json_answers import AnswerError, read_json

if TYPE_CHECKING:
    import requests

Read = TypeVar("Read")

# The first pause before a question is repeated, doubled each time, and the longest: a service cannot park an audit.
_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 60.0
# Read at a time: small against any limit, so that a compressed bomb is noticed while it unfolds.
_CHUNK = 2**16
_BUSY = (429, 502, 503, 504)
_ABSENT = (404, 405, 501)


class NotServedError(DataError):
    """The service has no such route."""


class _AgainError(AnswerError):
    """What may have passed when the question is repeated."""

    def __init__(self, why: str, pause: float | None = None) -> None:
        super().__init__(why)
        self.pause = pause


class _Bearer:
    """The token, which no representation shows."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._token = os.environ.get(name, "")
        if not self._token:
            raise ConfigurationError(
                f"endpoint: the environment variable {name}, which token_env names, is not set; set it to the token"
            )
        if not re.fullmatch(r"[\x21-\x7e]+", self._token):
            raise ConfigurationError(
                f"endpoint: the token in the environment variable {name} must be printable ASCII without spaces or "
                "line ends; set it again"
            )

    def __repr__(self) -> str:
        return f"<token in {self.name}>"

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def _file(name: str | None, folder: Path, option: str, *, exists: bool) -> Path | None:
    if name is None:
        return None
    path = folder / name
    if (path.exists() or exists) and not path.is_file():
        raise ConfigurationError(f"endpoint: {option} {path} is not a file; name one")
    if not path.parent.is_dir():
        raise ConfigurationError(f"endpoint: the folder of {option} {path} does not exist; make it")
    return path


class HttpSession:
    """Questions to one service.

    Redirects are not followed; proxies, netrc and certificate settings of the environment and cookies are not used;
    TLS certificates are always checked.

    Attributes:
        address: scheme, host and path.
    """

    def __init__(self, address: str, manners: Manners, folder: Path) -> None:
        """Nothing is sent yet.

        Args:
            address: checked by `address_problems`.
            manners: how to speak.
            folder: what file names in `manners` are relative to.

        Raises:
            ConfigurationError: `requests`, the token's variable or a file is missing.
        """
        self.address = address.rstrip("/")
        self._manners, self._sent, self._turn = manners, 0, 0.0
        self._ledger = _file(manners.ledger, folder, "ledger", exists=False)
        ca_file = _file(manners.ca_file, folder, "ca_file", exists=True)
        bearer = _Bearer(manners.token_env) if manners.token_env else None
        self._http = _client(bearer, ca_file)

    def ask(
        self, route: str, read: Callable[[dict[str, Any]], Read], *, limit: int, body: Any = None, ids: int = 0
    ) -> Read:
        """Ask, and read the answer.

        Args:
            route: what follows the address; asked by POST where there is a body, else by GET.
            read: makes something of the answer's object, or raises AnswerError.
            limit: most bytes of the answer, uncompressed.
            body: sent as JSON.
            ids: how many ids it names, for the ledger.

        Raises:
            NotServedError: there is no such route.
            DataError: there is no answer, or one that cannot be used.
            ConfigurationError: the token is not accepted, or the limit of questions is reached.
        """
        try:
            return read(read_json(self._patient(route, body, ids, limit)))
        except AnswerError as error:
            # Without the cause: its frames hold headers, and with them the token.
            raise DataError(f"endpoint {self.address}{route}: {error}") from None

    def _patient(self, route: str, body: Any, ids: int, limit: int) -> bytes:
        why, pause = "", 0.0
        for attempt in range(self._manners.retries + 1):
            time.sleep(pause)
            try:
                return self._once(route, body, ids, limit)
            except _AgainError as error:
                asked = _PAUSE_S * 2**attempt if error.pause is None else error.pause
                why, pause = str(error), min(asked, _LONGEST_PAUSE_S)
        tries = self._manners.retries + 1
        raise AnswerError(f"{why}, {tries} times in a row; look after the service, or raise retries or timeout")

    def _once(self, route: str, body: Any, ids: int, limit: int) -> bytes:
        from requests import RequestException
        from urllib3.exceptions import HTTPError

        self._await_turn()
        sent, began = datetime.now(UTC), time.monotonic()
        status, content = None, b""
        seconds = self._manners.timeout
        try:
            with self._http.request(
                "GET" if body is None else "POST", self.address + route, json=body, stream=True,
                allow_redirects=False, timeout=seconds,
            ) as response:  # fmt: skip
                status = response.status_code
                self._check_status(response, route)
                content = _body(response, limit, began + seconds)
                return content
        except (RequestException, HTTPError, OSError) as error:
            raise self._failure(error) from None
        finally:
            self._note(sent, route, ids, status, content, time.monotonic() - began)

    def _await_turn(self) -> None:
        most, pace = self._manners.most_queries, self._manners.per_second
        if most is not None and self._sent >= most:
            raise ConfigurationError(
                f"endpoint {self.address}: {most} questions were asked, as many as most_queries allows; raise it, or "
                "raise batch"
            )
        self._sent += 1
        if pace is not None:
            time.sleep(max(0.0, self._turn - time.monotonic()))
            self._turn = time.monotonic() + 1 / pace

    def _check_status(self, response: requests.Response, route: str) -> None:
        status, name = response.status_code, self._manners.token_env
        if status == 200:
            return
        if status in _BUSY:
            raise _AgainError(f"it answered with status {status}", _asked_pause(response))
        if status in _ABSENT:
            raise NotServedError(f"endpoint {self.address}{route}: status {status}, nothing is served there")
        if status in (401, 403):
            remedy = f"check the token in {name}" if name else "name the variable with its token: token_env"
            raise ConfigurationError(f"endpoint {self.address}{route}: status {status}, not allowed; {remedy}")
        if 300 <= status < 400:
            raise AnswerError(f"it redirects (status {status}), which is not followed; configure the final address")
        raise AnswerError(f"it answered with status {status} instead of 200; see the service's own log")

    def _failure(self, error: Exception) -> AnswerError:
        from requests.exceptions import SSLError, Timeout
        from urllib3.exceptions import DecodeError, ReadTimeoutError

        if isinstance(error, SSLError):
            return AnswerError("its TLS certificate does not hold; mend it, or name its authority: ca_file")
        if isinstance(error, Timeout | ReadTimeoutError):
            return _AgainError(f"no answer within {self._manners.timeout:g} s")
        if isinstance(error, DecodeError):
            return AnswerError("its compression is damaged; send it uncompressed")
        return _AgainError(f"the connection failed or broke off ({type(error).__name__})")

    def _note(self, sent: datetime, route: str, ids: int, status: int | None, content: bytes, seconds: float) -> None:
        if self._ledger is None:
            return
        line = {
            "time": sent.isoformat(timespec="milliseconds"), "endpoint": self.address, "route": route, "ids": ids,
            "status": status, "bytes": len(content), "seconds": round(seconds, 3),
            "sha256": hashlib.sha256(content).hexdigest(),
        }  # fmt: skip
        try:
            with self._ledger.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            raise ConfigurationError(f"endpoint: cannot write ledger {self._ledger}: {error.strerror}") from None


def _client(bearer: _Bearer | None, ca_file: Path | None) -> requests.Session:
    with needed("http", "endpoints need requests"):
        import requests
    made = requests.Session()
    # No proxy, netrc or certificate setting of the environment: only what the configuration says.
    made.trust_env = False
    made.auth = bearer
    made.verify = True if ca_file is None else str(ca_file)
    made.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    made.headers.update({"Accept": "application/json", "Accept-Encoding": "gzip", "User-Agent": "auditkit"})
    return made


def _asked_pause(response: requests.Response) -> float | None:
    from urllib3.exceptions import InvalidHeader
    from urllib3.util import Retry

    try:
        return Retry().parse_retry_after(response.headers["Retry-After"])
    except (KeyError, InvalidHeader):
        return None


def _body(response: requests.Response, limit: int, deadline: float) -> bytes:
    """The uncompressed answer, read no further than limit and deadline."""
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise AnswerError("its content type must be application/json; is this the right address?")
    if response.headers.get("Content-Encoding", "identity").lower() not in ("identity", "gzip"):
        raise AnswerError("its compression must be gzip or none")
    found = bytearray()
    while chunk := response.raw.read1(_CHUNK, decode_content=True):
        found += chunk
        if len(found) > limit:
            raise AnswerError(
                f"it is longer than {limit} bytes, more than any answer to this needs; send JSON without indentation"
            )
        if time.monotonic() > deadline:
            raise AnswerError("it takes longer than the option timeout allows; raise it, or lower batch")
    return bytes(found)
