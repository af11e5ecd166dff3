"""Minting: tokens made here, with `JWT_SECRET` or with a service's own private key."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Mapping
from typing import Any

from infra.auth.claims import MINTED_ISSUER
from infra.auth.signatures import require_secret, signing


def mint(
    secret: bytes, service: str, roles: Iterable[str], lifetime: int, audience: str, *, now: float
) -> str:
    """A token signed with `JWT_SECRET` (HS256), for a service without keys.

    Args:
        secret: at least 32 bytes.
        service: becomes `sub`.
        roles: what the token claims; the policy decides what counts.
        lifetime: seconds.
        audience: becomes `aud`.
        now: seconds since the epoch.

    Raises:
        ValueError: the secret is too short, or is a key of another kind.
    """
    require_secret(secret)
    claims = _claims(service, roles, issuer=MINTED_ISSUER, lifetime=lifetime, audience=audience, now=now)
    return _encode(claims, secret, "HS256", {})


def sign(
    private_key: str,
    kid: str,
    service: str,
    roles: Iterable[str],
    *,
    lifetime: int,
    audience: str,
    now: float,
) -> str:
    """A token that a service signs with its own private key; otherwise as `mint`.

    Args:
        private_key: PEM: Ed25519, ECDSA on P-256, or RSA.
        kid: the key's name in `permissions.yaml`.
        service: becomes `sub` and `iss`.
        roles: what the token claims.
        lifetime: seconds.
        audience: becomes `aud`.
        now: seconds since the epoch.

    Raises:
        ValueError: not such a key.
    """
    from infra.config.permissions.keys import load_private_key  # noqa: PLC0415 - loads cryptography

    key, algorithm = load_private_key(private_key)
    claims = _claims(service, roles, issuer=service, lifetime=lifetime, audience=audience, now=now)
    return _encode(claims, key, algorithm, {"kid": kid})


def _claims(
    service: str, roles: Iterable[str], *, issuer: str, lifetime: int, audience: str, now: float
) -> dict[str, Any]:
    issued = int(now)
    return {
        "iss": issuer,
        "sub": service,
        "aud": audience,
        "iat": issued,
        "exp": issued + lifetime,
        "jti": secrets.token_urlsafe(16),
        "roles": sorted(set(roles)),
    }


def _encode(claims: Mapping[str, Any], key: Any, algorithm: str, header: dict[str, Any]) -> str:
    payload = json.dumps(claims, separators=(",", ":")).encode()
    return signing().encode(payload, key, algorithm=algorithm, headers=header)
