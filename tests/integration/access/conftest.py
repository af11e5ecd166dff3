"""A world of services with keys, in which tokens are made by hand: not by the library that checks them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from core.policy.policy import Policy, ServiceGrant, ServiceKey, ServiceRole
from infra.auth import TokenVerifier

SECRET: Final = b"a-shared-secret-of-the-tests-0123456789"
OLD_SECRET: Final = b"the-secret-before-it-was-rotated-987654"
NOW: Final = 1_800_000_000.0

Signer = Callable[[bytes], bytes]


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@dataclass(frozen=True)
class Keys:
    """One pair of each kind that is accepted, and one of each kind that is not."""

    ed25519: ed25519.Ed25519PrivateKey
    p256: ec.EllipticCurvePrivateKey
    rsa: RSAPrivateKey
    p384: ec.EllipticCurvePrivateKey
    small_rsa: RSAPrivateKey

    def public_pem(self, name: str) -> str:
        key = getattr(self, name).public_key()
        return str(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())

    def private_pem(self, name: str) -> str:
        key = getattr(self, name)
        return str(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode())


@dataclass
class World:
    """A verifier with its policy and its clock, and a hand that makes tokens for it."""

    keys: Keys
    policy: Policy
    now: float = NOW
    verifier: TokenVerifier = field(init=False)

    def __post_init__(self) -> None:
        self.verifier = self.verifier_with([SECRET, OLD_SECRET])

    def verifier_with(self, secrets: list[bytes]) -> TokenVerifier:
        return TokenVerifier(
            lambda: self.policy,
            secrets,
            audience="telegate",
            max_lifetime=90 * 86_400,
            clock=lambda: self.now,
        )

    def change_service(self, name: str, **changes: Any) -> None:
        """A new policy, in which one service is another."""
        grants = dict(self.policy.services)
        grants[name] = replace(grants[name], **changes)
        self.policy = replace(self.policy, services=grants)

    def claims(self, service: str = "cron", **changes: Any) -> dict[str, Any]:
        """Claims that pass, but for the changes; `...` takes a claim away."""
        claims: dict[str, Any] = {
            "iss": "telegate" if service == "cron" else service,
            "sub": service,
            "aud": "telegate",
            "iat": int(self.now),
            "exp": int(self.now) + 600,
            "jti": "jti-1",
            "roles": ["notifier"],
        }
        claims.update(changes)
        return {name: value for name, value in claims.items() if value is not ...}

    def token(
        self,
        header: Mapping[str, Any] | bytes,
        payload: Mapping[str, Any] | bytes,
        signer: Signer,
    ) -> str:
        segments = [
            b64(part if isinstance(part, bytes) else json.dumps(part).encode()) for part in (header, payload)
        ]
        signed = ".".join(segments)
        return f"{signed}.{b64(signer(signed.encode()))}"

    def minted(self, claims: Mapping[str, Any] | bytes | None = None, **header: Any) -> str:
        """A token signed with the shared secret."""
        head = {"alg": "HS256", "typ": "JWT", **header}
        head = {name: value for name, value in head.items() if value is not ...}
        return self.token(head, self.claims() if claims is None else claims, hs256(SECRET))

    def signed(self, kind: str, claims: Mapping[str, Any] | bytes | None = None, **header: Any) -> str:
        """A token signed by the service that has this kind of key: ci, edge or vault."""
        service, kid, algorithm = OWNERS[kind]
        head = {"alg": algorithm, "typ": "JWT", "kid": kid, **header}
        head = {name: value for name, value in head.items() if value is not ...}
        return self.token(head, self.claims(service) if claims is None else claims, self.signer(kind))

    def signer(self, kind: str) -> Signer:
        signers: dict[str, Signer] = {
            "ed25519": self.keys.ed25519.sign,
            "p256": lambda data: _raw(self.keys.p256.sign(data, ec.ECDSA(hashes.SHA256())), 32),
            "p384": lambda data: _raw(self.keys.p384.sign(data, ec.ECDSA(hashes.SHA384())), 48),
            "rsa": lambda data: self.keys.rsa.sign(data, padding.PKCS1v15(), hashes.SHA256()),
            "small_rsa": lambda data: self.keys.small_rsa.sign(data, padding.PKCS1v15(), hashes.SHA256()),
        }
        return signers[kind]


OWNERS: Final = {
    "ed25519": ("ci", "ci-1", "EdDSA"),
    "p256": ("edge", "edge-1", "ES256"),
    "rsa": ("vault", "vault-1", "RS256"),
}


def hs256(secret: bytes, digest: str = "sha256") -> Signer:
    return lambda data: hmac.new(secret, data, getattr(hashlib, digest)).digest()


def _raw(der: bytes, size: int) -> bytes:
    first, second = decode_dss_signature(der)
    return first.to_bytes(size, "big") + second.to_bytes(size, "big")


@pytest.fixture(scope="session")
def keys() -> Keys:
    return Keys(
        ed25519=ed25519.Ed25519PrivateKey.generate(),
        p256=ec.generate_private_key(ec.SECP256R1()),
        rsa=rsa.generate_private_key(65537, 2048),
        p384=ec.generate_private_key(ec.SECP384R1()),
        small_rsa=rsa.generate_private_key(65537, 1024),  # noqa: S505 - made to be refused
    )


@pytest.fixture
def world(keys: Keys) -> World:
    def grant(kind: str) -> ServiceGrant:
        service, kid, algorithm = OWNERS[kind]
        key = ServiceKey(kid, algorithm, keys.public_pem(kind))
        return ServiceGrant(service, frozenset({"approver"}), (key,))

    policy = Policy.build(
        service_roles=[
            ServiceRole("notifier", frozenset({"POST /v1/messages"}), frozenset({"*"})),
            ServiceRole("approver", frozenset({"POST /v1/questions"}), includes=frozenset({"notifier"})),
            ServiceRole("admin", frozenset({"POST /v1/sweep"})),
        ],
        services=[*map(grant, OWNERS), ServiceGrant("cron", frozenset({"approver"}))],
    )
    return World(keys, policy)
