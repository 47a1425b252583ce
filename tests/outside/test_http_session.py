"""Talking to a service: the token stays hidden, every question is written down, patience and trust have limits."""

from __future__ import annotations

import hashlib
import json
import ssl
import sys
import time
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from auditkit.contracts import Access
from auditkit.errors import AuditkitError, ConfigurationError, DataError
from auditkit.outside import http_session
from auditkit.outside.endpoint import source
from auditkit.outside.http_manners import Manners
from tests.outside.scripted import (
    ABOUT,
    IDS,
    SCORES,
    SECRET,
    Answer,
    Handler,
    Scripted,
    breaks_off,
    echoes,
    hangs,
    hangs_up,
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


def told_text(error: BaseException) -> str:
    """All that a traceback can show, local variables included."""
    told = traceback.TracebackException.from_exception(error, capture_locals=True)
    return "".join(told.format()) + repr(error)


def test_the_token_is_sent_and_never_shown(server: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUR_TOKEN", SECRET)
    options = {"token_env": "OUR_TOKEN", "ledger": "ledger.jsonl", "retries": 0}
    url = server.case("good", {"": send(ABOUT), "scores": scores})
    found = source(url, IDS, options, folder=tmp_path)
    assert {headers["Authorization"] for _, headers, _ in server.seen} == {f"Bearer {SECRET}"}
    session = http_session.HttpSession(url, Manners(token_env="OUR_TOKEN"), tmp_path)
    shown = [repr(found), repr(vars(found.open())), repr(vars(session)), repr(vars(session._http))]
    hostile: dict[str, Answer] = {
        "echo": echoes, "wrong": send({}, 401), "hang": hangs, "drop": breaks_off, "page": raw(b"", 500),
        "moved": raw(b"", 302, Location=f"http://127.0.0.1/{SECRET}"), "absent": send({}, 404),
    }  # fmt: skip
    for name, answer in hostile.items():
        seconds = 0.2 if name == "hang" else 10.0
        with pytest.raises(AuditkitError) as caught:
            source(server.case(name, {"": answer}), IDS, {**options, "timeout": seconds}, folder=tmp_path)
        shown.append(told_text(caught.value))
        if name == "wrong":
            assert "status 401, not allowed; check the token in OUR_TOKEN" in str(caught.value)
    shown.append((tmp_path / "ledger.jsonl").read_text("utf-8"))
    assert [text for text in shown if SECRET in text] == []


def test_nothing_of_the_environment_is_used(server: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text(f"machine 127.0.0.1 login me password {SECRET}\n", "utf-8")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9/")
    url = server.case("good", {"": send(ABOUT, Set_Cookie="who=me"), "scores": scores})
    opened(url)
    assert len(server.seen) == 3
    assert not any({"Authorization", "Cookie"} & headers.keys() for _, headers, _ in server.seen)


def test_every_question_is_in_the_ledger(server: Scripted, tmp_path: Path) -> None:
    (tmp_path / "ledger.jsonl").write_text("before\n", "utf-8")
    flaky = iter([503, 200, 200, 200])

    def sometimes(handler: Handler, body: Any) -> None:
        status = next(flaky)
        (scores if status == 200 else send({}, status))(handler, body)

    url = server.case("ledger", {"": send(ABOUT), "scores": sometimes})
    source(url, IDS, {"ledger": "ledger.jsonl"}, folder=tmp_path).open().score(np.array([1]))
    first, *lines = (tmp_path / "ledger.jsonl").read_text("utf-8").splitlines()
    assert first == "before"
    found = [json.loads(line) for line in lines]
    assert len(found) == server.asked("ledger")
    assert [(line["route"], line["status"], line["ids"]) for line in found] == [
        ("", 200, 0), ("/scores", 503, 3), ("/scores", 200, 3), ("/scores", 200, 3), ("/scores", 200, 1)
    ]  # fmt: skip
    content = json.dumps({"scores": [SCORES[1]]}).encode()
    assert (found[-1]["bytes"], found[-1]["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    assert {*found[0]} == {"time", "endpoint", "route", "ids", "status", "bytes", "seconds", "sha256"}
    for line in found:
        assert line["endpoint"] == url
        assert abs((datetime.now(UTC) - datetime.fromisoformat(line["time"])).total_seconds()) < 60


@pytest.mark.parametrize(
    ("asked", "at_least", "at_most"),
    [("0", 0, 0.2), ("86400", 0.3, 1.5), ("date", 0.3, 1.5), ("later", 0, 0.2)],
    ids=["none", "capped", "date", "nonsense"],
)
def test_a_busy_service_is_asked_again_when_it_says(
    server: Scripted, monkeypatch: pytest.MonkeyPatch, asked: str, at_least: float, at_most: float
) -> None:
    monkeypatch.setattr(http_session, "_LONGEST_PAUSE_S", 0.3)
    text = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True) if asked == "date" else asked
    busy = iter([send({}, 429, Retry_After=text), send(ABOUT)])
    url = server.case("busy", {"": lambda handler, body: next(busy)(handler, body), "scores": scores})
    began = time.monotonic()
    opened(url)
    assert at_least <= time.monotonic() - began < at_most + 2
    assert server.asked("busy") == 4


def test_a_broken_connection_is_tried_again(server: Scripted) -> None:
    broken = iter([hangs_up, breaks_off, send(ABOUT)])
    url = server.case("broken", {"": lambda handler, body: next(broken)(handler, body), "scores": scores})
    assert opened(url, retries=2).access & Access.SCORES


def test_questions_are_counted_and_paced(server: Scripted) -> None:
    url = server.case("counted", {"": send(ABOUT), "scores": scores})
    began = time.monotonic()
    found = opened(url, most_queries=8, per_second=20, batch=1, retries=0)
    with pytest.raises(ConfigurationError, match="8 questions were asked, as many as most_queries allows; raise it"):
        found.open().score(np.arange(3))
    assert server.asked("counted") == 8
    assert time.monotonic() - began >= 7 / 20


def test_certificates_are_checked(tmp_path: Path) -> None:
    reason = "a certificate to test with is made by cryptography, of the extra auditkit[sign]"
    x509 = pytest.importorskip("cryptography.x509", reason=reason)
    write_certificate(x509, tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "chain.pem")
    with Scripted() as made, running(made):
        made.socket = context.wrap_socket(made.socket, server_side=True)
        url = made.case("secure", {"": send(ABOUT), "scores": scores}).replace("http:", "https:")
        with pytest.raises(
            DataError, match="its TLS certificate does not hold; mend it, or name its authority: ca_file"
        ):
            opened(url)
        found = source(url, IDS, {"ca_file": "certificate.pem"}, folder=tmp_path)
        assert found.open().score(np.array([1])).tolist() == [SCORES[1]]


def write_certificate(x509: Any, folder: Path) -> None:
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "auditkit test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    form = serialization.PrivateFormat.PKCS8
    secret = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    (folder / "certificate.pem").write_bytes(pem)
    (folder / "chain.pem").write_bytes(secret + pem)


def test_without_requests_the_extra_is_named(server: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "requests", None)
    with pytest.raises(ConfigurationError, match=r"endpoints need requests .* pip install 'auditkit\[http\]'"):
        opened(server.case("good", {"": send(ABOUT), "scores": scores}))
