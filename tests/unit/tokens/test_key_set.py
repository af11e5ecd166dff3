"""Key sets: which keys of an issuer count, for which algorithm, and what a document must not be."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given, settings
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from infra.auth.key_set import MOST_KEYS, read_key_set

Jwk = dict[str, Any]
RSA = {**RSAAlgorithm.to_jwk(rsa.generate_private_key(65537, 2048).public_key(), as_dict=True), "kid": "r"}
WEAK = {
    **RSAAlgorithm.to_jwk(
        rsa.generate_private_key(65537, 1024).public_key(),  # noqa: S505 - made to be refused
        as_dict=True,
    ),
    "kid": "r",
}
_P256 = ec.generate_private_key(ec.SECP256R1())
EC = {**ECAlgorithm.to_jwk(_P256.public_key(), as_dict=True), "kid": "e"}
EC_PRIVATE = {**ECAlgorithm.to_jwk(_P256, as_dict=True), "kid": "e"}
P384 = {**ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP384R1()).public_key(), as_dict=True), "kid": "e"}
OKP = {**OKPAlgorithm.to_jwk(ed25519.Ed25519PrivateKey.generate().public_key(), as_dict=True), "kid": "o"}
OCT = {"kty": "oct", "kid": "s", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA"}


def with_(jwk: Jwk, **changes: Any) -> Jwk:
    """That key, but for the changes; `...` takes a member away."""
    return {name: value for name, value in {**jwk, **changes}.items() if value is not ...}


def body(*keys: Any) -> bytes:
    return json.dumps({"keys": list(keys)}).encode()


@pytest.mark.parametrize(
    ("jwk", "algorithm"),
    [
        (RSA, "RS256"),
        (with_(RSA, key_ops=...), "RS256"),
        (with_(RSA, alg="RS256", use="sig"), "RS256"),
        (with_(RSA, x5c=["AAAA"], x5t="AAAA", x5u="https://evil.example", issuer="x", nbf=1), "RS256"),
        (EC, "ES256"),
        (with_(EC, alg="ES256", key_ops=["verify", "sign"]), "ES256"),
        (OKP, "EdDSA"),
        (with_(OKP, alg="EdDSA"), "EdDSA"),
        (with_(OKP, kid="k" * 255), "EdDSA"),
    ],
)
def test_a_key_counts_for_the_one_algorithm_that_its_kind_has(jwk: Jwk, algorithm: str) -> None:
    found = read_key_set(body(jwk))
    (key,) = found.keys.values()
    assert (key.kid, key.algorithm) == (jwk["kid"], algorithm)
    assert key.public_key.startswith("-----BEGIN PUBLIC KEY-----")
    assert found.left_out == ()


@pytest.mark.parametrize(
    ("jwk", "words"),
    [
        (OCT, "kty is none of RSA, EC and OKP"),
        (with_(OCT, alg="HS256"), "kty is none of"),
        (WEAK, "1024 bits"),
        (P384, "kind of key"),
        (with_(EC, crv="secp256k1"), "JWK of a public key"),
        (with_(OKP, crv="X25519"), "JWK of a public key"),
        (with_(EC, kty="RSA"), "n, e have to be strings"),
        (with_(EC, kty=["EC"]), "kty is none of"),
        (with_(EC, kty=...), "kty is none of"),
        (with_(EC, x=...), "have to be strings"),
        (with_(EC, x=7), "have to be strings"),
        (with_(EC, x="!!"), "JWK of a public key"),
        (with_(EC, x="AAAA"), "JWK of a public key"),
        (with_(EC, y=EC["x"]), "JWK of a public key"),
        (with_(RSA, e=""), "JWK of a public key"),
        (with_(RSA, n="AAAA"), "JWK of a public key"),
        (with_(RSA, alg="RS512"), "alg is not RS256"),
        (with_(RSA, alg="PS256"), "alg is not RS256"),
        (with_(RSA, alg="HS256"), "alg is not RS256"),
        (with_(RSA, alg="none"), "alg is not RS256"),
        (with_(RSA, alg=None), "alg is not RS256"),
        (with_(RSA, alg="RSA-OAEP", use="enc"), "use is not sig"),
        (with_(RSA, alg="RSA-OAEP"), "alg is not RS256"),
        (with_(EC, alg="RS256"), "alg is not ES256"),
        (with_(RSA, use="enc"), "use is not sig"),
        (with_(RSA, use=None), "use is not sig"),
        (with_(RSA, key_ops=["sign"]), "key_ops"),
        (with_(RSA, key_ops=[]), "key_ops"),
        (with_(RSA, key_ops="verify"), "key_ops"),
        (EC_PRIVATE, "private half is published"),
        (with_(RSA, d="AQAB"), "private half is published"),
        (with_(RSA, kid=...), "no kid"),
        (with_(RSA, kid=""), "no kid"),
        (with_(RSA, kid=7), "no kid"),
        (with_(RSA, kid="k" * 256), "no kid"),
        (with_(RSA, kid="a\nb"), "no kid"),
        ("text", "not a JSON object"),
        (None, "not a JSON object"),
    ],
)
def test_a_key_that_cannot_be_used_is_left_out_with_the_reason_and_the_others_count(
    jwk: Any, words: str
) -> None:
    other = with_(OKP, kid="other")
    found = read_key_set(body(jwk, other))
    assert set(found.keys) == {"other"}
    (told,) = found.left_out
    assert words in told
    assert told.endswith(".")
    assert "\n" not in told


@pytest.mark.parametrize("twin", [EC, with_(RSA, kid="e", use="enc"), with_(OCT, kid="e")])
def test_keys_that_share_a_kid_do_not_count_any_of_them(twin: Jwk) -> None:
    found = read_key_set(body(EC, twin, OKP))
    assert set(found.keys) == {"o"}
    assert len(found.left_out) == 2
    assert all("the same kid" in told for told in found.left_out)


def test_keys_without_a_kid_are_not_taken_for_twins() -> None:
    found = read_key_set(body(with_(EC, kid=...), with_(OKP, kid=...), RSA))
    assert set(found.keys) == {"r"}
    assert all("no kid" in told for told in found.left_out)


def test_the_same_document_is_the_same_set() -> None:
    assert read_key_set(body(EC, RSA, OCT)) == read_key_set(body(EC, RSA, OCT))
    assert read_key_set(body(EC)) != read_key_set(body(RSA))


def test_a_set_without_keys_is_a_set() -> None:
    assert read_key_set(b'{"keys": []}').keys == {}


def test_as_many_keys_as_are_allowed_count() -> None:
    found = read_key_set(body(*(with_(OKP, kid=f"k{number}", x5c=["A"]) for number in range(MOST_KEYS))))
    assert len(found.keys) == MOST_KEYS


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (b"", "cannot be read as JSON"),
        (b"<html>sign in</html>", "cannot be read as JSON"),
        (b"\xff\xfe", "not UTF-8"),
        (b'{"keys": [], "keys": []}', "twice"),
        (b'{"keys": [NaN]}', "no JSON number"),
        (b"[" * 500 + b"]" * 500, "JSON"),
        (b"[" * 5000, "too many brackets"),
        (b"[]", 'list of "keys"'),
        (b'"keys"', 'list of "keys"'),
        (b"null", 'list of "keys"'),
        (b"{}", 'list of "keys"'),
        (b'{"keys": {}}', 'list of "keys"'),
        (b'{"issuer": "x", "jwks_uri": "https://issuer.example.com/certs"}', 'list of "keys"'),
        (b'{"keys": [' + b"1," * MOST_KEYS + b"1]}", "more than 64 keys"),
    ],
)
def test_what_is_no_key_set_is_refused_whole(document: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=r".") as refused:
        read_key_set(document)
    assert words in str(refused.value)


values: st.SearchStrategy[Any] = st.one_of(
    st.none(), st.booleans(), st.integers(), st.text(max_size=8), st.lists(st.text(max_size=4), max_size=2)
)


@settings(max_examples=200)
@given(st.dictionaries(st.sampled_from(sorted({*RSA, *EC, *OKP, "alg", "use"})), values, max_size=4))
def test_whatever_stands_in_a_key_nothing_but_a_good_key_comes_of_it(changes: Jwk) -> None:
    keep: Callable[[Jwk], Jwk] = lambda jwk: {**jwk, **changes}  # noqa: E731 - one line says it
    found = read_key_set(body(*(keep(jwk) for jwk in (RSA, EC, OKP))))
    assert all(key.algorithm in {"RS256", "ES256", "EdDSA"} for key in found.keys.values())
    assert len(found.keys) + len(found.left_out) == 3
