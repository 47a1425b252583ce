"""Keys and envelopes: every changed bit is found, and nothing but the trusted key opens what is signed."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from securesystemslib.dsse import Envelope

from auditkit.errors import ConfigurationError
from auditkit.signing import (
    CertificateError,
    canonical_bytes,
    new_key_pair,
    open_envelope,
    public_key_of,
    signed_envelope,
    signer_of,
)

TYPE = "application/vnd.in-toto+json"
PAYLOAD = b'{"verdict": "PASS", "limits": ["\xc3\xa9>?\xf0\x9f"]}~~'


@pytest.fixture(scope="module")
def pair() -> tuple[bytes, bytes]:
    return new_key_pair()


def part(content: bytes, public: bytes) -> str:
    with pytest.raises(CertificateError) as refused:
        open_envelope(content, public_key_of(public))
    return refused.value.part


def test_two_key_pairs_differ() -> None:
    assert new_key_pair() != new_key_pair()


def test_what_is_no_ed25519_key_is_refused(pair: tuple[bytes, bytes]) -> None:
    private, public = pair
    made = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    other = made.private_bytes(pem, form, serialization.NoEncryption())
    locked = serialization.load_pem_private_key(private, None).private_bytes(
        pem, form, serialization.BestAvailableEncryption(b"secret")
    )
    for bad in (public, b"", b"junk", locked):
        with pytest.raises(ConfigurationError, match="--key must hold an unencrypted private key in PEM"):
            signer_of(bad)
    for bad in (private, b"", b"junk"):
        with pytest.raises(ConfigurationError, match="--key must hold a public key in PEM"):
            public_key_of(bad)
    with pytest.raises(ConfigurationError, match="must hold an ed25519 key, got another kind"):
        signer_of(other)
    with pytest.raises(ConfigurationError, match="must hold an ed25519 key, got another kind"):
        public_key_of(made.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo))


def test_every_flipped_bit_of_a_certificate_is_found(pair: tuple[bytes, bytes]) -> None:
    content, key = signed_envelope(PAYLOAD, TYPE, signer_of(pair[0])), public_key_of(pair[1])
    assert open_envelope(content, key) == (PAYLOAD, TYPE)
    for at in range(len(content)):
        for bit in range(8):
            flipped = content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :]
            with pytest.raises(CertificateError) as refused:
                open_envelope(flipped, key)
            assert refused.value.part in ("certificate", "signature")


def test_every_other_byte_at_every_seam_is_found(pair: tuple[bytes, bytes]) -> None:
    """All 255 other values where JSON or Base64 might let one through: punctuation, padding and the last line."""
    content, key = signed_envelope(PAYLOAD, TYPE, signer_of(pair[0])), public_key_of(pair[1])
    seams = [at for at, byte in enumerate(content) if byte in b'{}[],:"=\n' or content[at + 1 : at + 2] in (b"=", b'"')]
    for at in seams:
        for other in set(range(256)) - {content[at]}:
            with pytest.raises(CertificateError):
                open_envelope(content[:at] + bytes([other]) + content[at + 1 :], key)


def rewritten(content: bytes) -> Iterator[bytes]:
    """The same envelope in other bytes, as JSON and Base64 allow, and with what no signature covers."""
    envelope = json.loads(content)
    payload, signature = envelope["payload"], envelope["signatures"][0]
    yield content.rstrip()
    yield json.dumps(envelope, indent=1).encode()
    yield json.dumps(envelope).encode("utf-16")
    yield content.replace(b'{"payload":', b'{"payload":"e30=","payload":')
    for changed in (
        {"payload": payload.replace("+", "-").replace("/", "_")}, {"note": "x"}, {"signatures": [signature, signature]},
        {"signatures": [{**signature, "cert": "x"}]},
    ):  # fmt: skip
        yield canonical_bytes({**envelope, **changed}) + b"\n"


def test_an_envelope_written_otherwise_is_not_the_certificate(pair: tuple[bytes, bytes]) -> None:
    content = signed_envelope(PAYLOAD, TYPE, signer_of(pair[0]))
    assert "/" in json.loads(content)["payload"]
    for changed in rewritten(content):
        assert changed != content
        assert part(changed, pair[1]) == "certificate"


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{}", b"[]", b"null", b"1", b"\xff", b"[" * 100_000, b'{"payload":1,"payloadType":"","signatures":[]}',
        b'{"payload":"","payloadType":"","signatures":{}}', b'{"payload":"","payloadType":"","signatures":[1]}',
        b'{"payload":"%","payloadType":"","signatures":[]}', b'{"payload":"\\ud800","payloadType":"","signatures":[]}',
        b'{"payload":"","payloadType":"","signatures":[{"keyid":1,"sig":""}]}',
        b'{"payload":"","payloadType":"\\ud800","signatures":[{"keyid":"","sig":""}]}\n',
    ],
)  # fmt: skip
def test_what_is_no_envelope_is_named(content: bytes, pair: tuple[bytes, bytes]) -> None:
    assert part(content, pair[1]) == "certificate"


def test_nobodys_signature_is_no_signature(pair: tuple[bytes, bytes]) -> None:
    envelope = Envelope(b"{}", TYPE, {})
    with pytest.raises(CertificateError, match="signed by nobody, not by the given key"):
        open_envelope(canonical_bytes(envelope.to_dict()) + b"\n", public_key_of(pair[1]))


def test_a_borrowed_name_of_a_key_does_not_help(pair: tuple[bytes, bytes]) -> None:
    stranger = signer_of(new_key_pair()[0])
    content = json.loads(signed_envelope(PAYLOAD, TYPE, stranger))
    content["signatures"][0]["keyid"] = public_key_of(pair[1]).keyid
    assert part(canonical_bytes(content) + b"\n", pair[1]) == "signature"
