"""How a service is spoken to: what an address may be, and what can be set."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from ipaddress import ip_address

from auditkit.errors import ConfigurationError

# A narrow grammar, so that no two parsers can take different hosts from one address.
_ADDRESS = re.compile(r"(https?)://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?((?:/[A-Za-z0-9._~-]+)*)/?")


@dataclass(frozen=True)
class Manners:
    """How a service is spoken to; in messages these are options.

    Attributes:
        timeout: seconds to connect, to wait for any byte, and for the whole of an answer, in (0, 3600].
        retries: how often a question is repeated after a broken connection or the statuses 429, 502, 503 and 504,
            0 to 20; between them it waits half a second, doubled each time, or what Retry-After asks for, a minute at
            most.
        per_second: most questions in a second; None sets no pace.
        most_queries: most questions at all, repeated ones included; None sets no limit.
        token_env: name of the environment variable with the bearer token, in capitals; None sends none.
        allow_http: speak plain HTTP to other machines, where everybody on the way can read along.
        ca_file: certificates (PEM) that the service's is checked against, relative to the configuration; None: the
            public authorities.
        ledger: file to which a line about every question is appended, relative to the configuration; None: none.
    """

    timeout: float = 60.0
    retries: int = 4
    per_second: float | None = None
    most_queries: int | None = None
    token_env: str | None = None
    allow_http: bool = False
    ca_file: str | None = None
    ledger: str | None = None

    def __post_init__(self) -> None:
        problems = []
        if not 0 < self.timeout <= 3600:
            problems.append(f"timeout must lie in (0, 3600] seconds, got {self.timeout}")
        if not 0 <= self.retries <= 20:
            problems.append(f"retries must lie between 0 and 20, got {self.retries}")
        if self.per_second is not None and not 0 < self.per_second < math.inf:
            problems.append(f"per_second must be a positive number, got {self.per_second}")
        if self.most_queries is not None and self.most_queries < 1:
            problems.append(f"most_queries must be 1 or more, got {self.most_queries}")
        # What stands there may be the token itself: it is not repeated. Capitals, since tokens seldom are.
        if self.token_env is not None and not re.fullmatch(r"[A-Z_][A-Z0-9_]*", self.token_env):
            problems.append("token_env must be the NAME of an environment variable: capitals, digits and underscores")
        if problems:
            raise ConfigurationError(problems)


def address_problems(address: str, *, allow_http: bool) -> list[str]:
    """What is wrong with the address of a service; nothing of one that may hold a secret is repeated."""
    if "@" in address.replace("\\", "/").partition("://")[2].partition("/")[0]:
        return ["endpoint: the address holds credentials; take them out and use the option token_env"]
    found = _ADDRESS.fullmatch(address)
    if found is None or int(found[3] or 0) > 65535 or {".", ".."} & set(found[4].split("/")):
        return [
            "endpoint: the address must be https://host[:port][/path] in ASCII letters, digits and . _ ~ -, "
            "without query, fragment or dot segments"
        ]
    if found[1] == "http" and not allow_http and not _is_loopback(found[2].strip("[]")):
        return [
            f"endpoint: {address} is plain HTTP to another machine, which everybody on the way can read and change; "
            "use https, or set the option allow_http = true"
        ]
    return []


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
