"""Tokens of an issuer: which key counts for which token, and that nothing of it lasts longer than the key."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from core.model.errors import Overloaded, Unauthenticated
from core.policy.policy import Principal, ServiceKey
from infra.auth import TokenVerifier
from infra.auth.issuer import Issuer
from infra.auth.key_set import KeySet

if TYPE_CHECKING:
    from tests.integration.access.conftest import World

NAME = "https://issuer.example.com"
SECRET = b"a-shared-secret-of-the-tests-0123456789"
ALGORITHMS = {"ed25519": "EdDSA", "p256": "ES256", "rsa": "RS256"}


class Trust:
    """A verifier of the world that trusts an issuer, too; its keys are the world's."""

    def __init__(self, world: World, *kinds: str) -> None:
        self.world = world
        self.kinds = kinds or tuple(ALGORITHMS)
        self.now = 0.0
        self.fetches = 0
        self.issuer = Issuer(NAME, self.fetch, clock=lambda: self.now)
        self.verifier = TokenVerifier(
            lambda: world.policy, [SECRET], "telegate", 90 * 86_400, lambda: world.now, issuer=self.issuer
        )

    async def fetch(self) -> KeySet:
        self.fetches += 1
        return KeySet(
            {
                f"k-{kind}": ServiceKey(f"k-{kind}", ALGORITHMS[kind], self.world.keys.public_pem(kind))
                for kind in self.kinds
            }
        )

    def token(self, kind: str = "p256", **changes: Any) -> str:
        """A token of the issuer for cron; `header` changes its header."""
        header = {
            "alg": ALGORITHMS.get(kind),
            "typ": "at+jwt",
            "kid": f"k-{kind}",
            **changes.pop("header", {}),
        }
        kept = {name: value for name, value in header.items() if value is not ...}
        claims = self.world.claims("cron", **{"iss": NAME, "aud": ["account", "telegate"], **changes})
        return self.world.token(kept, claims, self.world.signer(kind))

    async def admit(self, token: str) -> Principal:
        found = self.verifier.admit(token)
        return found if isinstance(found, Principal) else await found

    async def reason(self, token: str) -> str:
        with pytest.raises(Unauthenticated) as refused:
            await self.admit(token)
        return refused.value.reason


@pytest.fixture
def trust(world: World) -> Trust:
    return Trust(world)


@pytest.mark.parametrize("kind", ALGORITHMS)
async def test_a_token_of_the_issuer_counts_with_each_kind_of_key(trust: Trust, kind: str) -> None:
    principal = await trust.admit(trust.token(kind, roles=["approver", "admin", "offline_access"]))
    assert principal == Principal("cron", frozenset({"approver", "notifier"}), "jti-1")


async def test_once_the_keys_are_there_nobody_waits(trust: Trust) -> None:
    waiting = trust.verifier.admit(trust.token())
    assert not isinstance(waiting, Principal)
    assert (await waiting).service == "cron"
    assert isinstance(trust.verifier.admit(trust.token()), Principal)
    assert isinstance(trust.verifier.admit(trust.token(jti="jti-2")), Principal)
    assert isinstance(trust.verifier.admit(trust.world.minted()), Principal)
    assert trust.fetches == 1


WRONG: dict[str, dict[str, Any]] = {
    "no kid": {"header": {"kid": ...}},
    "a kid that is a list": {"header": {"kid": ["k-p256"]}},
    "another kid of the issuer": {"header": {"kid": "k-rsa"}},
    "the kid of a service": {"header": {"kid": "edge-1"}},
    "another algorithm": {"header": {"alg": "RS256"}},
    "no algorithm": {"header": {"alg": "none"}},
    "an address of a key": {"header": {"jku": "https://evil.example/keys"}},
    "a key of its own": {"header": {"jwk": {"kty": "oct", "k": "AAAA"}}},
    "sub is unknown": {"sub": "service-account-cron"},
    "sub has keys of its own": {"sub": "edge"},
    "aud of somebody else": {"aud": ["account"]},
    "no jti": {"jti": ...},
    "no roles": {"roles": ...},
    "roles elsewhere": {"roles": ..., "realm_access": {"roles": ["approver"]}},
    "no iat": {"iat": ...},
    "no exp": {"exp": ...},
    "it lives longer than an hour": {"exp": 1_800_003_601},
    "it is of the future": {"iat": 1_800_000_031},
    "nbf is in the future": {"nbf": 1_800_000_031},
    "the issuer in capitals": {"iss": NAME.upper()},
    "the issuer with a slash": {"iss": f"{NAME}/"},
    "the issuer in a list": {"iss": [NAME]},
    "iss of the gateway": {"iss": "telegate"},
    "iss of a service": {"iss": "edge"},
}


@pytest.mark.parametrize("name", WRONG)
async def test_a_token_of_the_issuer_that_says_something_wrong_is_refused(trust: Trust, name: str) -> None:
    await trust.issuer.warm()
    assert await trust.reason(trust.token(**WRONG[name])) == "invalid"
    report = trust.verifier.inspect(trust.token(**WRONG[name]))
    assert report.problems
    assert report.principal is None


async def test_neither_a_secret_nor_a_service_can_sign_in_the_issuer_s_name(trust: Trust) -> None:
    world = trust.world
    await trust.issuer.warm()
    claims = world.claims("cron", iss=NAME)
    for header in ({}, {"kid": "k-p256"}):
        assert await trust.reason(world.minted(claims, **header)) == "invalid"
    assert await trust.reason(world.signed("p256", world.claims("edge", iss=NAME))) == "invalid"
    assert await trust.reason(world.signed("ed25519", claims)) == "invalid"
    # And the issuer cannot sign as a service, although its key is that service's key here.
    assert await trust.reason(trust.token("p256", iss="edge", sub="edge")) == "invalid"


@pytest.mark.parametrize("alg", ["HS256", "none", "RS512", None, ...])
async def test_what_can_be_refused_without_a_key_causes_no_fetch(trust: Trust, alg: Any) -> None:
    for changes in (
        {"header": {"alg": alg, "kid": "x"}},
        {"header": {"kid": ...}},
        {"header": {"crit": ["x"]}},
    ):
        assert await trust.reason(trust.token(**changes)) == "invalid"
    assert await trust.reason(trust.world.signed("ed25519", kid="unknown")) == "invalid"
    assert await trust.reason("not a token") == "invalid"
    assert trust.fetches == 0


async def test_an_issuer_s_token_is_revoked_like_any_other(trust: Trust) -> None:
    await trust.admit(trust.token())
    trust.world.change_service("cron", revoked=frozenset({"jti-1"}))
    assert await trust.reason(trust.token()) == "invalid"


async def test_a_token_expires_while_it_is_remembered(trust: Trust) -> None:
    token = trust.token()
    await trust.admit(token)
    trust.world.now += 700
    assert await trust.reason(token) == "expired"


async def test_a_remembered_token_ends_with_its_key(trust: Trust) -> None:
    tokens = trust.token("p256"), trust.token("rsa")
    for token in tokens:
        await trust.admit(token)
    trust.kinds = ("rsa",)
    trust.now += 299
    for token in tokens:
        assert isinstance(trust.verifier.admit(token), Principal)
    await asyncio.sleep(0)
    await trust.issuer.warm()
    assert trust.fetches == 2
    assert await trust.reason(tokens[0]) == "invalid"
    assert isinstance(trust.verifier.admit(tokens[1]), Principal)


async def test_a_remembered_token_waits_when_nobody_has_asked_for_five_minutes(trust: Trust) -> None:
    token = trust.token()
    await trust.admit(token)
    trust.kinds = ("rsa",)
    trust.now += 300
    assert await trust.reason(token) == "invalid"


async def test_another_key_under_the_same_kid_ends_remembered_tokens(trust: Trust) -> None:
    token = trust.token("rsa")
    await trust.admit(token)

    async def exchanged() -> KeySet:
        return KeySet({"k-rsa": ServiceKey("k-rsa", "ES256", trust.world.keys.public_pem("p256"))})

    trust.issuer._fetch = exchanged
    trust.now += 300
    assert await trust.reason(token) == "invalid"


async def test_without_keys_the_answer_is_that_nobody_can_tell(trust: Trust) -> None:
    async def broken() -> KeySet:
        from infra.auth.issuer import KeysNotFetched

        raise KeysNotFetched("it answered 500")

    trust.issuer._fetch = broken
    for _ in range(2):
        with pytest.raises(Overloaded) as told:
            await trust.admit(trust.token())
        assert told.value.retry_after == 30
        assert "Nothing was done" in told.value.detail


async def test_a_report_without_keys_tells_all_but_the_signature(trust: Trust) -> None:
    report = trust.verifier.inspect(trust.token(exp=1_800_009_999))
    assert report.signature == "unchecked"
    assert report.principal is None
    assert report.problems == (
        "The keys of the token issuer were not fetched. So the signature was not checked.",
        "The token lives longer than 3600 s, the most for the issuer's key.",
    )


async def test_a_report_with_keys_tells_everything(trust: Trust) -> None:
    await trust.issuer.warm()
    report = trust.verifier.inspect(trust.token())
    assert (report.signature, report.problems) == ("valid", ())
    assert report.principal is not None
    (told,) = trust.verifier.inspect(trust.token(header={"kid": "x"})).problems
    assert told == "The issuer has no usable key with the kid 'x'."
    (told,) = trust.verifier.inspect(trust.token(header={"kid": "k-rsa", "alg": "RS256"})).problems
    assert told == "The signature does not fit the issuer's key 'k-rsa'."
    assert trust.fetches == 1
