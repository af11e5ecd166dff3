"""Claims: what a token has to say; each rule yields what is wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from core.policy.policy import Policy, ServiceGrant
from infra.auth.signatures import Signer

MINTED_ISSUER: Final = "telegate"
"""The `iss` of tokens that are signed with `JWT_SECRET`."""

LEEWAY: Final = 30
"""Seconds that two clocks may differ."""

LONGEST_SELF_SIGNED: Final = 3600
"""Seconds that a token may live which a service signs itself, or an issuer for it."""

_MOST_ROLES = 64
_LAST_INSTANT = 253_402_300_799  # 9999-12-31T23:59:59Z: later times have no date
REQUIRED: Final = ("iss", "sub", "aud", "iat", "exp", "jti", "roles")
_TYPES = ("jwt", "at+jwt", "application/jwt", "application/at+jwt")
_OWN_KEYS = ("jku", "jwk", "x5u", "x5c")
_JTI = re.compile(r"[ -~]{1,255}", re.ASCII)


def header_problems(header: Mapping[str, Any]) -> Iterator[str]:
    """What no header may say, whoever signs."""
    if "crit" in header:
        yield "The header names extensions that must be understood (crit); none is."
    if "b64" in header:
        yield "The header changes how the payload is written (b64)."
    own = [name for name in _OWN_KEYS if name in header]
    if own:
        yield f"The token brings its own key ({', '.join(own)}); only keys that the gateway knows count."
    kind = header.get("typ", "JWT")
    if not isinstance(kind, str) or kind.lower() not in _TYPES:
        yield "The header's typ is neither JWT nor at+jwt."


def claim_problems(
    claims: Mapping[str, Any], policy: Policy, audience: str, signer: Signer | None
) -> Iterator[str]:
    """What is wrong with the claims, but for the time; without a signer, as far as that can be said."""
    missing = [name for name in REQUIRED if name not in claims]
    if missing:
        yield f"These claims are missing: {', '.join(missing)}."
    yield from _type_problems(claims)
    yield from _audience_problems(claims, audience)
    grant = policy.services.get(claims["sub"]) if isinstance(claims.get("sub"), str) else None
    if grant is None:
        yield "sub is no service that permissions.yaml names."
    elif signer is not None:
        yield from _signer_problems(claims, grant, signer)
    if grant is not None:
        yield from _revocation_problems(claims, grant)


def _audience_problems(claims: Mapping[str, Any], audience: str) -> Iterator[str]:
    told = claims.get("aud")
    meant = [told] if isinstance(told, str) else told
    if not isinstance(meant, list) or not all(isinstance(one, str) for one in meant):
        yield "aud is neither a string nor a list of strings."
    elif audience not in meant:
        yield f"aud is not {audience}: the token is meant for somebody else."


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
    # Not by way of a float: a whole number may be larger than any. NaN is in no range.
    return 0 <= value <= _LAST_INSTANT


def _signer_problems(claims: Mapping[str, Any], grant: ServiceGrant, signer: Signer) -> Iterator[str]:
    if signer.service is None and grant.keys:
        told = f"tokens signed with {signer.name} do not count for it."
        yield f"{grant.name} has keys in permissions.yaml: {told}"
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


def time_problems(claims: Mapping[str, Any], now: float) -> Iterator[str]:
    """Whether the token is not valid yet, or no more; `now` is in seconds since the epoch."""
    for name in ("iat", "nbf"):
        if _is_instant(claims.get(name)) and claims[name] > now + LEEWAY:
            yield f"The token is not valid yet: its {name} is in the future."
    if _is_instant(claims.get("exp")) and claims["exp"] <= now - LEEWAY:
        yield "The token has expired."
