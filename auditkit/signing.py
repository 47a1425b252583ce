"""Keys, signatures and the envelope of certificates: ed25519 in DSSE v1, all of it securesystemslib's.

DSSE: https://github.com/secure-systems-lab/dsse. securesystemslib is the extra `auditkit[sign]` and is imported when it
is needed. cryptography, which it builds on, reads keys in PEM.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from auditkit.errors import ConfigurationError, DataError
from auditkit.extras import needed

if TYPE_CHECKING:
    from securesystemslib.dsse import Envelope
    from securesystemslib.signer import CryptoSigner, SSlibKey

_NEEDS = "keys and signatures need securesystemslib with cryptography"


class CertificateError(DataError):
    """A certificate that does not hold. `part` says which part of it: `certificate`, `signature` or `statement`."""

    def __init__(self, part: str, why: str) -> None:
        self.part = part
        self.why = why
        super().__init__(f"{part}: {why}")


def canonical_bytes(value: Any) -> bytes:
    """ASCII JSON with sorted keys and no spaces. What is signed are these bytes, so no reader has to make them again.

    Raises:
        DataError: a number is NaN or infinite.
    """
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")
    except ValueError as error:
        raise DataError(f"a certificate holds finite numbers only: {error}; write the report again") from error


def new_key_pair() -> tuple[bytes, bytes]:
    """A new ed25519 key pair: private (PKCS #8) and public (SubjectPublicKeyInfo), both PEM and not encrypted."""
    with needed("sign", _NEEDS):
        from cryptography.hazmat.primitives import serialization
        from securesystemslib.signer import CryptoSigner
    private = CryptoSigner.generate_ed25519().private_bytes
    public = serialization.load_pem_private_key(private, None).public_key()
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return private, public.public_bytes(serialization.Encoding.PEM, form)


def signer_of(private: bytes) -> CryptoSigner:
    """The signer of a private key in PEM.

    Raises:
        ConfigurationError: it is no private ed25519 key, or it is encrypted.
    """
    with needed("sign", _NEEDS):
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
        from securesystemslib.signer import CryptoSigner
    try:
        key = load_pem_private_key(private, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigurationError(
            f"--key must hold an unencrypted private key in PEM, as keygen writes it: {error}"
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigurationError("--key must hold an ed25519 key, got another kind; make one with auditkit keygen")
    return CryptoSigner(key)


def public_key_of(public: bytes) -> SSlibKey:
    """The public key in PEM; its `keyid` is the digest of the key itself.

    Raises:
        ConfigurationError: it is no public ed25519 key.
    """
    with needed("sign", _NEEDS):
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
        from securesystemslib.signer import SSlibKey
    try:
        key = load_pem_public_key(public)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigurationError(
            f"--key must hold a public key in PEM, as keygen writes it (NAME.pub.pem): {error}"
        ) from error
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigurationError("--key must hold an ed25519 key, got another kind; make one with auditkit keygen")
    return SSlibKey.from_crypto(key)


def signed_envelope(payload: bytes, payload_type: str, signer: CryptoSigner) -> bytes:
    """A payload in a signed envelope, one line of canonical JSON."""
    with needed("sign", _NEEDS):
        from securesystemslib.dsse import Envelope
    envelope = Envelope(payload, payload_type, {})
    envelope.sign(signer)
    return _written(envelope)


def _written(envelope: Envelope) -> bytes:
    return canonical_bytes(envelope.to_dict()) + b"\n"


def open_envelope(content: bytes, key: SSlibKey) -> tuple[bytes, str]:
    """Payload and payload type, once the signature holds.

    Args:
        content: bytes of the file.
        key: public key of who is trusted.

    Raises:
        CertificateError: the bytes are not as `signed_envelope` makes them (`certificate`), or the signature is not of
            this key over this payload (`signature`).
    """
    envelope = _envelope(content)
    _check_signature(envelope, key)
    return envelope.payload, envelope.payload_type


def _envelope(content: bytes) -> Envelope:
    with needed("sign", _NEEDS):
        from securesystemslib.dsse import Envelope
    try:
        found = json.loads(content)
        if not _is_envelope(found):
            raise CertificateError("certificate", "it is no DSSE envelope with payload, payloadType and signatures")
        envelope = Envelope.from_dict(found)
    except (ValueError, RecursionError) as error:
        raise CertificateError("certificate", f"it is no JSON, or its Base64 is broken: {error}") from error
    # JSON and Base64 can be written in several ways, so bytes could change without a change of what is signed.
    if _written(envelope) != content:
        raise CertificateError(
            "certificate", "bytes beside the signed payload were changed: certify does not write it so"
        )
    return envelope


def _is_envelope(found: Any) -> bool:
    if not isinstance(found, dict) or found.keys() != {"payload", "payloadType", "signatures"}:
        return False
    texts, signatures = [found["payload"], found["payloadType"]], found["signatures"]
    if not isinstance(signatures, list) or not all(isinstance(s, dict) for s in signatures):
        return False
    texts += [text for signature in signatures for text in signature.values()]
    named = all(signature.keys() == {"keyid", "sig"} for signature in signatures)
    # A type that is no ASCII may have no UTF-8 form to verify.
    return named and all(isinstance(text, str) for text in texts) and found["payloadType"].isascii()


def _check_signature(envelope: Envelope, key: SSlibKey) -> None:
    with needed("sign", _NEEDS):
        from securesystemslib.exceptions import VerificationError
    try:
        envelope.verify([key], 1)
    except VerificationError as error:
        if key.keyid in envelope.signatures:
            raise CertificateError(
                "signature", "payload, its type or the signature were changed after signing"
            ) from error
        signers = ", ".join(envelope.signatures) or "nobody"
        raise CertificateError("signature", f"signed by {signers}, not by the given key {key.keyid}") from error
