"""Key sets (JWKS, RFC 7517): which keys that an issuer publishes count, and for which one algorithm each."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from core.policy.policy import ServiceKey
from infra.auth.errors import shown
from infra.auth.jose import strict_json, why_unreadable

ALGORITHMS: Final = ("EdDSA", "ES256", "RS256")
"""What an issuer may sign with: nothing that a secret could check."""

MOST_KEYS: Final = 64
"""Large issuers publish about ten."""

_MOST_BRACKETS = 16 * MOST_KEYS
_MEMBERS = {"RSA": ("n", "e"), "EC": ("crv", "x", "y"), "OKP": ("crv", "x")}
_PRIVATE_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth"})
_KID = re.compile(r"[ -~]{1,255}", re.ASCII)


@dataclass(frozen=True, slots=True)
class KeySet:
    """What an issuer publishes.

    Attributes:
        keys: those that count, by their `kid`.
        left_out: a sentence for each of the others.
    """

    keys: Mapping[str, ServiceKey] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()


def read_key_set(body: bytes) -> KeySet:
    """The keys of a JWKS document.

    One key that cannot be used is left out, as RFC 7517, section 5, has it; the others count.

    Raises:
        ValueError: the document is no key set; the text says why, in half a sentence.
    """
    entries = _entries(body)
    kids = Counter(map(_kid, entries))
    keys: dict[str, ServiceKey] = {}
    left_out: list[str] = []
    for number, entry in enumerate(entries, start=1):
        kid = _kid(entry)
        name = f"Key {number}" if kid is None else f"The key {shown(kid)}"
        try:
            key = _read_key(entry, kid, kids[kid])
        except ValueError as error:
            left_out.append(f"{name} does not count: {error}.")
        else:
            keys[key.kid] = key
    return KeySet(MappingProxyType(keys), tuple(left_out))


def _entries(body: bytes) -> list[Any]:
    try:
        document = strict_json(body.decode("utf-8"), _MOST_BRACKETS)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it cannot be read as JSON: {why_unreadable(error)}") from error
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise ValueError('it is not a JSON object with a list of "keys"')  # noqa: TRY004 - a wrong document
    if len(entries) > MOST_KEYS:
        raise ValueError(f"it holds more than {MOST_KEYS} keys")
    return entries


def _kid(entry: object) -> str | None:
    kid = entry.get("kid") if isinstance(entry, dict) else None
    return kid if isinstance(kid, str) and _KID.fullmatch(kid) else None


def _read_key(entry: object, kid: str | None, of_this_kid: int) -> ServiceKey:
    from infra.config.permissions.keys import read_public_jwk  # noqa: PLC0415 - loads cryptography

    if not isinstance(entry, dict):
        raise ValueError("it is not a JSON object")  # noqa: TRY004 - what a file holds is a value
    if kid is None:
        raise ValueError("it has no kid of 1 to 255 printable ASCII characters")
    if of_this_kid > 1:
        raise ValueError("another one has the same kid")
    kind = entry.get("kty")
    members = _MEMBERS.get(kind) if isinstance(kind, str) else None
    if members is None:
        raise ValueError("its kty is none of RSA, EC and OKP")
    _require_public(entry)
    _require_for_signatures(entry)
    # Only these: a certificate, an address or anything else beside them has no say.
    public = {name: entry[name] for name in ("kty", *members) if isinstance(entry.get(name), str)}
    if len(public) <= len(members):
        raise ValueError(f"{', '.join(members)} have to be strings")
    algorithm, pem = read_public_jwk(public)
    if entry.get("alg", algorithm) != algorithm:
        raise ValueError(f"its alg is not {algorithm}, the only one that is accepted for such a key")
    return ServiceKey(kid, algorithm, pem)


def _require_public(entry: Mapping[str, Any]) -> None:
    if _PRIVATE_MEMBERS & entry.keys():
        raise ValueError("its private half is published, so that anybody could sign with it")


def _require_for_signatures(entry: Mapping[str, Any]) -> None:
    if entry.get("use", "sig") != "sig":
        raise ValueError("its use is not sig")
    operations = entry.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        raise ValueError("its key_ops do not name verify")
