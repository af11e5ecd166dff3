"""Signers: whose key a token has to be checked with; its `iss` and `kid` are looked up, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from core.policy.policy import Policy, ServiceKey
from infra.auth.claims import LONGEST_SELF_SIGNED, MINTED_ISSUER
from infra.auth.errors import TokenRefused, shown
from infra.auth.jose import Parts
from infra.auth.key_set import ALGORITHMS
from infra.auth.signatures import Signer, public_key

KeyOfIssuer = Callable[[str], ServiceKey | None]
"""The issuer's key of that `kid`."""


class Signers:
    """Everybody who may sign.

    Args:
        secrets: HS256 secrets.
        max_lifetime: seconds that a token signed with one of them may live.
        issuer: the `iss` of the issuer that publishes its keys; None without one.
    """

    def __init__(self, secrets: tuple[bytes, ...], max_lifetime: int, issuer: str | None) -> None:
        self._secrets = secrets
        self._max_lifetime = max_lifetime
        self._issuer = issuer

    def of(self, parts: Parts, policy: Policy, key_of_issuer: KeyOfIssuer) -> Signer:
        """What the signature has to be checked with; the token has no say in the algorithm.

        Raises:
            TokenRefused: nobody has such a key, or it is for another algorithm.
        """
        if self.is_of_issuer(parts):
            signer = self._issuer_signer(parts.header, key_of_issuer)
        elif "kid" in parts.header:
            signer = _service_signer(parts.header["kid"], policy)
        else:
            signer = self._shared_signer()
        if parts.header.get("alg") != signer.algorithm:
            raise TokenRefused(f"The header's alg is not {signer.algorithm}, the only one for {signer.name}.")
        return signer

    def is_of_issuer(self, parts: Parts) -> bool:
        """Whether the token says that the issuer made it; no service and no secret may sign for that name."""
        return self._issuer is not None and parts.claims.get("iss") == self._issuer

    def issuer_signer(self, key: ServiceKey | None) -> Signer:
        """The issuer with this key; with none it can check no signature, but says what claims it demands."""
        return Signer(
            algorithm="" if key is None else key.algorithm,
            keys=() if key is None else (public_key(key.public_key),),
            name="the issuer's key" if key is None else f"the issuer's key {shown(key.kid)}",
            issuer=self._issuer or "",
            service=None,
            longest=LONGEST_SELF_SIGNED,
            issuer_key=key,
        )

    def _issuer_signer(self, header: Mapping[str, Any], key_of_issuer: KeyOfIssuer) -> Signer:
        # What can be refused without a key is: only the rest may make the gateway fetch keys.
        if header.get("alg") not in ALGORITHMS:
            raise TokenRefused(
                f"The header's alg is none of {', '.join(ALGORITHMS)}, as an issuer's must be."
            )
        kid = header.get("kid")
        found = key_of_issuer(kid) if isinstance(kid, str) else None
        if found is None:
            raise TokenRefused(f"The issuer has no usable key with the kid {shown(kid)}.")
        return self.issuer_signer(found)

    def _shared_signer(self) -> Signer:
        if not self._secrets:
            raise TokenRefused("The token names no key (kid), and there is no JWT_SECRET.")
        return Signer(
            algorithm="HS256",
            keys=self._secrets,
            name="JWT_SECRET",
            issuer=MINTED_ISSUER,
            service=None,
            longest=self._max_lifetime,
        )


def _service_signer(kid: object, policy: Policy) -> Signer:
    found = policy.keys.get(kid) if isinstance(kid, str) else None
    if found is None:
        raise TokenRefused(f"permissions.yaml has no key with the kid {shown(kid)}.")
    service, key = found
    return Signer(
        algorithm=key.algorithm,
        keys=(public_key(key.public_key),),
        name=f"the key {key.kid}",
        issuer=service,
        service=service,
        longest=LONGEST_SELF_SIGNED,
    )
