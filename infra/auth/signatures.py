"""Signatures: what a token's is checked with; the token itself has no say in that."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from core.policy.policy import ServiceKey
from infra.auth.errors import TokenRefused
from infra.config.strength import MAKE_ONE_WITH, why_guessable

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
    from jwt import PyJWS

SHORTEST_SECRET: Final = 32
"""Bytes: an HMAC key as long as its hash (RFC 7518, section 3.2)."""

_MARKS_OF_KEYS = (b"-----BEGIN", b"---- BEGIN", b"ssh-", b"ecdsa-sha2-", b'"kty"')


@dataclass(frozen=True, slots=True)
class Signer:
    """A way to check signatures, and what tokens that pass it must say.

    Attributes:
        algorithm: the only `alg` that counts.
        keys: any of these may have signed.
        name: for sentences.
        issuer: what `iss` must be.
        service: what `sub` must be; None for any service without keys of its own.
        longest: seconds that a token may live.
        issuer_key: the issuer's key, which it may take away; None for everybody else.
    """

    algorithm: str
    keys: tuple[Any, ...]
    name: str
    issuer: str
    service: str | None
    longest: int
    issuer_key: ServiceKey | None = None


def verify_signature(token: str, signer: Signer) -> None:
    """Refuse a token that none of the signer's keys has signed.

    Raises:
        TokenRefused: none has.
    """
    from jwt.exceptions import PyJWTError  # noqa: PLC0415 - loads cryptography

    cause: PyJWTError | None = None
    for key in signer.keys:
        try:
            signing().decode(token, key, algorithms=[signer.algorithm])
        except PyJWTError as error:
            cause = error
        else:
            return
    raise TokenRefused(f"The signature does not fit {signer.name}.") from cause


@lru_cache(maxsize=1)
def signing() -> PyJWS:
    """What signs and checks, with the algorithms that count and no others."""
    from jwt import PyJWS  # noqa: PLC0415 - loads cryptography, which a start does not need

    return PyJWS(
        algorithms=["HS256", "EdDSA", "ES256", "RS256"], options={"enforce_minimum_key_length": True}
    )


@lru_cache(maxsize=256)
def public_key(pem: str) -> PublicKeyTypes:
    """A public key that was found to be good when it was read."""
    from cryptography.hazmat.primitives.serialization import load_pem_public_key  # noqa: PLC0415 - as above

    return load_pem_public_key(pem.encode())


def require_secret(secret: bytes) -> None:
    """Refuse an HMAC secret that could be guessed.

    Raises:
        ValueError: it is too short, published or without variety, or a key of another kind.
    """
    # Everybody knows a public key: as an HMAC secret it would let everybody sign (CVE-2017-11424).
    if any(mark in secret for mark in _MARKS_OF_KEYS):
        raise ValueError(f"JWT_SECRET is a key or a certificate; it has to be random text: {MAKE_ONE_WITH}")
    if weakness := why_guessable(secret, SHORTEST_SECRET):
        raise ValueError(f"JWT_SECRET {weakness}; make one with: {MAKE_ONE_WITH}")
