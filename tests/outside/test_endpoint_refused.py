"""Whatever a service says that is not the contract is refused by name, and so are addresses and options."""

from __future__ import annotations

import gzip
import json
import re
import time
from collections.abc import Iterator, Mapping
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from auditkit.errors import ConfigurationError, DataError
from auditkit.outside.endpoint import source
from tests.outside.scripted import (
    ABOUT,
    IDS,
    LISTS,
    SCORES,
    SECRET,
    Answer,
    Handler,
    Scripted,
    breaks_off,
    drifting,
    drips,
    each,
    endless,
    hangs,
    hangs_up,
    in_id_order,
    listed,
    opened,
    raw,
    running,
    scores,
    scripted,
    send,
)

pytest.importorskip("requests", reason="endpoints are the extra auditkit[http]")


@pytest.fixture(scope="module")
def server() -> Iterator[Scripted]:
    with scripted() as made:
        yield made


DESCRIPTIONS: dict[str, tuple[Answer, str]] = {
    "not JSON": (raw(b"hello"), "it is not JSON in UTF-8"),
    "empty": (raw(b""), "it is not JSON in UTF-8"),
    "not UTF-8": (raw(b'{"contract": "\xff"}'), "it is not JSON in UTF-8"),
    "wrong content type": (raw(json.dumps(ABOUT).encode(), kind="text/plain"), "content type must be application/json"),
    "HTML page": (raw(b"<html>Welcome</html>", kind="text/html"), "content type must be application/json"),
    "HTML error page": (raw(b"<html>Oops</html>", 500, "text/html"), r"status 500 instead of 200; see the service's"),
    "no content": (raw(b"", 204), "status 204 instead of 200"),
    "a list": (send([1, 2]), "it must be an object, got a list"),
    "too large": (send({**ABOUT, "more": "x" * 10**6}), r"it is longer than \d+ bytes"),
    "gzip bomb": (raw(gzip.compress(b" " * 10**8, 9), Content_Encoding="gzip"), r"it is longer than \d+ bytes"),
    "damaged gzip": (raw(b"\x1f\x8bnothing", Content_Encoding="gzip"), "its compression is damaged"),
    "compressed twice": (raw(gzip.compress(b"{}"), Content_Encoding="gzip, gzip"), "its compression must be gzip"),
    "endless body": (endless, r"it is longer than \d+ bytes"),
    "deep nesting": (raw(b'{"a":' * 2000 + b"1" + b"}" * 2000), "it is nested too deeply"),
    "a key twice": (raw(b'{"contract": "auditkit/1", "contract": "auditkit/1"}'), "a key stands twice in one object"),
    "another key": (send({**ABOUT, "max_user_per_request": 5}), "1 of its keys are unknown; the contract has contract"),
    "missing keys": (send({"contract": "auditkit/1", "access": ["scores"]}), "it lacks 'n_users', 'n_items'"),
    "another version": (send({**ABOUT, "contract": "auditkit/2"}), "must be 'auditkit/1', got auditkit/2"),
    "another contract": (send({"openapi": "3.1.0"}), "must be 'auditkit/1', got something else"),
    "wrong sizes": (send({**ABOUT, "n_items": 5}), "n_items must be 4, as in the data, got 5"),
    "a size that is true": (send({**ABOUT, "n_users": True}), "n_users must be a whole number, got true or false"),
    "a size as text": (send({**ABOUT, "n_users": "3"}), "n_users must be a whole number, got text"),
    "a limit of none": (send({**ABOUT, "max_users_per_request": 0}), "max_users_per_request must lie between 1 and"),
    "unknown access": (send({**ABOUT, "access": ["weights"]}), "access must be a list of words out of scores, lists"),
    "no access": (send({**ABOUT, "access": ["new-users"]}), "access must hold scores or lists"),
    "own ids, no items": (send({**ABOUT, "ids": "own"}), "own ids need items"),
    "own ids, unknown": (send({**ABOUT, "ids": "own", "items": ["0", "1", "2", "9"]}), "items holds ids that are not"),
    "own ids, twice": (send({**ABOUT, "ids": "own", "items": ["0", "1", "2", "2"]}), "items holds an id twice"),
    "own ids, numbers": (send({**ABOUT, "ids": "own", "items": [0, 1, 2, 3]}), "ids as text, got a whole number"),
    "own ids, too few": (send({**ABOUT, "ids": "own", "items": ["0"]}), "items must be a list of 4 ids"),
    "ids of another kind": (send({**ABOUT, "ids": "hashed"}), 'ids must be "own"'),
    "moved": (raw(b"", 301, Location="http://example.org/"), r"it redirects \(status 301\), which is not followed"),
    "nothing there": (send({}, 404), "status 404, nothing is served there"),
    "no token": (send({}, 401), "status 401, not allowed; name the variable with its token: token_env"),
    "busy for ever": (send({}, 429, Retry_After="0"), "status 429, 2 times in a row; look after the service"),
    "gateway": (send({}, 502), "status 502, 2 times in a row"),
    "drops midway": (breaks_off, r"the connection failed or broke off \(.*\), 2 times in a row"),
    "hangs up": (hangs_up, r"the connection failed or broke off \(.*\), 2 times in a row"),
}
ANSWERS: dict[str, tuple[Answer, str]] = {
    "no scores": (send({"rows": []}), "/scores: it lacks 'scores'"),
    "scores and more": (send({"scores": [], "took": 3}), "1 of its keys are unknown; the contract has scores"),
    "scores as text": (send({"scores": "0.5"}), "scores must be a list of rows, got text"),
    "a row too few": (send({"scores": SCORES[:2]}), "scores must have 3 rows, one for each asked, got 2"),
    "a row too many": (send({"scores": [*SCORES, SCORES[0]]}), "scores must have 3 rows, one for each asked, got 4"),
    "a row as object": (each({"0": 1.0}), r"scores\[0\] must be a list, got an object"),
    "short rows": (each([1.0, 2.0]), r"scores\[0\] must have 4 entries, got 2; send full rows"),
    "long rows": (each([1.0] * 5), r"scores\[0\] must have 4 entries, got 5"),
    "text for numbers": (each([1.0, "2.0", 3.0, 4.0]), r"scores\[0\] must hold numbers or null, got text"),
    "booleans": (each([True, False, 1.0, 2.0]), r"scores\[0\] must hold numbers or null, got true or false"),
    "deeper rows": (each([[1.0], 2.0, 3.0, 4.0]), r"scores\[0\] must hold numbers or null, got a list"),
    "NaN": (each("[NaN, 1, 2, 3]"), "it holds NaN, which JSON does not have; send null"),
    "Infinity": (each("[-Infinity, 1, 2, 3]"), "it holds -Infinity, which JSON does not have"),
    "1e999": (each("[1e999, 1, 2, 3]"), "scores holds a number beyond the range of float64"),
    "a whole number beyond": (each("[1" + "0" * 400 + ", 1, 2, 3]"), "scores holds a number beyond the range"),
    "all null": (each([None] * 4), "it offers no item to any of 3 users asked"),
    "another answer each time": (drifting(), "asked twice, 3 of 3 users got other answers; switch off A/B tests"),
    "rows in order of ids": (in_id_order, "asked twice, 2 of 3 users got other answers"),
    "no such route": (send({}, 404), "/scores: status 404, nothing is served there"),
    "not allowed": (send({}, 403), "/scores: status 403, not allowed"),
    "too long an answer": (each("[1, 2, 3, 4" + " " * 10**5 + "]"), r"it is longer than \d+ bytes"),
}
LISTED: dict[str, tuple[Answer, str]] = {
    "list too long": (listed([0, 1, 2, 3]), r"items\[0\] must hold at most 3 items, as asked, got 4"),
    "an item twice": (listed([1, 1]), r"items\[0\] holds an id twice"),
    "an item outside": (listed([0, 4]), r"items\[0\] must hold ids from 0 to 3; one lies outside"),
    "an item below": (listed([-1]), r"items\[0\] must hold ids from 0 to 3"),
    "items as fractions": (listed([1.0]), r"items\[0\] must hold whole numbers, got a number"),
    "items as truth": (listed([True]), r"items\[0\] must hold whole numbers, got true or false"),
    "no list": (listed(None), r"items\[0\] must be a list, got null"),
    "empty lists": (listed([]), "it offers no item to any of 3 users asked"),
}
CASES = [
    *((name, {"": first}, message) for name, (first, message) in DESCRIPTIONS.items()),
    *((name, {"": send(ABOUT), "scores": answer}, message) for name, (answer, message) in ANSWERS.items()),
    *((name, {"": send(LISTS), "lists": answer}, message) for name, (answer, message) in LISTED.items()),
]  # fmt: skip


@pytest.mark.parametrize(("name", "routes", "message"), CASES, ids=[name for name, _, _ in CASES])
def test_what_is_not_the_contract_is_refused(
    server: Scripted, name: str, routes: Mapping[str, Answer], message: str
) -> None:
    url = server.case(re.sub("[^A-Za-z0-9]", "-", name), routes)
    options: dict[str, Any] = {"list_length": 3} if "lists" in routes else {}
    with pytest.raises((DataError, ConfigurationError), match=message) as caught:
        opened(url, retries=1, timeout=5.0, **options)
    assert url in str(caught.value)


@pytest.mark.parametrize(("answer", "name"), [(hangs, "hangs"), (drips, "drips")])
def test_a_slow_answer_is_not_waited_for(server: Scripted, answer: Answer, name: str) -> None:
    began = time.monotonic()
    with pytest.raises(DataError, match=r"no answer within 0.2 s, 2 times|longer than the option timeout"):
        opened(server.case(name, {"": answer}), timeout=0.2, retries=1)
    assert time.monotonic() - began < 3


def test_nobody_listens() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as free:
        port = free.server_port
    with pytest.raises(DataError, match=r"the connection failed or broke off \(ConnectionError\), 1 times in a row"):
        opened(f"http://127.0.0.1:{port}", retries=0)


def test_a_redirect_reaches_nobody(server: Scripted) -> None:
    url = server.case("other", {"": send(ABOUT), "scores": scores})
    with Scripted() as second, running(second):
        first = second.case("first", {"": raw(b"", 307, Location=url)})
        with pytest.raises(DataError, match="it redirects"):
            opened(first)
        assert (second.asked("first"), server.asked("other")) == (1, 0)


BAD_OPTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "unknown": ({"token": SECRET}, "endpoint has no option 'token'; did you mean 'token_env'"),
    "type": ({"batch": "7"}, "endpoint: batch must be"),
    "batch": ({"batch": 0}, "endpoint: batch must be 1 or more, got 0"),
    "list length": ({"list_length": 0}, "endpoint: list_length must be 1 or more, got 0"),
    "timeout": ({"timeout": float("nan")}, r"endpoint: timeout must lie in \(0, 3600\] seconds, got nan"),
    "retries": ({"retries": 21}, "endpoint: retries must lie between 0 and 20, got 21"),
    "pace": ({"per_second": 0.0}, "endpoint: per_second must be a positive number, got 0.0"),
    "queries": ({"most_queries": 0}, "endpoint: most_queries must be 1 or more, got 0"),
    "token itself": ({"token_env": SECRET}, "endpoint: token_env must be the NAME of an environment variable"),
    "no variable": (
        {"token_env": "UNSET_TOKEN"},
        "environment variable UNSET_TOKEN, which token_env names, is not set",
    ),
    "bad token": ({"token_env": "BAD_TOKEN"}, "the token in the environment variable BAD_TOKEN must be printable"),
    "no certificates": ({"ca_file": "absent.pem"}, "endpoint: ca_file .*absent.pem is not a file; name one"),
    "ledger's folder": ({"ledger": "absent/ledger.jsonl"}, "the folder of ledger .* does not exist; make it"),
    "ledger is a folder": ({"ledger": "."}, "endpoint: ledger .* is not a file; name one"),
}


@pytest.mark.parametrize(("options", "message"), BAD_OPTIONS.values(), ids=BAD_OPTIONS)
def test_options_are_checked_before_anything_is_sent(
    server: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], message: str
) -> None:
    monkeypatch.delenv("UNSET_TOKEN", raising=False)
    monkeypatch.setenv("BAD_TOKEN", f"{SECRET}\r\nHost: elsewhere")
    url = server.case("good", {"": send(ABOUT), "scores": scores})
    with pytest.raises(ConfigurationError, match=message) as caught:
        source(url, IDS, options, folder=tmp_path)
    assert SECRET not in str(caught.value)
    assert server.seen == []


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (
            f"https://me:{SECRET}@127.0.0.1/",
            "the address holds credentials; take them out and use the option token_env",
        ),
        (f"https://{SECRET}\\@127.0.0.1/", "the address must be|holds credentials"),
        (f"https://127.0.0.1/?key={SECRET}", "without query, fragment or dot segments"),
        (f"https://127.0.0.1/#{SECRET}", "without query, fragment or dot segments"),
        ("https://127.0.0.1/a/../b", "without query, fragment or dot segments"),
        ("https://127.0.0.1:99999/", "the address must be https://host"),
        ("https://127.0.0.1 /", "the address must be https://host"),
        ("https://127.0.0.1/\n", "the address must be https://host"),
        ("https://b\u00fccher.example/", "in ASCII letters"),
        ("file:///etc/passwd", "the address must be https://host"),
        ("ftp://127.0.0.1/", "the address must be https://host"),
        ("127.0.0.1:80", "the address must be https://host"),
        ("http://example.org/", "plain HTTP to another machine"),
        ("http://127.0.0.1.example.org/", "plain HTTP to another machine"),
        ("http://2130706433/", "plain HTTP to another machine"),
        ("http://[2001:db8::1]/", "plain HTTP to another machine"),
    ],
)
def test_addresses_that_are_refused(address: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        opened(address, timeout=0.0)
    # All problems at once.
    assert len(caught.value.problems) == 2
    assert SECRET not in str(caught.value)


def test_plain_http_to_another_machine_only_where_it_is_allowed(
    server: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No other machine is needed: this one has names besides the loopback ones that are recognised without asking DNS.
    url = server.case("good", {"": send(ABOUT), "scores": scores}).replace("127.0.0.1", "127.1")
    with pytest.raises(ConfigurationError, match="plain HTTP to another machine"):
        opened(url)
    assert opened(url, allow_http=True).text == f"endpoint {url}"
