"""Explaining: what the policy decides about a service or a person, and why, in one sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from core.model.chat import ChatId
from core.model.errors import Invalid
from core.policy.policy import FOR_EVERY_PERSON, CommandRule, Policy, ServiceRole, enumerated
from core.policy.routes import ENDPOINTS, FOR_EVERY_SERVICE, PUBLIC


@dataclass(frozen=True, slots=True)
class Explanation:
    """Whether something is allowed, and why or why not, in one sentence."""

    allowed: bool
    sentence: str


def explain_service(policy: Policy, service: str, endpoint: str, chat: ChatId | None = None) -> Explanation:
    """Why a service may use an endpoint (in a chat), or not.

    The service is taken with every role that its tokens may claim.
    """
    if endpoint in PUBLIC:
        return _yes(f"{endpoint} is public: it needs no token of a service.")
    grant = policy.services.get(service)
    if grant is None:
        return _no(f"permissions.yaml names no service {service}.")
    if endpoint in FOR_EVERY_SERVICE:
        return _yes(f"Every service with a valid token may use {endpoint}.")
    if endpoint not in ENDPOINTS:
        return _no(f"The API has no endpoint {endpoint}; write method and path, as in {ENDPOINTS[0]}.")
    roles = policy.roles_with_endpoint(grant.roles, endpoint)
    if not roles:
        return _no(
            f"{service} may not use {endpoint}: none of its roles ({enumerated(grant.roles)}) names it.",
        )
    return _explain_chat_of_service(policy, service, endpoint, roles, chat)


def _explain_chat_of_service(
    policy: Policy, service: str, endpoint: str, roles: Sequence[ServiceRole], chat: ChatId | None
) -> Explanation:
    """The second half of a service's explanation; these of its roles name the endpoint."""
    reachable = enumerated(policy.chats_of_roles(roles))
    if chat is None:
        return _yes(
            f"{service} may use {endpoint}: its role {roles[0].name} names it, for these chats: {reachable}.",
        )
    try:
        chat_id, _ = policy.resolve_chat(chat)
    except Invalid as error:
        return _no(error.problems[0].detail)
    name = policy.chat_name(chat_id)
    for role in roles:
        if role.names_chat(chat_id):
            return _yes(f"{service} may use {endpoint} in {name}: its role {role.name} names both.")
    return _no(
        f"{service} may not use {endpoint} in {name}: the role that names the endpoint "
        f"has to name the chat too; its chats there: {reachable}.",
    )


def explain_person(policy: Policy, person_id: int, command: str, chat: ChatId | None = None) -> Explanation:
    """Why a person may run a command (in a chat), or not."""
    name = command.removeprefix("/")
    if name in FOR_EVERY_PERSON:
        return _yes(f"Everybody may run /{name}: the gateway answers it itself.")
    rule = policy.commands.get(name)
    if rule is None:
        return _no(f"permissions.yaml names no command /{name}.")
    roles = policy.roles_with_command(person_id, name)
    if person_id in rule.people:
        reason = "the command names this person"
    elif roles:
        reason = f"the role {roles[0]} names it"
    elif own := policy.roles_of_person(person_id):
        return _no(
            f"Person {person_id} may not run /{name}: "
            f"none of the person's roles ({enumerated(own)}) names it."
        )
    else:
        return _no(f"Person {person_id} may not run /{name}: PERSON_ROLES gives this person no role.")
    return _explain_chat_of_person(policy, person_id, rule, reason, chat)


def _explain_chat_of_person(
    policy: Policy, person_id: int, rule: CommandRule, reason: str, chat: ChatId | None
) -> Explanation:
    """The second half of a person's explanation; `reason` says why the command is open to the person."""
    chats = None if rule.chats is None else enumerated(map(policy.chat_name, rule.chats))
    if chat is None:
        where = "in every chat" if chats is None else f"in these chats: {chats}"
        return _yes(f"Person {person_id} may run /{rule.name}, {where}; {reason}.")
    try:
        chat_id, _ = policy.resolve_chat(chat)
    except Invalid as error:
        return _no(error.problems[0].detail)
    name = policy.chat_name(chat_id)
    if rule.works_in(chat_id):
        return _yes(f"Person {person_id} may run /{rule.name} in {name}: {reason}.")
    return _no(f"Person {person_id} may not run /{rule.name} in {name}: the command works only in {chats}.")


def _yes(sentence: str) -> Explanation:
    return Explanation(allowed=True, sentence=sentence)


def _no(sentence: str) -> Explanation:
    return Explanation(allowed=False, sentence=sentence)
