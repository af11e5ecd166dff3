"""Laws that hold for every policy: a token never widens, includes are closed, roles are not mixed."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from core.model.chat import ChatId
from core.model.errors import ChatForbidden, Forbidden
from core.policy.explain import explain_service
from core.policy.policy import PersonRole, Policy, Principal, ServiceGrant, ServiceRole
from core.policy.routes import ENDPOINTS

NAMES = ("a", "b", "c", "d", "e")
CHATS: tuple[ChatId, ...] = (-1, -2, 815, "@chan")

_names = st.frozensets(st.sampled_from(NAMES))
_endpoints = st.frozensets(st.sampled_from(ENDPOINTS[:6]), max_size=3)
_chats = st.frozensets(st.sampled_from(CHATS), max_size=2)


@st.composite
def _service_roles(draw: st.DrawFn) -> list[ServiceRole]:
    # Any graph of includes, circles too: the reader refuses those, and flattening must end all the same.
    return [ServiceRole(name, draw(_endpoints), draw(_chats), includes=draw(_names)) for name in NAMES]


def _policy(roles: list[ServiceRole], granted: Iterable[str]) -> Policy:
    return Policy.build(service_roles=roles, services=[ServiceGrant("ci", frozenset(granted))])


def _endpoint_passes(policy: Policy, roles: frozenset[str], endpoint: str) -> bool:
    try:
        policy.require_endpoint(Principal("ci", roles, "j"), endpoint)
    except Forbidden:
        return False
    return True


def _chat_passes(policy: Policy, roles: frozenset[str], endpoint: str, chat: int | str) -> bool:
    try:
        policy.require_chat(Principal("ci", roles, "j"), endpoint, chat)
    except ChatForbidden:
        return False
    return True


def _reached(start: Iterable[str], roles: list[ServiceRole]) -> set[str]:
    """Includes followed one step at a time until nothing is new: the slow way, as an oracle."""
    direct = {role.name: role.includes for role in roles}
    found = set(start)
    while True:
        more = found | {name for role in found for name in direct[role]}
        if more == found:
            return found
        found = more


@given(_service_roles(), _names, st.frozensets(st.sampled_from((*NAMES, "unknown"))))
def test_a_token_never_widens_what_is_granted(
    roles: list[ServiceRole], granted: frozenset[str], claimed: frozenset[str]
) -> None:
    policy = _policy(roles, granted)
    effective = policy.effective_roles("ci", claimed)
    assert effective <= policy.services["ci"].roles
    assert effective <= _reached(claimed & set(NAMES), roles)


@given(_service_roles(), _names, _names, _names)
def test_claiming_more_never_gives_less(
    roles: list[ServiceRole], granted: frozenset[str], claimed: frozenset[str], more: frozenset[str]
) -> None:
    policy = _policy(roles, granted)
    assert policy.effective_roles("ci", claimed) <= policy.effective_roles("ci", claimed | more)


@given(_service_roles(), _names, _names)
def test_effective_roles_are_closed_over_includes(
    roles: list[ServiceRole], granted: frozenset[str], claimed: frozenset[str]
) -> None:
    policy = _policy(roles, granted)
    effective = policy.effective_roles("ci", claimed)
    assert effective == _reached(effective, roles)
    assert policy.effective_roles("ci", effective) == effective
    assert effective == _reached(_reached(granted, roles) & claimed, roles)


@given(_service_roles())
def test_a_flat_role_is_the_union_of_all_that_it_reaches(roles: list[ServiceRole]) -> None:
    policy = _policy(roles, ())
    declared = {role.name: role for role in roles}
    for name in NAMES:
        parts = [declared[part] for part in _reached([name], roles)]
        assert policy.service_roles[name].endpoints == frozenset().union(*(part.endpoints for part in parts))
        assert policy.service_roles[name].chats == frozenset().union(*(part.chats for part in parts))


@given(_service_roles(), _names, st.sampled_from(ENDPOINTS[:6]), st.sampled_from(CHATS))
def test_roles_are_not_mixed(
    roles: list[ServiceRole], granted: frozenset[str], endpoint: str, chat: int | str
) -> None:
    policy = _policy(roles, granted)
    effective = policy.effective_roles("ci", granted)
    one_role_names_both = any(
        endpoint in policy.service_roles[name].endpoints and chat in policy.service_roles[name].chats
        for name in effective
    )
    assert _chat_passes(policy, effective, endpoint, chat) is one_role_names_both
    if one_role_names_both:
        assert _endpoint_passes(policy, effective, endpoint)


@given(_service_roles(), _names, st.sampled_from(ENDPOINTS[:6]), st.sampled_from((-1, -2, 815)))
def test_the_explanation_says_what_the_check_does(
    roles: list[ServiceRole], granted: frozenset[str], endpoint: str, chat: int
) -> None:
    policy = _policy(roles, granted)
    effective = policy.effective_roles("ci", policy.services["ci"].roles)
    assert explain_service(policy, "ci", endpoint).allowed is _endpoint_passes(policy, effective, endpoint)
    assert explain_service(policy, "ci", endpoint, chat).allowed is (
        _endpoint_passes(policy, effective, endpoint) and _chat_passes(policy, effective, endpoint, chat)
    )


@given(st.dictionaries(st.integers(1, 5), _names), st.lists(_names, min_size=len(NAMES), max_size=len(NAMES)))
def test_people_with_a_role_are_those_whose_roles_reach_it(
    people: dict[int, frozenset[str]], includes: list[frozenset[str]]
) -> None:
    roles = [PersonRole(name, includes=others) for name, others in zip(NAMES, includes, strict=True)]
    policy = Policy.build(person_roles=roles, people=people)
    for name in NAMES:
        expected = {person for person in people if name in policy.roles_of_person(person)}
        assert policy.people_with_role(name) == expected
        for person in expected:
            assert policy.roles_of_person(person) >= policy.person_roles[name].includes
