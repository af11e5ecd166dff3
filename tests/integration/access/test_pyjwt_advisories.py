"""One test for each published advisory of PyJWT: whatever the library does, the gateway refuses."""

from __future__ import annotations

import base64
import hashlib
import hmac
import importlib.metadata
import json
import socket
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from core.model.errors import Unauthenticated
from infra.auth import mint
from infra.config.permissions.file import PolicyFileError, load_policy

if TYPE_CHECKING:
    from tests.integration.access.conftest import World

KINDS = {"ed25519": ("ci", "ci-1"), "p256": ("edge", "edge-1"), "rsa": ("vault", "vault-1")}
SECRET = b"a-shared-secret-of-the-tests-0123456789"


def _hs256(secret: bytes) -> Callable[[bytes], bytes]:
    return lambda data: hmac.new(secret, data, hashlib.sha256).digest()


def _refused(world: World, token: str) -> None:
    with pytest.raises(Unauthenticated) as refused:
        world.verifier.verify(token)
    assert refused.value.reason == "invalid"


def _forged_with(world: World, kind: str, secret: bytes) -> list[str]:
    """Tokens that an attacker makes who takes what is public for the HMAC secret."""
    service, kid = KINDS[kind]
    return [
        world.token(header, claims, _hs256(secret))
        for header in ({"alg": "HS256"}, {"alg": "HS256", "kid": kid})
        for claims in (world.claims(service), world.claims(service, iss="telegate"), world.claims())
    ]


def _jwk(world: World, kind: str) -> str:
    key: Any = getattr(world.keys, kind).public_key()
    writers: dict[str, Any] = {"ed25519": OKPAlgorithm, "p256": ECAlgorithm, "rsa": RSAAlgorithm}
    return str(writers[kind].to_jwk(key))


def test_the_version_in_use_is_newer_than_all_of_them() -> None:
    major, minor = importlib.metadata.version("pyjwt").split(".")[:2]
    assert (int(major), int(minor)) >= (2, 14)


@pytest.mark.parametrize("kind", KINDS)
def test_cve_2017_11424_a_public_key_as_pem_is_no_hmac_secret(world: World, kind: str) -> None:
    pem = world.keys.public_pem(kind).encode()
    for token in _forged_with(world, kind, pem):
        _refused(world, token)
    with pytest.raises(ValueError, match="JWT_SECRET is a key or a certificate"):
        world.verifier_with([pem])


def test_cve_2017_11424_the_pkcs1_form_is_no_hmac_secret_either(world: World) -> None:
    pem = world.keys.rsa.public_key().public_bytes(Encoding.PEM, PublicFormat.PKCS1)
    for token in _forged_with(world, "rsa", pem):
        _refused(world, token)
    with pytest.raises(ValueError, match="JWT_SECRET is a key or a certificate"):
        mint(pem, "cron", [], 60, "telegate", now=world.now)


@pytest.mark.parametrize("kind", KINDS)
def test_cve_2022_29217_a_public_key_of_ssh_is_no_hmac_secret(world: World, kind: str) -> None:
    key: Any = getattr(world.keys, kind).public_key()
    ssh = key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    for token in _forged_with(world, kind, ssh):
        _refused(world, token)
    with pytest.raises(ValueError, match="JWT_SECRET is a key or a certificate"):
        world.verifier_with([ssh])


@pytest.mark.parametrize("issuer", ["t", "tele", "elegat", "telegate ", "telegate,evil", ["telegate"], ""])
def test_cve_2024_53861_the_issuer_is_compared_whole(world: World, issuer: object) -> None:
    _refused(world, world.minted(world.claims(iss=issuer)))
    _refused(world, world.signed("ed25519", world.claims("ci", iss=issuer)))
    _refused(world, world.signed("ed25519", world.claims("ci", iss="c")))


def test_cve_2025_45768_weak_secrets_are_refused(world: World) -> None:
    with pytest.raises(ValueError, match="needs at least 32"):
        world.verifier_with([b"secret"])


def test_cve_2025_45768_weak_keys_are_refused(world: World, tmp_path: Path) -> None:
    pem = "".join(f"          {line}\n" for line in world.keys.public_pem("small_rsa").splitlines())
    path = tmp_path / "permissions.yaml"
    path.write_text(f"version: 1\nservices:\n  ci:\n    keys:\n      - kid: k\n        public_key: |\n{pem}")
    with pytest.raises(PolicyFileError, match="this RSA key has 1024 bits and needs at least 2048"):
        load_policy(path, {})


@pytest.mark.parametrize("crit", [["x"], ["b64"], ["exp"], [], "exp", None, [1]])
def test_cve_2026_32597_unknown_critical_extensions_are_refused(world: World, crit: object) -> None:
    _refused(world, world.minted(crit=crit, x=1))
    _refused(world, world.signed("ed25519", crit=crit, x=1))


@pytest.mark.parametrize(
    "address", ["file:///etc/passwd", "ftp://h/k", "data:,k", "https://evil.example/jwks.json"]
)
def test_cve_2026_48522_no_address_of_a_token_is_ever_opened(
    world: World, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[object] = []
    monkeypatch.setattr(urllib.request.OpenerDirector, "open", lambda *rest: opened.append(rest))
    monkeypatch.setattr(socket.socket, "connect", lambda *rest: opened.append(rest))
    for name in ("jku", "x5u"):
        header: dict[str, Any] = {name: address}
        _refused(world, world.signed("ed25519", None, **header))
    _refused(world, world.signed("ed25519", kid=address))
    assert opened == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "alg", ["HS256", "EdDSA", "ES256", "RS256", "RS384", "PS256", "ES384", "none", "Ed25519"]
)
def test_cve_2026_48523_the_header_has_no_say_in_the_algorithm(world: World, kind: str, alg: str) -> None:
    own = {"ed25519": "EdDSA", "p256": "ES256", "rsa": "RS256"}[kind]
    token = world.signed(kind, alg=alg)
    if alg == own:
        assert world.verifier.verify(token).roles == {"notifier"}
    else:
        _refused(world, token)


def test_cve_2026_48524_unknown_kids_fetch_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: list[object] = []
    monkeypatch.setattr(jwt.PyJWKClient, "__init__", lambda *rest, **_: fetched.append(rest))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *rest, **_: fetched.append(rest))
    for number in range(1000):
        _refused(world, world.signed("ed25519", kid=f"unknown-{number}"))
    assert fetched == []
    assert world.verifier.verify(world.signed("ed25519")).service == "ci"


@pytest.mark.parametrize("payload", ["", "e30", "!" * 1000])
def test_cve_2026_48525_a_detached_payload_is_refused(world: World, payload: str) -> None:
    for header in ({"alg": "HS256", "b64": False}, {"alg": "HS256", "b64": False, "crit": ["b64"]}):
        head = base64.urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=").decode()
        signature = _hs256(SECRET)(f"{head}.{payload}".encode())
        sealed = base64.urlsafe_b64encode(signature).rstrip(b"=").decode()
        _refused(world, f"{head}.{payload}.{sealed}")


@pytest.mark.parametrize("kind", KINDS)
def test_cve_2026_48526_a_public_key_as_jwk_is_no_hmac_secret(world: World, kind: str) -> None:
    jwk = _jwk(world, kind)
    for text in (jwk, json.dumps([json.loads(jwk)]), json.dumps({"keys": [json.loads(jwk)]})):
        for token in _forged_with(world, kind, text.encode()):
            _refused(world, token)
        with pytest.raises(ValueError, match="JWT_SECRET is a key or a certificate"):
            world.verifier_with([text.encode()])


@pytest.mark.parametrize(
    "change",
    [
        lambda pem: pem.replace(b"\n", b"\r\n"),
        lambda pem: pem.replace(b"\n", b""),
        lambda pem: pem.replace(b"\n", b" "),
        lambda pem: b" " + pem,
        lambda pem: b"\xef\xbb\xbf" + pem,
        lambda pem: pem.rstrip(),
        lambda pem: pem.replace(b"-----", b"---- "),
        lambda pem: base64.b64decode(b"".join(pem.splitlines()[1:-1])),
        lambda pem: b"".join(pem.splitlines()[1:-1]),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_ghsa_ffc3_869f_jxw9_no_spelling_of_a_public_key_is_an_hmac_secret(
    world: World, kind: str, change: Callable[[bytes], bytes]
) -> None:
    for token in _forged_with(world, kind, change(world.keys.public_pem(kind).encode())):
        _refused(world, token)


def test_ghsa_9v7f_9g4p_ffgj_there_is_no_key_source_to_redirect() -> None:
    source = Path(jwt.__file__).with_name("jwks_client.py")
    assert source.exists()
    for room in (Path(__file__).parents[3] / "infra").rglob("*.py"):
        assert "PyJWKClient" not in room.read_text(encoding="utf-8"), room


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_ghsa_8wjv_2p76_3863_deep_nesting_is_refused_and_not_an_error(world: World, opening: bytes) -> None:
    deep = opening * 1000
    for token in (
        world.token(deep, world.claims(), _hs256(SECRET)),
        world.token({"alg": "HS256"}, deep, _hs256(SECRET)),
        world.token(
            b'{"alg":"HS256","x":' + b"[" * 1000 + b"]" * 1000 + b"}", world.claims(), _hs256(SECRET)
        ),
    ):
        _refused(world, token)


def test_ghsa_w6j9_cwv2_h6wq_a_broken_key_is_told_by_name(world: World, tmp_path: Path) -> None:
    good = json.loads(_jwk(world, "rsa"))
    broken = {**good, "n": "AQAB", "e": "AA"}
    path = tmp_path / "permissions.yaml"
    keys = [{"kid": "good", "jwk": _texts(good)}, {"kid": "bad", "jwk": _texts(broken)}]
    path.write_text(json.dumps({"version": 1, "services": {"ci": {"keys": keys}}}))
    with pytest.raises(PolicyFileError) as refused:
        load_policy(path, {})
    (problem,) = refused.value.problems
    assert "The key bad of services.ci.keys" in problem.message


def _texts(jwk: dict[str, Any]) -> dict[str, str]:
    return {name: value for name, value in jwk.items() if isinstance(value, str)}


@pytest.mark.parametrize("junk", ["!!!!", "====", " ", "\n", "%41", "\x00", "é"])
@pytest.mark.parametrize("segment", [0, 1, 2])
def test_ghsa_hxm8_2xgr_2p9m_junk_between_letters_is_refused(world: World, segment: int, junk: str) -> None:
    segments = world.minted().split(".")
    for place in (0, 8, len(segments[segment])):
        changed = segments[segment][:place] + junk + segments[segment][place:]
        _refused(world, ".".join([*segments[:segment], changed, *segments[segment + 1 :]]))
