"""The verifier: who sent this token, and everything that is wrong with it."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from core.policy.policy import Policy, Principal, ServiceKey
from infra.auth.claims import LEEWAY, claim_problems, header_problems, time_problems
from infra.auth.errors import KeysAwaited, TokenRefused
from infra.auth.issuer import Issuer
from infra.auth.jose import Parts, read
from infra.auth.keys import Signers
from infra.auth.signatures import Signer, require_secret, verify_signature

log = logging.getLogger("telegate.tokens")

_REMEMBERED = 4096


@dataclass(frozen=True, slots=True)
class TokenReport:
    """What a token says, and what would be said about it.

    Attributes:
        header: the JOSE header (RFC 7515), empty when it cannot be read.
        claims: what the token claims, empty when that cannot be read.
        problems: everything that is wrong, one sentence each.
        signature: `valid`, `invalid`, or `unchecked` when the key is not at hand.
        principal: who the token stands for, when nothing is wrong and the signature is valid.
    """

    header: Mapping[str, Any]
    claims: Mapping[str, Any]
    problems: tuple[str, ...]
    signature: str
    principal: Principal | None


@dataclass(frozen=True, slots=True)
class _Remembered:
    principal: Principal
    valid_from: float
    valid_until: float
    issuer_key: ServiceKey | None


class TokenVerifier:
    """Checks tokens against the policy of the moment, and remembers those that passed until they expire.

    Args:
        policy: gives the current policy; another object drops everything that is remembered.
        jwt_secrets: HS256 secrets, at least 32 bytes each; two while one replaces the other.
        audience: the only `aud` that counts (`JWT_AUDIENCE`).
        max_lifetime: seconds that a token signed with `JWT_SECRET` may live (`JWT_MAX_LIFETIME`).
        clock: seconds since the epoch.
        issuer: knows the keys of the issuer whose tokens count, too (`JWT_ISSUER`); None without one.

    Raises:
        ValueError: a secret is too short, or is a key of another kind.
    """

    def __init__(
        self,
        policy: Callable[[], Policy],
        jwt_secrets: Sequence[bytes],
        audience: str,
        max_lifetime: int,
        clock: Callable[[], float],
        *,
        issuer: Issuer | None = None,
    ) -> None:
        for secret in jwt_secrets:
            require_secret(secret)
        self._policy = policy
        self._signers = Signers(tuple(jwt_secrets), max_lifetime, None if issuer is None else issuer.name)
        self._audience = audience
        self._clock = clock
        self._issuer = issuer
        self._remembered: OrderedDict[bytes, _Remembered] = OrderedDict()
        self._remembered_for = policy()

    def admit(self, token: str) -> Principal | Awaitable[Principal]:
        """Who sent this token: at once, but for one that can only be judged by keys that are on their way.

        Such a token waits for one fetch of the issuer's keys, which all share. Errors are those of `verify`.
        """
        try:
            return self.verify(token)
        except KeysAwaited as awaited:
            if awaited.refresh is None:
                raise
            return self._verify_after(awaited.refresh, token)

    def verify(self, token: str) -> Principal:
        """Who sent this token, by the keys at hand.

        Args:
            token: what stands behind `Authorization: Bearer `.

        Raises:
            Unauthenticated: the token does not count; `reason` is `expired` or `invalid`, never more.
            KeysAwaited: it is a token of the issuer, whose keys have to be fetched first.
        """
        policy = self._policy_now()
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        try:
            known = self._remembered.pop(digest, None)
            if known is None or (known.issuer_key is not None and not self._issuer_has(known.issuer_key)):
                known = self._check(token, policy)
            self._check_time(known)
        except TokenRefused as refusal:
            log.warning(
                "A token was refused: %s",
                refusal.cause,
                extra={"action": "token_refused", "reason": refusal.reason, "cause": refusal.cause},
            )
            raise
        self._remember(digest, known)
        return known.principal

    def forget(self) -> None:
        """Drop every remembered token; the next request of each is checked anew."""
        self._remembered.clear()

    def is_of_issuer(self, token: str) -> bool:
        """Whether the token says that the issuer made it, and can be read at all."""
        try:
            return self._signers.is_of_issuer(read(token))
        except TokenRefused:
            return False

    def inspect(self, token: str) -> TokenReport:
        """Everything that is wrong with a token, for its owner and for the operator.

        A token whose key is not at hand is read all the same; its signature is then `unchecked`.
        """
        policy = self._policy_now()
        try:
            parts = read(token)
        except TokenRefused as refusal:
            return TokenReport({}, {}, (refusal.cause,), "unchecked", None)
        problems = list(header_problems(parts.header))
        signature, signer, doubt = self._checked_signature(token, parts, policy, readable=not problems)
        problems.extend(doubt)
        problems.extend(claim_problems(parts.claims, policy, self._audience, signer))
        problems.extend(time_problems(parts.claims, self._clock()))
        passed = not problems and signature == "valid"
        principal = _principal(parts.claims, policy) if passed else None
        return TokenReport(parts.header, parts.claims, tuple(dict.fromkeys(problems)), signature, principal)

    # Inside

    async def _verify_after(self, refresh: asyncio.Task[None], token: str) -> Principal:
        await asyncio.wait({refresh})  # whoever waits may go away; the fetch goes on for the others
        return self.verify(token)

    def _issuer_has(self, key: ServiceKey) -> bool:
        return self._issuer is not None and self._issuer.still_has(key)

    def _key_of_issuer(self, kid: str) -> ServiceKey | None:
        return None if self._issuer is None else self._issuer.key(kid)

    def _key_at_hand(self, kid: str) -> ServiceKey | None:
        if self._issuer is None or self._issuer.is_known:
            return None if self._issuer is None else self._issuer.at_hand(kid)
        failure = self._issuer.failure or "The keys of the token issuer were not fetched."
        raise TokenRefused(f"{failure} So the signature was not checked.")

    def _policy_now(self) -> Policy:
        policy = self._policy()
        if policy is not self._remembered_for:
            self.forget()
            self._remembered_for = policy
        return policy

    def _check(self, token: str, policy: Policy) -> _Remembered:
        parts = read(token)
        _refuse_first(header_problems(parts.header))
        signer = self._signers.of(parts, policy, self._key_of_issuer)
        verify_signature(token, signer)
        claims = parts.claims
        _refuse_first(claim_problems(claims, policy, self._audience, signer))
        starts = max(claims["iat"], claims.get("nbf", 0))
        return _Remembered(_principal(claims, policy), starts, claims["exp"], signer.issuer_key)

    def _check_time(self, known: _Remembered) -> None:
        now = self._clock()
        if known.valid_from > now + LEEWAY:
            raise TokenRefused("The token is not valid yet: its iat or nbf is in the future.")
        if known.valid_until <= now - LEEWAY:
            raise TokenRefused("The token has expired.", reason="expired")

    def _remember(self, digest: bytes, known: _Remembered) -> None:
        self._remembered[digest] = known
        if len(self._remembered) > _REMEMBERED:
            self._remembered.popitem(last=False)

    def _checked_signature(
        self, token: str, parts: Parts, policy: Policy, *, readable: bool
    ) -> tuple[str, Signer | None, tuple[str, ...]]:
        signer: Signer | None = None
        try:
            signer = self._signers.of(parts, policy, self._key_at_hand)
            if not readable:
                return "unchecked", signer, ()
            verify_signature(token, signer)
        except TokenRefused as refusal:
            if signer is not None:
                return "invalid", signer, (refusal.cause,)
            # What an issuer's token has to say is known, even when its key is not.
            claimed = self._signers.issuer_signer(None) if self._signers.is_of_issuer(parts) else None
            return "unchecked", claimed, (refusal.cause,)
        return "valid", signer, ()


def _refuse_first(problems: Iterator[str]) -> None:
    for problem in problems:
        raise TokenRefused(problem)


def _principal(claims: Mapping[str, Any], policy: Policy) -> Principal:
    roles = policy.effective_roles(claims["sub"], claims["roles"])
    return Principal(service=claims["sub"], roles=roles, jti=claims["jti"])
