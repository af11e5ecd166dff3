"""Tokens that count: who they stand for, how long they are remembered, and what ends them."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from core.model.errors import Unauthenticated
from core.policy.policy import Policy, Principal
from infra.auth import TokenVerifier, mint, sign
from infra.auth import verify as verifier

if TYPE_CHECKING:
    from tests.integration.access.conftest import World

SECRET = b"a-shared-secret-of-the-tests-0123456789"
OLD_SECRET = b"the-secret-before-it-was-rotated-987654"


def _reason(verifier: TokenVerifier, token: str) -> str:
    with pytest.raises(Unauthenticated) as refused:
        verifier.verify(token)
    return refused.value.reason


def test_a_minted_token_stands_for_its_service(world: World) -> None:
    token = mint(SECRET, "cron", ["notifier"], 3600, "telegate", now=world.now)
    principal = world.verifier.verify(token)
    assert principal.service == "cron"
    assert principal.roles == {"notifier"}
    assert principal.jti


def test_two_minted_tokens_have_two_ids(world: World) -> None:
    made = [mint(SECRET, "cron", ["notifier"], 60, "telegate", now=world.now) for _ in range(2)]
    first, second = map(world.verifier.verify, made)
    assert first.jti != second.jti


@pytest.mark.parametrize("kind", ["ed25519", "p256", "rsa"])
def test_a_service_signs_its_own_tokens(world: World, kind: str) -> None:
    principal = world.verifier.verify(world.signed(kind))
    assert principal.service in {"ci", "edge", "vault"}
    assert principal.roles == {"notifier"}


@pytest.mark.parametrize("kind", ["ed25519", "p256", "rsa"])
def test_sign_makes_what_verify_takes(world: World, kind: str) -> None:
    service, kid = {"ed25519": ("ci", "ci-1"), "p256": ("edge", "edge-1"), "rsa": ("vault", "vault-1")}[kind]
    token = sign(
        world.keys.private_pem(kind),
        kid,
        service,
        ["approver"],
        lifetime=60,
        audience="telegate",
        now=world.now,
    )
    assert world.verifier.verify(token).roles == {"approver", "notifier"}


def test_effective_roles_are_those_claimed_and_granted(world: World) -> None:
    token = world.minted(world.claims(roles=["approver", "admin", "no-such-role"]))
    assert world.verifier.verify(token).roles == {"approver", "notifier"}


def test_a_token_without_roles_is_known_and_may_do_nothing(world: World) -> None:
    assert world.verifier.verify(world.minted(world.claims(roles=[]))).roles == frozenset()


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": ["somebody", "telegate"]},
        {"iat": 1_800_000_000.25},
        {"nbf": 1_800_000_000},
        {"nbf": 1_800_000_029},
        {"iat": 1_800_000_029},
        {"exp": 1_800_000_000 + 90 * 86_400},
        {"iat": 1_799_999_000, "exp": 1_799_999_971},
        {"extra": {"nested": [1, None, True]}},
        {"jti": "j" * 255},
    ],
)
def test_what_the_rules_allow_passes(world: World, changes: dict[str, Any]) -> None:
    assert world.verifier.verify(world.minted(world.claims(**changes))).service == "cron"


@pytest.mark.parametrize("typ", [..., "JWT", "jwt", "at+jwt", "application/at+jwt"])
def test_the_usual_types_of_tokens_pass(world: World, typ: Any) -> None:
    assert world.verifier.verify(world.minted(typ=typ)).service == "cron"


def test_while_a_secret_is_rotated_both_count(world: World) -> None:
    old = mint(OLD_SECRET, "cron", ["notifier"], 3600, "telegate", now=world.now)
    new = mint(SECRET, "cron", ["notifier"], 3600, "telegate", now=world.now)
    assert world.verifier.verify(old).service == world.verifier.verify(new).service == "cron"
    after = world.verifier_with([SECRET])
    assert after.verify(new).service == "cron"
    assert _reason(after, old) == "invalid"


def test_while_a_key_is_rotated_both_count(world: World) -> None:
    service, key = world.policy.keys["ci-1"]
    assert service == "ci"
    token = world.signed("ed25519")
    assert world.verifier.verify(token).service == "ci"
    other = world.policy.keys["edge-1"][1]
    world.policy = Policy.build(
        service_roles=world.policy.service_roles.values(),
        services=[_with_keys(world, (key, other))],
    )
    assert world.verifier.verify(token).service == "ci"
    world.policy = Policy.build(
        service_roles=world.policy.service_roles.values(), services=[_with_keys(world, (other,))]
    )
    assert _reason(world.verifier, token) == "invalid"


def _with_keys(world: World, keys: Any) -> Any:
    world.change_service("ci", keys=keys)
    return world.policy.services["ci"]


def test_the_leeway_ends_30_seconds_after_the_expiry(world: World) -> None:
    token = world.minted()
    world.now += 629
    assert world.verifier.verify(token).service == "cron"
    world.now += 1
    assert _reason(world.verifier, token) == "expired"


def test_a_remembered_token_expires_like_any_other(world: World) -> None:
    token = world.minted()
    world.verifier.verify(token)
    world.now += 700
    assert _reason(world.verifier, token) == "expired"
    world.now -= 700
    assert world.verifier.verify(token).service == "cron"


def test_a_remembered_token_is_not_valid_before_its_time(world: World) -> None:
    token = world.minted()
    world.verifier.verify(token)
    world.now -= 31
    assert _reason(world.verifier, token) == "invalid"


def test_a_token_is_checked_once_and_then_remembered(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    token = world.minted()
    first = world.verifier.verify(token)
    checked: list[str] = []
    monkeypatch.setattr(verifier, "verify_signature", lambda text, _: checked.append(text))
    assert world.verifier.verify(token) is first
    assert checked == []
    world.verifier.forget()
    assert world.verifier.verify(token) == first
    assert checked == [token]


def test_a_changed_policy_drops_what_is_remembered(world: World) -> None:
    token = world.minted()
    assert world.verifier.verify(token).roles == {"notifier"}
    world.change_service("cron", roles=frozenset())
    assert world.verifier.verify(token).roles == frozenset()
    world.change_service("cron", revoked=frozenset({"jti-1"}))
    assert _reason(world.verifier, token) == "invalid"


def test_only_so_many_tokens_are_remembered(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verifier, "_REMEMBERED", 3)
    made = [world.minted(world.claims(jti=f"jti-{number}")) for number in range(4)]
    for token in (*made[:3], made[0], made[3]):
        world.verifier.verify(token)
    kept = {known.principal.jti for known in world.verifier._remembered.values()}
    assert kept == {"jti-2", "jti-0", "jti-3"}


def test_a_refused_token_is_not_remembered(world: World) -> None:
    token = world.minted(world.claims(aud="somebody"))
    for _ in range(2):
        assert _reason(world.verifier, token) == "invalid"
    assert not world.verifier._remembered


def test_not_before_ends_all_older_tokens(world: World) -> None:
    token = world.minted()
    world.change_service("cron", not_before=datetime.fromtimestamp(world.now, UTC))
    assert world.verifier.verify(token).service == "cron"
    world.change_service("cron", not_before=datetime.fromtimestamp(world.now + 1, UTC))
    assert _reason(world.verifier, token) == "invalid"


def test_the_log_has_the_cause_and_never_the_token(world: World, caplog: pytest.LogCaptureFixture) -> None:
    token = world.minted(world.claims(aud="somebody"))
    with caplog.at_level(logging.WARNING, logger="telegate.tokens"):
        assert _reason(world.verifier, token) == "invalid"
    (record,) = caplog.records
    assert record.__dict__["action"] == "token_refused"
    assert record.__dict__["cause"] == "aud is not telegate: the token is meant for somebody else."
    assert not any(segment in caplog.text for segment in token.split("."))


def test_the_sender_learns_only_expired_or_invalid(world: World) -> None:
    with pytest.raises(Unauthenticated) as refused:
        world.verifier.verify(world.minted(world.claims(aud="somebody")))
    assert refused.value.detail == "The token is not valid."
    world.now += 10_000
    with pytest.raises(Unauthenticated) as refused:
        world.verifier.verify(world.minted(world.claims(iat=1_800_000_000, exp=1_800_000_001)))
    assert refused.value.detail == "The token has expired; use a new one."


def test_an_expired_token_that_is_also_wrong_is_only_called_invalid(world: World) -> None:
    token = world.minted(world.claims(aud="somebody", iat=1, exp=2))
    assert _reason(world.verifier, token) == "invalid"


@pytest.mark.parametrize("length", [0, 1, 31])
def test_a_secret_of_fewer_than_32_bytes_is_refused(world: World, length: int) -> None:
    with pytest.raises(ValueError, match=f"has {length} bytes and needs at least 32"):
        world.verifier_with([b"x" * length])
    with pytest.raises(ValueError, match="needs at least 32"):
        mint(b"x" * length, "cron", [], 60, "telegate", now=world.now)


def test_without_a_secret_only_keys_count(world: World) -> None:
    verifier = world.verifier_with([])
    assert verifier.verify(world.signed("ed25519")).service == "ci"
    assert _reason(verifier, world.minted()) == "invalid"


def test_a_report_tells_everything_that_is_wrong(world: World) -> None:
    token = world.minted(world.claims(aud="x", roles="notifier", exp=1, jti=...))
    report = world.verifier.inspect(token)
    assert report.signature == "valid"
    assert report.principal is None
    assert report.claims["aud"] == "x"
    assert report.problems == (
        "These claims are missing: jti.",
        "jti is not a string of 1 to 255 printable ASCII characters.",
        "roles is not a list of strings.",
        "aud is not telegate: the token is meant for somebody else.",
        "exp is not after iat.",
        "The token has expired.",
    )


def test_a_report_says_when_the_header_alone_is_reason_enough(world: World) -> None:
    report = world.verifier.inspect(world.minted(crit=["x"]))
    assert report.signature == "unchecked"
    assert report.problems == ("The header names extensions that must be understood (crit); none is.",)


def test_a_report_of_a_good_token_says_who_it_stands_for(world: World) -> None:
    report = world.verifier.inspect(world.minted())
    assert report.problems == ()
    assert report.principal == Principal("cron", frozenset({"notifier"}), "jti-1")
    assert report.header["alg"] == "HS256"


def test_a_report_reads_a_token_whose_key_is_not_at_hand(world: World) -> None:
    token = world.signed("ed25519")
    world.policy = Policy()
    report = world.verifier.inspect(token)
    assert report.signature == "unchecked"
    assert report.claims["sub"] == "ci"
    assert report.principal is None


def test_a_report_tells_a_wrong_signature_and_an_expiry(world: World) -> None:
    token = world.minted()
    report = world.verifier_with([OLD_SECRET]).inspect(token)
    assert report.signature == "invalid"
    world.now += 1000
    assert world.verifier.inspect(token).problems == ("The token has expired.",)
    assert world.verifier.inspect("no token").problems == (
        "A token is three segments with dots between; this one is not.",
    )
    world.now -= 2000
    assert world.verifier.inspect(token).problems == (
        "The token is not valid yet: its iat is in the future.",
    )


def test_a_policy_with_another_clock_never_prolongs_a_service(world: World) -> None:
    token = world.minted()
    world.verifier.verify(token)
    world.policy = Policy()
    assert _reason(world.verifier, token) == "invalid"
