"""Public keys of services: what may stand in `permissions.yaml`, and how a pair is made."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_public_key,
    load_pem_private_key,
)

from infra.config.permissions.published import why_no_secret

_ARMOUR = re.compile(r"\s*-----BEGIN PUBLIC KEY-----([A-Za-z0-9+/=\s]+)-----END PUBLIC KEY-----\s*", re.ASCII)
_SHORTEST_RSA = 2048
_KINDS = "Ed25519, ECDSA on P-256, or RSA of at least 2048 bits"
_PRIVATE_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
_PRIVATE_KEY = (
    "this is a private key, and it belongs to the service alone. Take it out, treat it as leaked, "
    "and make a new pair with: telegate keys new"
)

SigningKey = Ed25519PrivateKey | EllipticCurvePrivateKey | RSAPrivateKey


def read_public_pem(text: str) -> tuple[str, str]:
    """The algorithm and the SubjectPublicKeyInfo PEM of a public key that is written as PEM.

    Line ends inside may have become blanks, as YAML does with plain text of several lines.

    Raises:
        ValueError: no such key; the text says what it is instead, as far as that can be seen.
    """
    if "PRIVATE KEY" in text:
        raise ValueError(_PRIVATE_KEY)
    armoured = _ARMOUR.fullmatch(text)
    if armoured is None:
        raise ValueError(f"this is not a public key as PEM (-----BEGIN PUBLIC KEY-----); {_instead(text)}")
    try:
        key = load_der_public_key(base64.b64decode("".join(armoured[1].split()), validate=True))
    except (binascii.Error, ValueError, UnsupportedAlgorithm) as error:
        raise ValueError("this public key is damaged: copy the whole PEM text again") from error
    return _accepted(key)


def read_public_jwk(jwk: Mapping[str, str]) -> tuple[str, str]:
    """The algorithm and the PEM of a public key that is written as a JWK (RFC 7517).

    Raises:
        ValueError: no such key.
    """
    from jwt import PyJWK  # noqa: PLC0415 - few files hold JWKs
    from jwt.exceptions import PyJWTError  # noqa: PLC0415 - the same

    if _PRIVATE_MEMBERS & jwk.keys() or jwk.get("kty") == "oct":
        raise ValueError(_PRIVATE_KEY)
    if jwk.get("use", "sig") != "sig":
        raise ValueError("this JWK is not for signatures: its use is not sig")
    try:
        key = PyJWK.from_dict(dict(jwk)).key
    except (PyJWTError, ValueError, UnsupportedAlgorithm) as error:
        raise ValueError(f"this is not a JWK of a public key ({_KINDS})") from error
    algorithm, pem = _accepted(key)
    if jwk.get("alg", algorithm) != algorithm:
        raise ValueError(f"this JWK says alg {jwk['alg']}, but its key is for {algorithm}")
    return algorithm, pem


def load_private_key(pem: str) -> tuple[SigningKey, str]:
    """A private key and the algorithm that it signs with.

    Raises:
        ValueError: not a private key as PEM, locked with a password, or of another kind.
    """
    try:
        key = load_pem_private_key(pem.encode(), password=None)
    except TypeError as error:
        raise ValueError("the private key is locked with a password; unlock it first") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError("this is not a private key as PEM (-----BEGIN PRIVATE KEY-----)") from error
    return _signing(key)


def new_pair() -> tuple[str, str]:
    """A new Ed25519 pair: the private key (PKCS #8) and the public key, both as PEM."""
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return private.decode(), _pem(key.public_key())


def _accepted(key: Any) -> tuple[str, str]:
    if isinstance(key, Ed25519PublicKey):
        algorithm = "EdDSA"
    elif isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1):
        algorithm = "ES256"
    elif isinstance(key, RSAPublicKey):
        algorithm = "RS256"
        if key.key_size < _SHORTEST_RSA:
            raise ValueError(f"this RSA key has {key.key_size} bits and needs at least {_SHORTEST_RSA}")
    else:
        raise ValueError(f"this kind of key is not accepted: it has to be {_KINDS}")  # noqa: TRY004 - a wrong file
    if reason := why_no_secret(key):
        raise ValueError(reason)
    return algorithm, _pem(key)


def _signing(key: PrivateKeyTypes) -> tuple[SigningKey, str]:
    if isinstance(key, Ed25519PrivateKey | EllipticCurvePrivateKey | RSAPrivateKey):
        return key, _accepted(key.public_key())[0]
    raise ValueError(f"this kind of key is not accepted: it has to be {_KINDS}")


def _pem(key: Ed25519PublicKey | EllipticCurvePublicKey | RSAPublicKey) -> str:
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def _instead(text: str) -> str:
    if "BEGIN CERTIFICATE" in text:
        return "it is a certificate; take its key with: openssl x509 -pubkey -noout -in FILE"
    if "BEGIN RSA PUBLIC KEY" in text:
        return "convert it with: openssl rsa -RSAPublicKey_in -pubout -in FILE"
    if text.lstrip().startswith(("ssh-", "ecdsa-")):
        return "it is an SSH key; convert it with: ssh-keygen -e -m PKCS8 -f FILE"
    return "make a pair with: telegate keys new"
