"""Tokens: a service's signed JWT becomes a principal; every doubt is a refusal."""

from infra.tokens.claims import LEEWAY, LONGEST_SELF_SIGNED, MINTED_ISSUER
from infra.tokens.minting import mint, sign
from infra.tokens.refusals import KeysAwaited, TokenRefused
from infra.tokens.signatures import MAKE_ONE_WITH, SHORTEST_SECRET
from infra.tokens.verifier import TokenReport, TokenVerifier

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
