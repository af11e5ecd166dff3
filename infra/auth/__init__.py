"""Tokens: a service's signed JWT becomes a principal; every doubt is a refusal."""

from infra.auth.claims import LEEWAY, LONGEST_SELF_SIGNED, MINTED_ISSUER
from infra.auth.errors import KeysAwaited, TokenRefused
from infra.auth.mint import mint, sign
from infra.auth.signatures import SHORTEST_SECRET
from infra.auth.verify import TokenReport, TokenVerifier
from infra.config.strength import MAKE_ONE_WITH

__all__ = [
    "LEEWAY",
    "LONGEST_SELF_SIGNED",
    "MAKE_ONE_WITH",
    "MINTED_ISSUER",
    "SHORTEST_SECRET",
    "KeysAwaited",
    "TokenRefused",
    "TokenReport",
    "TokenVerifier",
    "mint",
    "sign",
]
