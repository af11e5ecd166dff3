"""Who may do what: roles, includes, chats and people, and the sentences that explain them."""

from __future__ import annotations

import pytest

from core.model.chat import ChatId
from core.model.errors import ChatForbidden, Forbidden, Invalid
from core.policy.current import CurrentPolicy
from core.policy.explain import explain_person, explain_service
from core.policy.policy import (
    CommandRule,
    PersonRole,
    Policy,
    Principal,
    ServiceGrant,
    ServiceKey,
    ServiceRole,
)
from core.policy.routes import ENDPOINTS, FOR_EVERY_SERVICE, PUBLIC

OPS = -1001234567890
SAY, ASK, CALL = "POST /v1/messages", "POST /v1/questions", "POST /v1/telegram/{method}"


@pytest.fixture
def policy() -> Policy:
    return Policy.build(
        service_roles=[
            ServiceRole("notifier", frozenset({SAY}), frozenset({OPS})),
            ServiceRole("approver", frozenset({ASK}), frozenset({815}), includes=frozenset({"notifier"})),
            ServiceRole("boss", frozenset({CALL}), frozenset({"*"}), frozenset({"pinChatMessage"})),
            ServiceRole("herald", frozenset({SAY}), frozenset({"@News"})),
        ],
        person_roles=[
            PersonRole("viewer", frozenset({"status"})),
            PersonRole("operator", frozenset({"deploy"}), frozenset({"viewer"})),
        ],
        services=[
            ServiceGrant("ci", frozenset({"approver"}), (ServiceKey("ci-1", "EdDSA", "PEM"),)),
            ServiceGrant("press", frozenset({"herald", "notifier"})),
            ServiceGrant("mute"),
        ],
        commands=[
            CommandRule("status", "ci", "What is running"),
            CommandRule("deploy", "ci", chats=frozenset({OPS})),
            CommandRule("rest", "ci", people=frozenset({99})),
        ],
        chats={"ops": OPS, "operations": OPS, "news": "@News", "ada": 815},
        people={815: frozenset({"operator"}), 4711: frozenset({"viewer"})},
    )


def _principal(policy: Policy, service: str, *roles: str) -> Principal:
    return Principal(service, policy.effective_roles(service, roles), "jti-1")


def test_a_role_has_everything_of_the_roles_that_it_includes(policy: Policy) -> None:
    approver = policy.service_roles["approver"]
    assert approver.endpoints == {SAY, ASK}
    assert approver.chats == {OPS, 815}
    assert policy.person_roles["operator"].commands == {"status", "deploy"}


def test_a_service_may_claim_what_its_role_includes(policy: Policy) -> None:
    assert policy.effective_roles("ci", ["notifier"]) == {"notifier"}
    assert policy.effective_roles("ci", ["approver"]) == {"approver", "notifier"}


def test_a_claimed_role_that_is_not_granted_gives_nothing(policy: Policy) -> None:
    assert policy.effective_roles("ci", ["boss", "no-such-role"]) == frozenset()
    assert policy.effective_roles("nobody", ["approver"]) == frozenset()


def test_an_endpoint_passes_when_an_effective_role_names_it(policy: Policy) -> None:
    policy.require_endpoint(_principal(policy, "ci", "approver"), ASK)
    policy.require_endpoint(_principal(policy, "mute"), "GET /v1/me")


@pytest.mark.parametrize("endpoint", [*ENDPOINTS, *PUBLIC, "GET /nowhere"])
def test_a_service_without_roles_may_use_no_endpoint(policy: Policy, endpoint: str) -> None:
    with pytest.raises(Forbidden):
        policy.require_endpoint(_principal(policy, "mute"), endpoint)


def test_a_narrow_token_is_told_which_role_to_claim(policy: Policy) -> None:
    with pytest.raises(Forbidden) as refused:
        policy.require_endpoint(_principal(policy, "ci", "notifier"), ASK)
    assert refused.value.detail == (
        "ci may not use POST /v1/questions: this token's roles (notifier) do not name it. "
        "The service may claim approver: use a token with that role."
    )


def test_a_service_without_the_role_is_sent_to_the_operator(policy: Policy) -> None:
    with pytest.raises(Forbidden, match=r"Ask the operator to grant it a role that does, such as boss"):
        policy.require_endpoint(_principal(policy, "ci", "approver"), CALL)
    with pytest.raises(Forbidden, match=r"No role in permissions\.yaml names it; ask the operator"):
        policy.require_endpoint(_principal(policy, "ci", "approver"), "GET /metrics")


def test_a_refusal_names_no_other_service(policy: Policy) -> None:
    with pytest.raises(Forbidden) as refused:
        policy.require_endpoint(_principal(policy, "ci"), CALL)
    assert "press" not in refused.value.detail
    assert "mute" not in refused.value.detail


def test_a_chat_passes_when_one_role_names_both(policy: Policy) -> None:
    policy.require_chat(_principal(policy, "ci", "approver"), ASK, 815)
    policy.require_chat(_principal(policy, "ci", "approver"), ASK, OPS)
    policy.require_chat(Principal("x", frozenset({"boss"}), "j"), CALL, -5)


def test_the_endpoint_of_one_role_and_the_chat_of_another_are_not_enough() -> None:
    policy = Policy.build(
        service_roles=[
            ServiceRole("sayer", frozenset({SAY}), frozenset({OPS})),
            ServiceRole("asker", frozenset({ASK}), frozenset({815})),
        ],
        services=[ServiceGrant("ci", frozenset({"sayer", "asker"}))],
        chats={"ops": OPS},
    )
    principal = _principal(policy, "ci", "sayer", "asker")
    policy.require_chat(principal, SAY, OPS)
    with pytest.raises(ChatForbidden) as refused:
        policy.require_chat(principal, ASK, OPS)
    assert refused.value.detail == (
        "No role of this token names both POST /v1/questions and the chat ops. "
        "The chats that ci reaches with this endpoint: 815."
    )


def test_channels_are_compared_without_regard_to_case(policy: Policy) -> None:
    policy.require_chat(_principal(policy, "press", "herald"), SAY, "@NEWS")
    assert policy.resolve_chat("@NeWs") == ("@news", "news")


def test_a_principal_of_an_older_policy_keeps_only_roles_that_still_exist(policy: Policy) -> None:
    stale = Principal("ci", frozenset({"gone"}), "jti-1")
    with pytest.raises(Forbidden):
        policy.require_endpoint(stale, SAY)
    with pytest.raises(ChatForbidden):
        policy.require_chat(stale, SAY, OPS)


def test_endpoints_and_chats_of_a_principal_are_listed(policy: Policy) -> None:
    principal = _principal(policy, "ci", "approver")
    assert policy.endpoints_of(principal) == (SAY, ASK, *FOR_EVERY_SERVICE)
    assert policy.chats_of(principal) == ("ada", "ops")
    assert policy.chats_of(Principal("x", frozenset({"boss"}), "j")) == ("*",)


def test_endpoints_that_are_named_and_not_served_are_found(policy: Policy) -> None:
    assert policy.endpoints_not_in({SAY}) == (ASK, CALL)
    assert policy.endpoints_not_in(ENDPOINTS) == ()


@pytest.mark.parametrize(
    ("written", "resolved"),
    [
        ("ops", (OPS, "ops")),
        ("operations", (OPS, "operations")),
        (OPS, (OPS, "ops")),
        (-7, (-7, None)),
        ("@elsewhere", ("@elsewhere", None)),
        ("news", ("@news", "news")),
    ],
)
def test_a_chat_is_an_id_a_channel_or_an_alias(
    policy: Policy, written: int | str, resolved: tuple[int | str, str | None]
) -> None:
    assert policy.resolve_chat(written) == resolved


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("opps", "names no chat opps; use one of its aliases, an id, or @channel"),
        ("-1001234567890", "write a chat's id as a number, without quotes"),
        ("@no", "@no is not a channel's name"),
        ("", "names no chat"),
    ],
)
def test_an_unknown_alias_is_invalid_at_its_field(policy: Policy, written: str, told: str) -> None:
    with pytest.raises(Invalid) as refused:
        policy.resolve_chat(written, pointer="/escalate/chat")
    (problem,) = refused.value.problems
    assert problem.pointer == "/escalate/chat"
    assert told in problem.detail


def test_people_have_their_roles_and_what_those_include(policy: Policy) -> None:
    assert policy.roles_of_person(815) == {"operator", "viewer"}
    assert policy.roles_of_person(1) == frozenset()
    assert policy.people_with_role("viewer") == {815, 4711}
    assert policy.people_with_role("operator") == {815}
    assert policy.people_with_role("nothing") == frozenset()


@pytest.mark.parametrize(
    ("person", "command", "chat", "allowed"),
    [
        (815, "deploy", OPS, True),
        (815, "deploy", 815, False),
        (815, "status", 815, True),
        (4711, "status", -5, True),
        (4711, "deploy", OPS, False),
        (99, "rest", -5, True),
        (815, "rest", OPS, False),
        (1, "status", OPS, False),
        (815, "nothing", OPS, False),
        (815, "/deploy", OPS, False),
    ],
)
def test_a_command_needs_a_role_or_a_name_and_the_right_chat(
    policy: Policy, person: int, command: str, chat: int, *, allowed: bool
) -> None:
    assert policy.may_run(person, command, chat) is allowed


def test_everybody_is_shown_only_what_they_may_run(policy: Policy) -> None:
    assert [rule.name for rule in policy.commands_for(815, OPS)] == ["status", "deploy"]
    assert [rule.name for rule in policy.commands_for(815, 815)] == ["status"]
    assert [rule.name for rule in policy.commands_for(99, 99)] == ["rest"]
    assert policy.commands_for(1, OPS) == ()


def test_a_key_is_found_by_its_kid(policy: Policy) -> None:
    assert policy.keys["ci-1"] == ("ci", ServiceKey("ci-1", "EdDSA", "PEM"))
    assert policy.keys.get("../ci-1") is None


@pytest.mark.parametrize(
    ("service", "endpoint", "chat", "allowed", "sentence"),
    [
        ("ci", ASK, "ops", True, "ci may use POST /v1/questions in ops: its role approver names both."),
        ("ci", SAY, None, True, "its role approver names it, for these chats: ada, ops."),
        ("ci", CALL, None, False, "none of its roles (approver, notifier) names it."),
        ("ci", ASK, -5, False, "ci may not use POST /v1/questions in -5"),
        ("ci", ASK, "opps", False, "names no chat opps"),
        ("nobody", ASK, None, False, "permissions.yaml names no service nobody."),
        ("ci", "GET /v1/me", None, True, "Every service with a valid token may use GET /v1/me."),
        ("ci", "GET /healthz", None, True, "GET /healthz is public"),
        ("ci", "POST /v1/message", None, False, "The API has no endpoint POST /v1/message"),
        ("mute", SAY, None, False, "none of its roles (none) names it."),
    ],
)
def test_the_policy_explains_services(
    policy: Policy, service: str, endpoint: str, chat: int | str | None, sentence: str, *, allowed: bool
) -> None:
    explanation = explain_service(policy, service, endpoint, chat)
    assert explanation.allowed is allowed
    assert sentence in explanation.sentence


@pytest.mark.parametrize(
    ("person", "command", "chat", "allowed", "sentence"),
    [
        (815, "/deploy", "ops", True, "Person 815 may run /deploy in ops: the role operator names it."),
        (815, "deploy", None, True, "in these chats: ops; the role operator names it."),
        (815, "/status", None, True, "in every chat; the role operator names it."),
        (99, "/rest", None, True, "the command names this person."),
        (815, "/deploy", "ada", False, "the command works only in ops."),
        (815, "/deploy", "opps", False, "names no chat opps"),
        (4711, "/deploy", None, False, "none of the person's roles (viewer) names it."),
        (1, "/deploy", None, False, "PERSON_ROLES gives this person no role."),
        (1, "/whoami", None, True, "Everybody may run /whoami"),
        (815, "/nothing", None, False, "permissions.yaml names no command /nothing."),
    ],
)
def test_the_policy_explains_people(
    policy: Policy, person: int, command: str, chat: int | str | None, sentence: str, *, allowed: bool
) -> None:
    explanation = explain_person(policy, person, command, chat)
    assert explanation.allowed is allowed
    assert sentence in explanation.sentence


def test_what_is_said_of_a_group_holds_for_the_supergroup_that_it_has_become(policy: Policy) -> None:
    moves: dict[ChatId, ChatId] = {}
    current = CurrentPolicy(lambda: policy, lambda: moves)
    assert current() is current() is policy
    moves = {OPS: -1002}
    ci = _principal(policy, "ci", "approver")
    for chat in (OPS, -1002):
        current().require_chat(ci, SAY, chat)
    assert current() is current()
    reach: frozenset[ChatId] = frozenset({OPS, -1002, 815})
    assert current().chats_in_reach(ci, SAY) == reach
    assert current().may_run(815, "deploy", -1002)
    with pytest.raises(ChatForbidden):
        current().require_chat(ci, SAY, -1003)


def test_an_empty_policy_refuses_everything() -> None:
    policy = Policy()
    assert policy.effective_roles("ci", ["approver"]) == frozenset()
    assert not policy.may_run(815, "deploy", OPS)
    with pytest.raises(Forbidden):
        policy.require_endpoint(Principal("ci", frozenset({"approver"}), "j"), SAY)
