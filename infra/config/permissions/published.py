"""Keys that are no secrets: those whose private half anybody can read or work out."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePublicKey,
    derive_private_key,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

PublicKey = Ed25519PublicKey | EllipticCurvePublicKey | RSAPublicKey

_INSTEAD: Final = "make a pair of your own with: telegate keys new"
_LARGEST_RSA: Final = 8192
"""Bits; a larger key would make every look at a signature slow."""
_CLOSE: Final = 64
"""Steps of Fermat's way to take a number apart, which is quick when its factors are close to each other."""

PUBLISHED: Final = {
    "a8c9d9c39fe0d849523c4f4d2e240682": "RFC 6979, A.2.5",
    "f1d7aab03002ab505f391a40ad7634e1": "RFC 7515, A.2",
    "d12e29a94735a8e23cda89480ddcbf27": "RFC 7515, A.3",
    "f485d2f405cc724bfcbeaace089b93b3": "RFC 7516, A.1",
    "e74800988c722cf9aa098e581d183074": "RFC 7516, A.2",
    "94f3dbd8f27e273e9a0d6a745f07088c": "RFC 7517, A.1",
    "fcabcc7862afb5d092221fa4af82f327": "RFC 7517, A.1",
    "5affc449563d3d3f25326bec6003d643": "RFC 7517, B",
    "30473cee352eaead5ee6ce2ac33e5a3e": "RFC 7517, C",
    "3de083b3ab378e786a4d55aebc1d608a": "RFC 7518, C",
    "3263b103e55fa8dc10d4ec35dfee909b": "RFC 7518, C",
    "4a81e853eb4016c32ddcf8665b301c8d": "RFC 7520, 3.4",
    "072eb878d7c8abc0e1b768f1551c38f0": "RFC 7520, 5.1",
    "b60a04b2005787973d6438c74b8634f6": "RFC 7520, 5.2",
    "d634b9c4eb80d166a43a5b7befa4fdb7": "RFC 7520, 5.4",
    "767a7d012a008b0252245c31a5ed65c8": "RFC 8032, 7.1, TEST 1024",
    "552dce188171fd7ea17914a1c59fdf7b": "RFC 8032, 7.1, TEST 2",
    "d58b58bd80f1a9b9eb836e5177365f01": "RFC 8032, 7.1, TEST 3",
    "ebdf693551b023993bd26f73e95a78a7": "RFC 8032, 7.1, TEST SHA(abc)",
    "ab9b706ad5f1c4fc83be4301be2e79e1": "RFC 8037, A.2",
    "ca116ab15e1378016493e03889b72792": "RFC 8410, 10.1",
    "6486ae07f6eba197aab64222512b3e10": "RFC 9421, B.1.2",
    "8a133824bc1e32bf083aaa0b26f9db89": "RFC 9421, B.1.3",
    "466e286130da4d1bc44096cb04047358": "RFC 9421, B.1.4",
    "aae4cf850c274d9d58764d35bb9b639d": "jwt.io's example",
    "f60122464d7142a5e5fc1641d041f5e3": "jwt.io's example",
    "b8d283b828b9ee683671656a29be02ac": "the tests of PyJWT",
    "0878e2df3585eed9baaa923d7ad04128": "the tests of PyJWT",
    "10b8fc1d19a4fb209651e998babe49cf": "the tests of PyJWT",
    "75f9e886c21c1b7bcb45f84de4557549": "the tests of PyJWT",
    "28da48f1de4b440c765e8c4fa0585c4f": "the tests of PyJWT",
    "9acb8e3cf23e8abad7d9290943ca455f": "the tests of PyJWT",
    "c165cf5ed2525a74802232a7136489e7": "the tests of PyJWT",
    "f8c1711b3fa77238952e41db6e4c2a65": "the tests of joserfc",
    "06edf853ea8e77001c1651c0e6842f6a": "the tests of joserfc",
    "d8d58a83c6ae0dda9bac321f0381861d": "the tests of joserfc",
    "f3a9b2bb65d962f733515e44b6e33f63": "the tests of jwcrypto",
    "2b6a909b5a32927767a2c2fe9252fad4": "the tests of jwcrypto",
    "4d702136b95b189d085382ebf52010da": "the tests of jwcrypto",
}
"""Where private keys stand for everybody to read, by `_fingerprint` of the public half."""

_PRIME: Final = 2**255 - 19
_SMALL_ORDER: Final = frozenset(
    {
        0,
        1,
        0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826,
        0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7,
        _PRIME - 1,
    }
)
"""The y of Ed25519's eight points of small order. Under such a key signatures fit that nobody made.

Source: https://eprint.iacr.org/2020/1244 (Taming the many EdDSAs), table 1
"""


def why_no_secret(key: PublicKey) -> str | None:
    """Why anybody could sign for this key, as the second half of a sentence; None when nothing is known."""
    if isinstance(key, Ed25519PublicKey) and (weakness := _why_weak_point(key.public_bytes_raw())):
        return f"{weakness}; {_INSTEAD}"
    if isinstance(key, RSAPublicKey) and (weakness := _why_weak_modulus(key.public_numbers().n)):
        return f"{weakness}; {_INSTEAD}"
    fingerprint = _fingerprint(key)
    place = PUBLISHED.get(fingerprint)
    if place is not None:
        return f"this is a published example key ({place}): anybody can sign with it; {_INSTEAD}"
    if fingerprint in _counted():
        return f"the private half of this key is a plain number that anybody would try; {_INSTEAD}"
    return None


def _why_weak_point(raw: bytes) -> str | None:
    y = int.from_bytes(raw, "little") & (2**255 - 1)
    if y % _PRIME in _SMALL_ORDER:
        return "this Ed25519 key is a point of small order (all zeros is one): anybody can sign for it"
    if y >= _PRIME:
        return "this Ed25519 key is not written as RFC 8032 has it"
    return None


def _why_weak_modulus(modulus: int) -> str | None:
    if modulus.bit_length() > _LARGEST_RSA:
        return f"this RSA key has {modulus.bit_length()} bits, and {_LARGEST_RSA} are the most"
    if math.gcd(modulus, _small_primes()) != 1 or _has_close_factors(modulus):
        return "this RSA key can be taken apart: its factors are small, or close to each other"
    return None


def _has_close_factors(modulus: int) -> bool:
    middle = math.isqrt(modulus - 1) + 1
    squares = (step * step - modulus for step in range(middle, middle + _CLOSE))
    return any(math.isqrt(square) ** 2 == square for square in squares)


@lru_cache(maxsize=1)
def _small_primes() -> int:
    return math.prod(number for number in range(2, 1000) if all(number % one for one in range(2, number)))


def _fingerprint(key: PublicKey) -> str:
    """The same for keys of which one gives away the other: what is left out is easily worked out."""
    if isinstance(key, Ed25519PublicKey):
        raw = key.public_bytes_raw()
        kind, number = b"OKP", raw[:-1] + bytes([raw[-1] & 0x7F])
    elif isinstance(key, EllipticCurvePublicKey):
        kind, number = b"EC", key.public_numbers().x.to_bytes(32, "big")
    else:
        modulus = key.public_numbers().n
        kind, number = b"RSA", modulus.to_bytes((modulus.bit_length() + 7) // 8, "big")
    return hashlib.sha256(kind + b"\0" + number).hexdigest()[:32]


@lru_cache(maxsize=1)
def _counted() -> frozenset[str]:
    """Keys made of one and the same byte, of bytes that are counted up, or of a small number."""
    return frozenset(map(_fingerprint, _counted_keys()))


def _counted_keys() -> Iterator[PublicKey]:
    for seed in (bytes(range(32)), bytes(range(1, 33)), *(bytes([one] * 32) for one in (*range(17), 0xFF))):
        yield Ed25519PrivateKey.from_private_bytes(seed).public_key()
    for number in range(1, 17):
        yield derive_private_key(number, SECP256R1()).public_key()
