"""Keys and secrets that anybody knows or can work out are refused, wherever they are given."""

from __future__ import annotations

import base64
import json
import re
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, derive_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_public_key,
)
from jwt import PyJWK
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from infra.auth import mint, sign
from infra.auth.key_set import read_key_set
from infra.config.permissions.file import PolicyFileError, load_policy
from infra.config.permissions.keys import load_private_key, new_pair, read_public_jwk, read_public_pem
from infra.config.strength import why_guessable
from tests.integration.access.conftest import Keys, World

ROOT = Path(__file__).parents[3]
PUBLISHED: dict[str, str] = json.loads(Path(__file__).with_name("published_keys.json").read_text())

PRIME = 2**255 - 19
ORDER_8 = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
SMALL_ORDER = {
    "all zeros": 0,
    "the neutral element": 1,
    "order 2": PRIME - 1,
    "order 8": ORDER_8,
    "order 8, the other": PRIME - ORDER_8,
    "zero, written as the prime": PRIME,
    "one, written as one more than the prime": PRIME + 1,
}


def _jwk(pem: str) -> dict[str, str]:
    key: Any = load_pem_public_key(pem.encode())
    algorithm: Any = next(
        one
        for one, kind in ((OKPAlgorithm, "Ed25519"), (ECAlgorithm, "EC"), (RSAAlgorithm, "RSA"))
        if kind in type(key).__name__
    )
    found: dict[str, Any] = algorithm.to_jwk(key, as_dict=True)
    return {name: value for name, value in found.items() if isinstance(value, str)}


def _policy(folder: Path, pem: str) -> Path:
    path = folder / "permissions.yaml"
    key = json.dumps(pem)
    path.write_text(f"version: 1\nservices:\n  ci: {{keys: [{{kid: ci-1, public_key: {key}}}]}}\n")
    return path


def _spki(raw: bytes) -> str:
    der = bytes.fromhex("302a300506032b6570032100") + raw
    return f"-----BEGIN PUBLIC KEY-----\n{base64.b64encode(der).decode()}\n-----END PUBLIC KEY-----\n"


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_key_whose_private_half_is_published_is_refused_wherever_it_is_given(
    name: str, tmp_path: Path
) -> None:
    pem = PUBLISHED[name]
    place = name.rpartition(", ")[0]
    with pytest.raises(PolicyFileError) as refused:
        load_policy(_policy(tmp_path, pem), {})
    for words in ("published", place, "telegate keys new"):
        assert words in refused.value.detail
    jwk = _jwk(pem)
    with pytest.raises(ValueError, match="published example key"):
        read_public_jwk(jwk)
    told = read_key_set(json.dumps({"keys": [{**jwk, "kid": "a"}]}).encode())
    assert not told.keys
    assert "published example key" in told.left_out[0]


def test_the_same_published_secret_under_another_sign_or_exponent_is_refused_too() -> None:
    point: Any = load_pem_public_key(PUBLISHED["RFC 7515, A.3, P-256"].encode())
    numbers = point.public_numbers()
    other = type(numbers)(numbers.x, SECP256R1_PRIME - numbers.y, numbers.curve).public_key()
    rsa: Any = load_pem_public_key(PUBLISHED["RFC 7515, A.2, RSA"].encode())
    third = RSAPublicNumbers(17, rsa.public_numbers().n).public_key()
    edwards: Any = load_pem_public_key(PUBLISHED["RFC 8037, A.2, Ed25519"].encode())
    raw = edwards.public_bytes_raw()
    negative = Ed25519PublicKey.from_public_bytes(raw[:-1] + bytes([raw[-1] ^ 0x80]))
    for key in (other, third, negative):
        with pytest.raises(ValueError, match="published example key"):
            read_public_pem(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())


SECP256R1_PRIME = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF


@pytest.mark.parametrize("sign_bit", [0, 0x80])
@pytest.mark.parametrize("name", SMALL_ORDER)
def test_a_key_of_small_order_for_which_anybody_can_sign_is_refused(
    name: str, sign_bit: int, tmp_path: Path
) -> None:
    raw = SMALL_ORDER[name].to_bytes(32, "little")
    raw = raw[:-1] + bytes([raw[-1] | sign_bit])
    with pytest.raises(PolicyFileError, match="small order"):
        load_policy(_policy(tmp_path, _spki(raw)), {})
    x = base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
    with pytest.raises(ValueError, match="small order"):
        read_public_jwk({"kty": "OKP", "crv": "Ed25519", "x": x})


COUNTED: dict[str, Callable[[], Any]] = {
    "zeros": lambda: Ed25519PrivateKey.from_private_bytes(bytes(32)),
    "ones": lambda: Ed25519PrivateKey.from_private_bytes(b"\x01" * 32),
    "all bits": lambda: Ed25519PrivateKey.from_private_bytes(b"\xff" * 32),
    "counted up": lambda: Ed25519PrivateKey.from_private_bytes(bytes(range(32))),
    "the number one on P-256": lambda: derive_private_key(1, SECP256R1()),
    "the number two on P-256": lambda: derive_private_key(2, SECP256R1()),
}


@pytest.mark.parametrize("name", COUNTED)
def test_a_private_key_that_is_a_plain_number_is_refused_for_signing_and_checking(name: str) -> None:
    private = COUNTED[name]()
    public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    with pytest.raises(ValueError, match="plain number"):
        read_public_pem(public)
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    with pytest.raises(ValueError, match="plain number"):
        sign(pem, "ci-1", "ci", [], lifetime=60, audience="telegate", now=0)


@pytest.mark.parametrize(
    ("modulus", "words"),
    [
        (3 * (2**2100 + 1) | 1, "taken apart"),
        (((1 << 1103) - 1) ** 2, "taken apart"),
        (((1 << 1103) - 1) * ((1 << 1103) + 5), "taken apart"),
        ((1 << 9000) | 1, "8192 are the most"),
    ],
    ids=["a small factor", "a square", "close factors", "too long"],
)
def test_an_rsa_key_that_is_easily_taken_apart_or_slow_to_check_is_refused(modulus: int, words: str) -> None:
    key = RSAPublicNumbers(65_537, modulus).public_key()
    with pytest.raises(ValueError, match=words):
        read_public_pem(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())


def test_the_published_private_key_cannot_sign_a_token_here_either() -> None:
    seed = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    pem = Ed25519PrivateKey.from_private_bytes(seed).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    with pytest.raises(ValueError, match="published example key"):
        load_private_key(pem.decode())


def test_new_keys_of_every_kind_are_taken(keys: Keys) -> None:
    for _ in range(20):
        assert read_public_pem(new_pair()[1])[0] == "EdDSA"
    for kind, algorithm in (("ed25519", "EdDSA"), ("p256", "ES256"), ("rsa", "RS256")):
        assert read_public_pem(keys.public_pem(kind))[0] == algorithm
        assert PyJWK.from_dict(_jwk(keys.public_pem(kind)))


def test_the_example_of_the_documentation_has_no_key_that_counts(tmp_path: Path) -> None:
    reference = (ROOT / "docs/reference/permissions.md").read_text(encoding="utf-8")
    policy = reference.partition("```yaml\n")[2].partition("```")[0]
    assert "public_key" in policy
    (tmp_path / "permissions.yaml").write_text(policy)
    assert not load_policy(tmp_path / "permissions.yaml", {}).keys
    (tmp_path / "permissions.yaml").write_text(re.sub(r"(?m)^    # ", "    ", policy))
    with pytest.raises(PolicyFileError, match="not a public key as PEM") as refused:
        load_policy(tmp_path / "permissions.yaml", {})
    assert len(refused.value.problems) == 1


def test_no_page_shows_a_public_key_that_somebody_could_copy() -> None:
    pages = [*ROOT.glob("*.md"), *ROOT.glob("*.yaml"), *(ROOT / "docs").rglob("*.md")]
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert "MCowBQYDK2Vw" not in text, page
        assert "MIIBIjAN" not in text, page
        assert "MFkwEwYH" not in text, page


NO_SECRETS = {
    "jwt.io's of old": b"your-256-bit-secret",
    "jwt.io's": b"a-string-secret-at-least-256-bits-long",
    "jwt.io's for HS384": b"a-valid-string-secret-that-is-at-least-384-bits-long",
    "jwt.io's for HS512": b"a-valid-string-secret-that-is-at-least-512-bits-long-which-is-very-long",
    "RFC 7515, A.1": b"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T"
    b"-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow",
    "RFC 7520, 3.5": b"hJtXIZ2uSN5kbQfbtTNWbpdmhkV8FJG-Onbc6mxCcYg",
    "FastAPI's": b"09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7",
    "Supabase's": b"super-secret-jwt-token-with-at-least-32-characters-long",
    "one letter": b"x" * 64,
    "two letters": b"ab" * 32,
    "a word again and again": b"changeme-" * 8,
    "a sentence again and again": b"correct horse battery!" * 3,
    "counted up": b"0123456789" * 4,
    "the alphabet": b"abcdefghijklmnopqrstuvwxyz0123456789",
    "a word again and again, and a digit": b"passwordpasswordpasswordpassword1",
    "long runs": b"aaaaaaaabbbbbbbbccccccccdddddddd",
    "the keyboard's digits there and back": b"1234567890987654321234567890987654321",
    "a jwt.io secret in capitals": b"A-STRING-SECRET-AT-LEAST-256-BITS-LONG",
}


@pytest.mark.parametrize("name", NO_SECRETS)
def test_a_shared_secret_that_is_published_or_has_no_variety_is_refused(name: str, world: World) -> None:
    with pytest.raises(ValueError, match="JWT_SECRET"):
        world.verifier_with([NO_SECRETS[name]])
    with pytest.raises(ValueError, match="JWT_SECRET"):
        mint(NO_SECRETS[name], "ci", [], 60, "telegate", now=0)


def test_random_secrets_of_every_spelling_have_variety_enough() -> None:
    makers: tuple[Callable[[], str], ...] = (
        lambda: secrets.token_hex(16),
        lambda: secrets.token_urlsafe(24),
        lambda: "".join(secrets.choice("0123456789") for _ in range(32)),
        lambda: secrets.token_urlsafe(48),
        lambda: secrets.token_hex(8),
    )
    for make in makers:
        for _ in range(200):
            made = make().encode()
            assert why_guessable(made, 32 if len(made) >= 32 else 16) is None, made
