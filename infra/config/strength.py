"""How hard a secret is to guess: its length, its variety, and whether it stands in a book."""

from __future__ import annotations

import base64
import math
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from typing import Final

MAKE_ONE_WITH: Final = 'python3 -c "import secrets; print(secrets.token_urlsafe(48))"'

BITS_PER_BYTE: Final = 1.75
"""Of variety that a secret needs for each byte of its least length: 56 bits for 32 bytes.

32 random digits have about 3 a byte, as many hexadecimal ones 3.6, and of base64 4.7."""

PUBLISHED: Final = frozenset(
    {
        # https://www.jwt.io: what its page signs with, now and in earlier years.
        b"a-string-secret-at-least-256-bits-long",
        b"a-valid-string-secret-that-is-at-least-384-bits-long",
        b"a-valid-string-secret-that-is-at-least-512-bits-long-which-is-very-long",
        b"your-256-bit-secret",
        b"your-384-bit-secret",
        b"your-512-bit-secret",
        # RFC 7515, A.1 and RFC 7517, A.3; RFC 7520, 3.5.
        b"aym1sysppbydfgzld3umj1qzkobwvmkoqq-estjqlr_t-1qs0gzh75aktmn3yj0ips4hcguutwjazzr1z9caow",
        b"hjtxiz2usn5kbqfbttnwbpdmhkv8fjg-onbc6mxccyg",
        # Tutorials and templates: FastAPI's, Supabase's, the usual one for Spring Boot.
        b"09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7",
        b"super-secret-jwt-token-with-at-least-32-characters-long",
        b"your-super-secret-jwt-token-with-at-least-32-characters-long",
        b"404e635266556a586e3272357538782f413f4428472b4b6250645367566b5970",
    }
)
"""Secrets that everybody can read, in small letters."""


def why_guessable(secret: bytes, shortest: int) -> str | None:
    """Why this secret could be guessed, as the rest of a sentence after its name; None when it is good.

    Args:
        secret: as it is used.
        shortest: the fewest bytes that it may have.
    """
    if len(secret) < shortest:
        return f"has {len(secret)} bytes and needs at least {shortest}"
    if secret.lower() in PUBLISHED or _as_text(secret) in PUBLISHED:
        return "is a published example, which everybody knows"
    period = _period(secret)
    if period < shortest and period <= len(secret) / 2:
        return f"says the same {period} bytes again and again, and needs at least {shortest} of its own"
    needed = math.ceil(shortest * BITS_PER_BYTE)
    found = math.floor(variety(secret))
    if found < needed:
        told = "by how often each byte stands in it, and what it repeats left out"
        return f"has too little variety: {found} bits, {told}; {needed} are needed"
    return None


def variety(secret: bytes) -> float:
    """Bits by Shannon's formula, of the bytes or of the steps from one to the next, whichever says less.

    The steps are what gives away that something is counted up or down. A byte that ends three which stood
    there before adds nothing.
    """
    steps = [(after - before) % 256 for before, after in pairwise(secret)]
    threes = {secret[at : at + 3] for at in range(len(secret) - 2)}
    return min(len(secret), len(threes) + 2) * min(_entropy(secret), _entropy(steps))


def _entropy(values: Iterable[int]) -> float:
    counts = Counter(values)
    total = counts.total()
    return -sum(count / total * math.log2(count / total) for count in counts.values())


def _period(secret: bytes) -> int:
    """The length of the part at the beginning that, said again and again, makes the whole."""
    return next(length for length in range(1, len(secret) + 1) if secret.startswith(secret[length:]))


def _as_text(secret: bytes) -> bytes:
    """The same secret where a document writes it, for those that documents write as base64url."""
    return base64.urlsafe_b64encode(secret).rstrip(b"=").lower()
