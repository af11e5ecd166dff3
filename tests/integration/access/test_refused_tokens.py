"""Tokens that must not count: forged, changed, borrowed, or saying what no service may say."""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from core.model.errors import Unauthenticated
from infra.auth import sign
from infra.config.permissions.keys import new_pair

if TYPE_CHECKING:
    from tests.integration.access.conftest import World

SECRET = b"a-shared-secret-of-the-tests-0123456789"
HUGE = 10**30
BEYOND_FLOATS = 10**309


def _always(signature: bytes) -> Callable[[bytes], bytes]:
    return lambda _: signature


def _hs(secret: bytes, digest: str = "sha256") -> Callable[[bytes], bytes]:
    return lambda data: hmac.new(secret, data, getattr(hashlib, digest)).digest()


def _swap(token: str, index: int, segment: str) -> str:
    segments = token.split(".")
    segments[index] = segment
    return ".".join(segments)


def _flip(token: str, index: int) -> str:
    segment = token.split(".")[index]
    middle = len(segment) // 2
    other = "A" if segment[middle] != "A" else "B"
    return _swap(token, index, segment[:middle] + other + segment[middle + 1 :])


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _claims_twice(world: World) -> bytes:
    text = json.dumps(world.claims())
    return (text[:-1] + ', "sub": "ci"}').encode()


CRAFTED: dict[str, Callable[[World], str]] = {
    "empty": lambda _: "",
    "blank": lambda _: " ",
    "no dots": lambda _: "abc",
    "two segments": lambda world: world.minted().rsplit(".", 1)[0],
    "four segments": lambda world: world.minted() + ".AAAA",
    "five segments, as JWE": lambda world: ".".join([world.minted().split(".")[0]] * 5),
    "signature taken away": lambda world: world.minted().rsplit(".", 1)[0] + ".",
    "header taken away": lambda world: _swap(world.minted(), 0, ""),
    "header changed": lambda world: _flip(world.minted(), 0),
    "payload changed": lambda world: _flip(world.minted(), 1),
    "signature changed": lambda world: _flip(world.minted(), 2),
    "padding added": lambda world: world.minted() + "=",
    "blank at the end": lambda world: world.minted() + " ",
    "line end at the end": lambda world: world.minted() + "\n",
    "standard base64": lambda world: _swap(world.minted(), 2, "+/" + world.minted().split(".")[2][2:]),
    "letters of another script": lambda world: _swap(world.minted(), 1, "\u0430bc"),
    "lone surrogate": lambda world: world.minted() + "\ud800",
    "spare bits in the last character": lambda world: _swap(world.minted(), 0, _b64(b"{}")[:-1] + "R"),
    "longer than 8 KiB": lambda world: world.minted(world.claims(extra="x" * 8192)),
    "header is a list": lambda world: world.token(b"[]", world.claims(), _hs(SECRET)),
    "header is no JSON": lambda world: world.token(b"{alg: HS256}", world.claims(), _hs(SECRET)),
    "header is not UTF-8": lambda world: world.token(b'{"alg":"\xff"}', world.claims(), _hs(SECRET)),
    "header is nested deeply": lambda world: world.token(b"[" * 3000, world.claims(), _hs(SECRET)),
    "payload is nested deeply": lambda world: world.minted(b'{"a":' * 1100 + b"1" + b"}" * 1100),
    "payload is a string": lambda world: world.minted(b'"cron"'),
    "payload is a list": lambda world: world.minted(b"[1]"),
    "payload is empty": lambda world: world.minted(b" "),
    "payload has a number of 5,000 digits": lambda world: world.minted(b'{"iat": ' + b"9" * 5000 + b"}"),
    "payload has a number that is infinite when it is read": lambda world: world.minted(
        json.dumps(world.claims()).replace("1800000600", "1e400").encode()
    ),
    "payload has NaN": lambda world: world.minted(json.dumps(world.claims(exp=float("nan"))).encode()),
    "a claim stands there twice": lambda world: world.minted(_claims_twice(world)),
    "alg stands there twice": lambda world: world.token(
        b'{"alg":"none","alg":"HS256"}', world.claims(), _hs(SECRET)
    ),
    "alg is missing": lambda world: world.minted(alg=...),
    "alg is null": lambda world: world.minted(alg=None),
    "alg is a list": lambda world: world.minted(alg=["HS256"]),
    "alg is in small letters": lambda world: world.minted(alg="hs256"),
    "HS512 with the right secret": lambda world: world.token(
        {"alg": "HS512"}, world.claims(), _hs(SECRET, "sha512")
    ),
    "HS384 with the right secret": lambda world: world.token(
        {"alg": "HS384"}, world.claims(), _hs(SECRET, "sha384")
    ),
    "another secret": lambda world: world.token({"alg": "HS256"}, world.claims(), _hs(b"x" * 40)),
    "empty secret": lambda world: world.token({"alg": "HS256"}, world.claims(), _hs(b"")),
    "alg says HS256, the kid is of an Ed25519 key": lambda world: world.signed("ed25519", alg="HS256"),
    "alg says RS256, the kid is of an Ed25519 key": lambda world: world.signed("ed25519", alg="RS256"),
    "alg says ES256, the kid is of an RSA key": lambda world: world.signed("rsa", alg="ES256"),
    "PS256 by an RSA key": lambda world: world.token(
        {"alg": "PS256", "kid": "vault-1"},
        world.claims("vault"),
        lambda data: world.keys.rsa.sign(
            data, padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256()
        ),
    ),
    "RS512 by an RSA key": lambda world: world.token(
        {"alg": "RS512", "kid": "vault-1"},
        world.claims("vault"),
        lambda data: world.keys.rsa.sign(data, padding.PKCS1v15(), hashes.SHA512()),
    ),
    "ES384 by a P-384 key under the kid of a P-256 key": lambda world: world.token(
        {"alg": "ES384", "kid": "edge-1"}, world.claims("edge"), world.signer("p384")
    ),
    "a DER signature of ECDSA": lambda world: world.token(
        {"alg": "ES256", "kid": "edge-1"},
        world.claims("edge"),
        lambda data: world.keys.p256.sign(data, ec.ECDSA(hashes.SHA256())),
    ),
    "an ECDSA signature of zeros": lambda world: world.token(
        {"alg": "ES256", "kid": "edge-1"}, world.claims("edge"), _always(bytes(64))
    ),
    "an Ed25519 signature of zeros": lambda world: world.token(
        {"alg": "EdDSA", "kid": "ci-1"}, world.claims("ci"), _always(bytes(64))
    ),
    "a stranger's Ed25519 key": lambda world: world.token(
        {"alg": "EdDSA", "kid": "ci-1"}, world.claims("ci"), Ed25519PrivateKey.generate().sign
    ),
    "a stranger's key in jwk": lambda world: world.minted(jwk={"kty": "OKP", "crv": "Ed25519", "x": "AAAA"}),
    "jku": lambda world: world.signed("ed25519", jku="https://evil.example/jwks.json"),
    "x5u": lambda world: world.signed("ed25519", x5u="https://evil.example/cert.pem"),
    "x5c": lambda world: world.signed("ed25519", x5c=["MIIB"]),
    "crit of an unknown extension": lambda world: world.minted(crit=["exp"], exp=1),
    "crit that is empty": lambda world: world.minted(crit=[]),
    "b64 is false": lambda world: world.minted(b64=False, crit=["b64"]),
    "b64 is true": lambda world: world.minted(b64=True),
    "typ of something else": lambda world: world.minted(typ="secevent+jwt"),
    "typ is a number": lambda world: world.minted(typ=1),
    "a service with keys, signed with the shared secret": lambda world: world.minted(
        world.claims("ci", iss="telegate")
    ),
    "a service signs for another": lambda world: world.signed("ed25519", world.claims("edge")),
    "a service signs for another, and says so": lambda world: world.signed(
        "ed25519", world.claims("edge", iss="ci")
    ),
    "a service signs for one without keys": lambda world: world.signed("ed25519", world.claims("cron")),
    "a key without its kid": lambda world: world.signed("ed25519", kid=...),
    "the kid of another service": lambda world: world.signed("ed25519", kid="edge-1"),
    "a self-signed token that lives two hours": lambda world: world.signed(
        "ed25519", world.claims("ci", exp=1_800_007_200)
    ),
    "the gateway's own name": lambda world: world.minted(world.claims(sub="telegate")),
}


@pytest.mark.parametrize("name", CRAFTED)
def test_a_crafted_token_is_refused(world: World, name: str) -> None:
    with pytest.raises(Unauthenticated) as refused:
        world.verifier.verify(CRAFTED[name](world))
    assert refused.value.reason == "invalid"


@pytest.mark.parametrize("name", CRAFTED)
def test_a_report_of_a_crafted_token_never_calls_it_good(world: World, name: str) -> None:
    report = world.verifier.inspect(CRAFTED[name](world))
    assert report.principal is None
    assert report.problems


def test_the_hand_that_crafts_makes_good_tokens_too(world: World) -> None:
    for token in (world.minted(), *map(world.signed, ("ed25519", "p256", "rsa"))):
        assert world.verifier.verify(token).roles == {"notifier"}


@pytest.mark.parametrize(
    "alg",
    ["".join(one) for one in itertools.product("nN", "oO", "nN", "eE")] + ["", " none", "none\x00"],
)
@pytest.mark.parametrize("signature", [b"", b"x"])
def test_alg_none_is_refused_in_every_spelling(world: World, alg: str, signature: bytes) -> None:
    unsigned = world.token({"alg": alg, "typ": "JWT"}, world.claims(), _always(signature))
    with pytest.raises(Unauthenticated):
        world.verifier.verify(unsigned)
    with pytest.raises(Unauthenticated):
        world.verifier.verify(
            world.token({"alg": alg, "kid": "ci-1"}, world.claims("ci"), _always(signature))
        )


@pytest.mark.parametrize("kind", ["ed25519", "p256", "rsa"])
@pytest.mark.parametrize("with_kid", [True, False])
def test_a_public_key_is_no_hmac_secret(world: World, kind: str, *, with_kid: bool) -> None:
    service, kid = {"ed25519": ("ci", "ci-1"), "p256": ("edge", "edge-1"), "rsa": ("vault", "vault-1")}[kind]
    pem = world.keys.public_pem(kind).encode()
    header = {"alg": "HS256", "typ": "JWT"} | ({"kid": kid} if with_kid else {})
    for secret in (pem, pem.strip(), pem.replace(b"\n", b"\r\n"), pem.replace(b"\n", b"")):
        for claims in (world.claims(service), world.claims(service, iss="telegate"), world.claims()):
            with pytest.raises(Unauthenticated):
                world.verifier.verify(world.token(header, claims, _hs(secret)))


CLAIMS: dict[str, dict[str, Any]] = {
    **{f"no {name}": {name: ...} for name in ("iss", "sub", "aud", "iat", "exp", "jti", "roles")},
    **{f"{name} is null": {name: None} for name in ("iss", "sub", "aud", "iat", "exp", "jti", "roles")},
    "iss of a service": {"iss": "cron"},
    "iss begins like ours": {"iss": "telegate-evil"},
    "iss is a part of ours": {"iss": "tele"},
    "iss is a list": {"iss": ["telegate"]},
    "iss is empty": {"iss": ""},
    "sub is unknown": {"sub": "nobody"},
    "sub is a number": {"sub": 7},
    "sub is a list": {"sub": ["cron"]},
    "sub in capitals": {"sub": "CRON"},
    "sub with a blank": {"sub": "cron "},
    "aud of somebody else": {"aud": "somebody"},
    "aud is an empty list": {"aud": []},
    "aud is a part of ours": {"aud": "telegat"},
    "aud has a number in it": {"aud": ["telegate", 1]},
    "aud is a mapping": {"aud": {"telegate": 1}},
    "iat is text": {"iat": "1800000000"},
    "iat is a date": {"iat": "2027-01-15T08:00:00Z"},
    "iat is true": {"iat": True},
    "iat is negative": {"iat": -1},
    "iat is in the future": {"iat": 1_800_000_031, "exp": 1_800_000_600},
    "iat is a list": {"iat": [1_800_000_000]},
    "exp is text": {"exp": "1800000600"},
    "exp is true": {"exp": True},
    "exp is huge": {"exp": HUGE},
    "exp is a huge fraction": {"exp": 1e300},
    "exp is before iat": {"exp": 1_799_999_999},
    "exp is iat": {"exp": 1_800_000_000},
    "it lives too long": {"exp": 1_800_000_001 + 90 * 86_400},
    "it lives too long since an old iat": {"iat": 1_700_000_000},
    **{f"{name} is beyond every float": {name: BEYOND_FLOATS} for name in ("iat", "exp", "nbf")},
    **{f"{name} is far below every float": {name: -BEYOND_FLOATS} for name in ("iat", "exp", "nbf")},
    "all times are beyond every float": dict.fromkeys(("iat", "exp", "nbf"), BEYOND_FLOATS),
    "exp has 4,000 digits": {"exp": 10**4000},
    "nbf is in the future": {"nbf": 1_800_000_031},
    "nbf is text": {"nbf": "now"},
    "nbf is null": {"nbf": None},
    "jti is empty": {"jti": ""},
    "jti is a number": {"jti": 1},
    "jti has 256 characters": {"jti": "j" * 256},
    "jti has a line end": {"jti": "a\nb"},
    "jti is not ASCII": {"jti": "\u00e9"},
    "roles is text": {"roles": "notifier"},
    "roles is a mapping": {"roles": {"notifier": True}},
    "roles has a number": {"roles": ["notifier", 1]},
    "roles has a list": {"roles": [["notifier"]]},
    "roles has 65 entries": {"roles": ["notifier"] * 65},
}


@pytest.mark.parametrize("name", CLAIMS)
def test_wrong_claims_are_refused(world: World, name: str) -> None:
    with pytest.raises(Unauthenticated) as refused:
        world.verifier.verify(world.minted(world.claims(**CLAIMS[name])))
    assert refused.value.reason == "invalid"


@pytest.mark.parametrize("name", CLAIMS)
def test_wrong_claims_are_refused_in_self_signed_tokens(world: World, name: str) -> None:
    with pytest.raises(Unauthenticated):
        world.verifier.verify(world.signed("ed25519", world.claims("ci", **CLAIMS[name])))


@pytest.mark.parametrize("name", CLAIMS)
def test_a_report_tells_what_is_wrong_with_claims(world: World, name: str) -> None:
    report = world.verifier.inspect(world.minted(world.claims(**CLAIMS[name])))
    assert report.problems
    assert report.principal is None


def test_a_revoked_token_is_refused(world: World) -> None:
    world.change_service("cron", revoked=frozenset({"jti-1"}))
    with pytest.raises(Unauthenticated):
        world.verifier.verify(world.minted())
    assert world.verifier.verify(world.minted(world.claims(jti="jti-2"))).service == "cron"


def test_a_token_cannot_claim_the_roles_of_another_service(world: World) -> None:
    world.change_service("cron", roles=frozenset({"notifier"}))
    principal = world.verifier.verify(world.minted(world.claims(roles=["approver", "admin"])))
    assert principal.roles == frozenset()


KIDS: list[Any] = [
    "",
    "ci-2",
    "CI-1",
    " ci-1",
    "ci-1\x00",
    "../../../../dev/null",
    "/dev/null",
    "file:///etc/passwd",
    "/proc/sys/kernel/randomize_va_space",
    "https://evil.example/key.pem",
    "ci-1' OR '1'='1",
    "'; DROP TABLE keys; --",
    "$(touch /tmp/pwned)",
    "| cat /etc/passwd",
    "{{7*7}}",
    "%2e%2e%2f",
    "__class__",
    "ci-1" * 500,
    "\u202eci-1",
    None,
    True,
    1,
    1.5,
    ["ci-1"],
    {"ci-1": 1},
]


_watched: list[str] | None = None


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if _watched is not None and event.startswith(
        ("open", "socket.", "urllib.", "subprocess.", "os.", "ctypes.")
    ):
        _watched.append(f"{event} {arguments}")


sys.addaudithook(_watch)


@pytest.mark.parametrize("kid", KIDS, ids=repr)
def test_a_kid_is_looked_up_and_nothing_else(world: World, kid: Any) -> None:
    global _watched  # noqa: PLW0603 - an audit hook cannot be taken away again, only told not to watch
    # The first token of each kind loads modules, which opens files; from then on nothing may.
    for warm in (world.minted(), world.signed("ed25519")):
        world.verifier.verify(warm)
    crafted = [world.signed("ed25519", kid=kid), world.minted(kid=kid)]
    _watched = []
    try:
        for token in crafted:
            with pytest.raises(Unauthenticated):
                world.verifier.verify(token)
        seen = list(_watched)
    finally:
        _watched = None
    assert seen == []


def test_the_watch_of_the_kid_test_does_see_files() -> None:
    global _watched  # noqa: PLW0603 - as above
    _watched = []
    try:
        with open(__file__, encoding="utf-8"):  # noqa: PTH123 - the plainest way to open a file
            pass
        seen = list(_watched)
    finally:
        _watched = None
    assert seen


def test_a_password_is_told_apart_from_a_damaged_key(world: World) -> None:
    with pytest.raises(ValueError, match="not a private key as PEM"):
        sign("nonsense", "ci-1", "ci", [], lifetime=60, audience="telegate", now=world.now)
    private, _ = new_pair()
    assert sign(private, "ci-1", "ci", [], lifetime=60, audience="telegate", now=world.now).count(".") == 2
