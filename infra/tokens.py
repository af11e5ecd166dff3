"""Tokens: a service's signed JWT becomes a principal; every doubt is a refusal."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import logging
import math
import re
import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NoReturn

from core.errors import Unauthenticated
from core.policy import Policy, Principal, ServiceGrant

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
    from jwt import PyJWS

log = logging.getLogger("telegate.tokens")

MINTED_ISSUER: Final = "telegate"
"""The `iss` of tokens that are signed with `JWT_SECRET`."""

SHORTEST_SECRET: Final = 32
"""Bytes: an HMAC key as long as its hash (RFC 7518, section 3.2)."""

MAKE_ONE_WITH: Final = 'python3 -c "import secrets; print(secrets.token_urlsafe(48))"'

LEEWAY: Final = 30
"""Seconds that two clocks may differ."""

LONGEST_SELF_SIGNED: Final = 3600

_LARGEST_TOKEN = 8192
_MOST_ROLES = 64
_REMEMBERED = 4096
_LAST_INSTANT = 253_402_300_799  # 9999-12-31T23:59:59Z: later times have no date
_REQUIRED = ("iss", "sub", "aud", "iat", "exp", "jti", "roles")
_TYPES = ("jwt", "at+jwt", "application/jwt", "application/at+jwt")
_OWN_KEYS = ("jku", "jwk", "x5u", "x5c")
_SEGMENT = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_MARKS_OF_KEYS = (b"-----BEGIN", b"---- BEGIN", b"ssh-", b"ecdsa-sha2-", b'"kty"')
_JTI = re.compile(r"[ -~]{1,255}", re.ASCII)


class TokenRefused(Unauthenticated):
    """A token that does not count.

    Attributes:
        cause: the precise reason, for the log and the operator; the sender only learns `reason`.
    """

    def __init__(self, cause: str, *, reason: str = "invalid") -> None:
        told = "The token has expired; use a new one." if reason == "expired" else "The token is not valid."
        super().__init__(told, reason=reason)
        self.cause = cause


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
class _Parts:
    header: dict[str, Any]
    claims: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Signer:
    """A way to check signatures, and what tokens that pass it must say."""

    algorithm: str
    keys: tuple[Any, ...]
    name: str
    issuer: str
    service: str | None
    longest: int


@dataclass(frozen=True, slots=True)
class _Remembered:
    principal: Principal
    valid_from: float
    valid_until: float


class TokenVerifier:
    """Checks tokens against the policy of the moment, and remembers those that passed until they expire.

    Args:
        policy: gives the current policy; another object drops everything that is remembered.
        jwt_secrets: HS256 secrets, at least 32 bytes each; two while one replaces the other.
        audience: the only `aud` that counts (`JWT_AUDIENCE`).
        max_lifetime: seconds that a token signed with `JWT_SECRET` may live (`JWT_MAX_LIFETIME`).
        clock: seconds since the epoch.

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
    ) -> None:
        for secret in jwt_secrets:
            _require_secret(secret)
        self._policy = policy
        self._secrets = tuple(jwt_secrets)
        self._audience = audience
        self._max_lifetime = max_lifetime
        self._clock = clock
        self._remembered: OrderedDict[bytes, _Remembered] = OrderedDict()
        self._remembered_for = policy()

    def verify(self, token: str) -> Principal:
        """Who sent this token.

        Args:
            token: what stands behind `Authorization: Bearer `.

        Raises:
            Unauthenticated: the token does not count; `reason` is `expired` or `invalid`, never more.
        """
        policy = self._policy_now()
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        try:
            known = self._remembered.pop(digest, None) or self._check(token, policy)
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

    def inspect(self, token: str) -> TokenReport:
        """Everything that is wrong with a token, for its owner and for the operator.

        A token whose key is not at hand is read all the same; its signature is then `unchecked`.
        """
        policy = self._policy_now()
        try:
            parts = _read(token)
        except TokenRefused as refusal:
            return TokenReport({}, {}, (refusal.cause,), "unchecked", None)
        problems = list(_header_problems(parts.header))
        signature, signer, doubt = self._checked_signature(token, parts, policy, readable=not problems)
        problems.extend(doubt)
        problems.extend(self._claim_problems(parts.claims, policy, signer))
        problems.extend(_time_problems(parts.claims, self._clock()))
        passed = not problems and signature == "valid"
        principal = _principal(parts.claims, policy) if passed else None
        return TokenReport(parts.header, parts.claims, tuple(dict.fromkeys(problems)), signature, principal)

    # Inside

    def _policy_now(self) -> Policy:
        policy = self._policy()
        if policy is not self._remembered_for:
            self.forget()
            self._remembered_for = policy
        return policy

    def _check(self, token: str, policy: Policy) -> _Remembered:
        parts = _read(token)
        _refuse_first(_header_problems(parts.header))
        signer = self._signer(parts, policy)
        _verify_signature(token, signer)
        claims = parts.claims
        _refuse_first(self._claim_problems(claims, policy, signer))
        starts = max(claims["iat"], claims.get("nbf", 0))
        return _Remembered(_principal(claims, policy), starts, claims["exp"])

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

    def _signer(self, parts: _Parts, policy: Policy) -> _Signer:
        """What the signature has to be checked with; the token has no say in the algorithm."""
        signer = self._signer_by_kid(parts.header, policy) if "kid" in parts.header else self._shared_signer()
        if parts.header.get("alg") != signer.algorithm:
            raise TokenRefused(f"The header's alg is not {signer.algorithm}, the only one for {signer.name}.")
        return signer

    def _signer_by_kid(self, header: Mapping[str, Any], policy: Policy) -> _Signer:
        kid = header["kid"]
        found = policy.keys.get(kid) if isinstance(kid, str) else None
        if found is None:
            raise TokenRefused(f"permissions.yaml has no key with the kid {_shown(kid)}.")
        service, key = found
        return _Signer(
            algorithm=key.algorithm,
            keys=(_public_key(key.public_key),),
            name=f"the key {key.kid}",
            issuer=service,
            service=service,
            longest=LONGEST_SELF_SIGNED,
        )

    def _shared_signer(self) -> _Signer:
        if not self._secrets:
            raise TokenRefused("The token names no key (kid), and there is no JWT_SECRET.")
        return _Signer(
            algorithm="HS256",
            keys=self._secrets,
            name="JWT_SECRET",
            issuer=MINTED_ISSUER,
            service=None,
            longest=self._max_lifetime,
        )

    def _checked_signature(
        self, token: str, parts: _Parts, policy: Policy, *, readable: bool
    ) -> tuple[str, _Signer | None, tuple[str, ...]]:
        signer: _Signer | None = None
        try:
            signer = self._signer(parts, policy)
            if not readable:
                return "unchecked", signer, ()
            _verify_signature(token, signer)
        except TokenRefused as refusal:
            return "unchecked" if signer is None else "invalid", signer, (refusal.cause,)
        return "valid", signer, ()

    def _claim_problems(
        self, claims: Mapping[str, Any], policy: Policy, signer: _Signer | None
    ) -> Iterator[str]:
        missing = [name for name in _REQUIRED if name not in claims]
        if missing:
            yield f"These claims are missing: {', '.join(missing)}."
        yield from _type_problems(claims)
        yield from self._audience_problems(claims)
        grant = policy.services.get(claims["sub"]) if isinstance(claims.get("sub"), str) else None
        if grant is None:
            yield "sub is no service that permissions.yaml names."
        elif signer is not None:
            yield from _signer_problems(claims, grant, signer)
        if grant is not None:
            yield from _revocation_problems(claims, grant)

    def _audience_problems(self, claims: Mapping[str, Any]) -> Iterator[str]:
        audience = claims.get("aud")
        meant = [audience] if isinstance(audience, str) else audience
        if not isinstance(meant, list) or not all(isinstance(one, str) for one in meant):
            yield "aud is neither a string nor a list of strings."
        elif self._audience not in meant:
            yield f"aud is not {self._audience}: the token is meant for somebody else."


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
    _require_secret(secret)
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
    from infra.policy_keys import load_private_key  # noqa: PLC0415 - loads cryptography

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
    return _jws().encode(payload, key, algorithm=algorithm, headers=header)


# Reading: bytes to header and claims, before any of it is believed


def _read(token: str) -> _Parts:
    if len(token) > _LARGEST_TOKEN:
        raise TokenRefused(f"The token is longer than {_LARGEST_TOKEN} characters.")
    segments = token.split(".")
    if len(segments) != 3:  # noqa: PLR2004 - header, claims, signature (RFC 7515, section 3.1)
        raise TokenRefused("A token is three segments with dots between; this one is not.")
    if not all(_SEGMENT.fullmatch(segment) for segment in segments):
        raise TokenRefused("A segment of the token is empty or is not base64url.")
    return _Parts(_json_object(segments[0], "header"), _json_object(segments[1], "payload"))


_MOST_BRACKETS = 64
"""More than any token of ours needs, and far fewer than what makes a parser recurse too deep."""


def _json_object(segment: str, what: str) -> dict[str, Any]:
    try:
        text = _decoded(segment).decode("utf-8")
        value = _strict_json(text)
    except (ValueError, RecursionError) as error:
        raise TokenRefused(f"The token's {what} cannot be read as JSON: {_why(error)}.") from error
    if not isinstance(value, dict):
        raise TokenRefused(f"The token's {what} is not a JSON object.")
    return value


def _strict_json(text: str) -> Any:
    if text.count("[") + text.count("{") > _MOST_BRACKETS:
        raise ValueError("it holds too many brackets")
    return json.loads(text, object_pairs_hook=_no_duplicates, parse_constant=_no_constants)


def _decoded(segment: str) -> bytes:
    data = base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    if base64.urlsafe_b64encode(data).rstrip(b"=").decode() != segment:
        raise ValueError("its last character has bits that mean nothing")
    return data


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands in it twice")
    return found


def _no_constants(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _why(error: ValueError | RecursionError) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg.lower()} at character {error.pos}"
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8"
    if isinstance(error, binascii.Error):
        return "it is not base64url"
    return str(error)


# Rules: each yields what is wrong


def _header_problems(header: Mapping[str, Any]) -> Iterator[str]:
    if "crit" in header:
        yield "The header names extensions that must be understood (crit); none is."
    if "b64" in header:
        yield "The header changes how the payload is written (b64)."
    own = [name for name in _OWN_KEYS if name in header]
    if own:
        yield f"The token brings its own key ({', '.join(own)}); only keys of permissions.yaml count."
    kind = header.get("typ", "JWT")
    if not isinstance(kind, str) or kind.lower() not in _TYPES:
        yield "The header's typ is neither JWT nor at+jwt."


def _type_problems(claims: Mapping[str, Any]) -> Iterator[str]:
    for name in ("iat", "exp", "nbf"):
        if name in claims and not _is_instant(claims[name]):
            yield f"{name} is not a time in seconds since 1970."
    jti = claims.get("jti")
    if not isinstance(jti, str) or not _JTI.fullmatch(jti):
        yield "jti is not a string of 1 to 255 printable ASCII characters."
    roles = claims.get("roles")
    if not isinstance(roles, list) or not all(isinstance(role, str) for role in roles):
        yield "roles is not a list of strings."
    elif len(roles) > _MOST_ROLES:
        yield f"roles has more than {_MOST_ROLES} entries."


def _is_instant(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) and 0 <= value <= _LAST_INSTANT


def _signer_problems(claims: Mapping[str, Any], grant: ServiceGrant, signer: _Signer) -> Iterator[str]:
    if signer.service is None and grant.keys:
        yield f"{grant.name} has keys in permissions.yaml: tokens signed with JWT_SECRET do not count for it."
    if signer.service is not None and signer.service != grant.name:
        yield f"sub is {grant.name}, but {signer.name} belongs to {signer.service}."
    if claims.get("iss") != signer.issuer:
        yield f"iss is not {signer.issuer}, which tokens signed with {signer.name} must say."
    issued, expires = claims.get("iat"), claims.get("exp")
    if _is_instant(issued) and _is_instant(expires):
        lifetime = claims["exp"] - claims["iat"]
        if lifetime <= 0:
            yield "exp is not after iat."
        elif lifetime > signer.longest:
            yield f"The token lives longer than {signer.longest} s, the most for {signer.name}."


def _revocation_problems(claims: Mapping[str, Any], grant: ServiceGrant) -> Iterator[str]:
    jti = claims.get("jti")
    if isinstance(jti, str) and jti in grant.revoked:
        yield f"permissions.yaml lists this jti under revoked of {grant.name}."
    issued = claims.get("iat")
    if grant.not_before is not None and _is_instant(issued) and claims["iat"] < grant.not_before.timestamp():
        yield f"The token was issued before not_before of {grant.name}."


def _time_problems(claims: Mapping[str, Any], now: float) -> Iterator[str]:
    for name in ("iat", "nbf"):
        if _is_instant(claims.get(name)) and claims[name] > now + LEEWAY:
            yield f"The token is not valid yet: its {name} is in the future."
    if _is_instant(claims.get("exp")) and claims["exp"] <= now - LEEWAY:
        yield "The token has expired."


def _refuse_first(problems: Iterator[str]) -> None:
    for problem in problems:
        raise TokenRefused(problem)


def _principal(claims: Mapping[str, Any], policy: Policy) -> Principal:
    roles = policy.effective_roles(claims["sub"], claims["roles"])
    return Principal(service=claims["sub"], roles=roles, jti=claims["jti"])


# Signatures


def _verify_signature(token: str, signer: _Signer) -> None:
    from jwt.exceptions import PyJWTError  # noqa: PLC0415 - loads cryptography

    cause: PyJWTError | None = None
    for key in signer.keys:
        try:
            _jws().decode(token, key, algorithms=[signer.algorithm])
        except PyJWTError as error:
            cause = error
        else:
            return
    raise TokenRefused(f"The signature does not fit {signer.name}.") from cause


@lru_cache(maxsize=1)
def _jws() -> PyJWS:
    from jwt import PyJWS  # noqa: PLC0415 - loads cryptography, which a start does not need

    return PyJWS(
        algorithms=["HS256", "EdDSA", "ES256", "RS256"], options={"enforce_minimum_key_length": True}
    )


@lru_cache(maxsize=256)
def _public_key(pem: str) -> PublicKeyTypes:
    from cryptography.hazmat.primitives.serialization import load_pem_public_key  # noqa: PLC0415 - as above

    return load_pem_public_key(pem.encode())


def _require_secret(secret: bytes) -> None:
    if len(secret) < SHORTEST_SECRET:
        raise ValueError(
            f"JWT_SECRET has {len(secret)} bytes and needs at least {SHORTEST_SECRET}; "
            f"make one with: {MAKE_ONE_WITH}"
        )
    # Everybody knows a public key: as an HMAC secret it would let everybody sign (CVE-2017-11424).
    if any(mark in secret for mark in _MARKS_OF_KEYS):
        raise ValueError(f"JWT_SECRET is a key or a certificate; it has to be random text: {MAKE_ONE_WITH}")


def _shown(value: object) -> str:
    """A value that the sender chose, short and in ASCII, so that it cannot forge a line of the log."""
    return ascii(value)[:60]
