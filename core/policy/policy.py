"""Who may do what: roles, services, people, commands and chats, as `permissions.yaml` says; default deny."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import MappingProxyType
from typing import Final, TypeAlias, TypeVar

from core.model.errors import ChatForbidden, Forbidden, Invalid
from core.policy.includes import reach

ChatId: TypeAlias = int | str
"""A chat as Telegram knows it: its numeric id, or `@channel` in lower case."""

ENDPOINTS: Final = (
    "POST /v1/messages",
    "PATCH /v1/messages/{id}",
    "DELETE /v1/messages/{id}",
    "POST /v1/questions",
    "GET /v1/tasks",
    "GET /v1/tasks/{id}",
    "GET /v1/tasks/{id}/events",
    "DELETE /v1/tasks/{id}",
    "POST /v1/telegram/{method}",
    "GET /v1/files/{file_id}",
    "GET /v1/chats",
    "POST /v1/broadcasts",
    "GET /v1/commands/events",
    "POST /v1/commands/{id}/replies",
    "POST /v1/sweep",
    "GET /metrics",
)
"""Every route that needs a role, written exactly as the API reference writes it."""

FOR_EVERY_SERVICE: Final = ("GET /v1/me", "GET /v1/capabilities", "POST /enqueue_command")
"""Routes that need a valid token and no role; `/enqueue_command` needs what the endpoint it names needs."""

PUBLIC: Final = (
    "GET /healthz",
    "GET /readyz",
    "GET /openapi.json",
    "GET /docs",
    "POST /telegram/webhook",
    "GET /.well-known/telegate.json",
)
"""Routes without a token, on purpose; the webhook has its own secret."""

FOR_EVERY_PERSON: Final = ("start", "help", "whoami")
"""Commands that the gateway answers itself, to anybody."""

GATEWAY_SERVICE: Final = "telegate"
"""The service that the gateway's own messages belong to; no token can carry this name."""

EVERY_CHAT: Final = "*"

_CHANNEL = re.compile(r"@[A-Za-z][A-Za-z0-9_]{3,31}", re.ASCII)

_K = TypeVar("_K")


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is making this request: a service with its effective roles.

    Attributes:
        service: the token's `sub`, a service that `permissions.yaml` names.
        roles: roles of the token that are also granted, with every role that they include.
        jti: the token's id, for the log and for revocation.
    """

    service: str
    roles: frozenset[str]
    jti: str


@dataclass(frozen=True, slots=True)
class ServiceRole:
    """A named set of permissions for services.

    Attributes:
        endpoints: names out of `ENDPOINTS`.
        chats: chats by id or `@channel`, or `*` for all.
        methods: Bot API methods for `POST /v1/telegram/{method}`.
        includes: roles whose permissions are in this one too.
    """

    name: str
    endpoints: frozenset[str] = frozenset()
    chats: frozenset[ChatId] = frozenset()
    methods: frozenset[str] = frozenset()
    includes: frozenset[str] = frozenset()

    def names_chat(self, chat: ChatId) -> bool:
        """Whether this role lets a service write to the chat."""
        return EVERY_CHAT in self.chats or _spelled_alike(chat) in self.chats


@dataclass(frozen=True, slots=True)
class PersonRole:
    """A named set of commands.

    Attributes:
        commands: names without the slash.
        includes: roles whose commands are in this one too.
    """

    name: str
    commands: frozenset[str] = frozenset()
    includes: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class ServiceKey:
    """A public key that a service signs its tokens with.

    Attributes:
        kid: the key's name, unique in the file; tokens carry it in their header.
        algorithm: the only `alg` that counts for this key: `EdDSA`, `ES256` or `RS256`.
        public_key: SubjectPublicKeyInfo as PEM.
    """

    kid: str
    algorithm: str
    public_key: str


@dataclass(frozen=True, slots=True)
class Rate:
    """How many requests a service may make in a period of so many seconds."""

    requests: int
    seconds: int


@dataclass(frozen=True, slots=True)
class ServiceGrant:
    """What `permissions.yaml` says about one service.

    Attributes:
        roles: roles that its tokens may claim, with every role that they include.
        keys: its public keys; with none, its tokens are signed with `JWT_SECRET`.
        not_before: tokens that were issued earlier do not count.
        revoked: `jti` of tokens that no longer count.
        address: where deliveries to it go.
        rate: its limit; None is no limit.
    """

    name: str
    roles: frozenset[str] = frozenset()
    keys: tuple[ServiceKey, ...] = ()
    not_before: datetime | None = None
    revoked: frozenset[str] = frozenset()
    address: str | None = None
    rate: Rate | None = None


@dataclass(frozen=True, slots=True)
class CommandRule:
    """One command that people may type, and who may.

    Attributes:
        name: without the slash.
        service: the service that gets it.
        description: one line for `/help` and the command menu.
        usage: its arguments for `/help`, such as `<environment>`; empty for none.
        retry: whether a delivery without an answer may be tried again.
        chats: the chats where it may be typed; None is everywhere.
        people: persons who may run it whatever their roles are.
    """

    name: str
    service: str
    description: str = ""
    usage: str = ""
    retry: bool = False
    chats: frozenset[ChatId] | None = None
    people: frozenset[int] = frozenset()

    def works_in(self, chat: ChatId) -> bool:
        """Whether the command may be typed in this chat."""
        return self.chats is None or EVERY_CHAT in self.chats or _spelled_alike(chat) in self.chats


@dataclass(frozen=True, slots=True)
class Explanation:
    """Whether something is allowed, and why or why not, in one sentence."""

    allowed: bool
    sentence: str


@dataclass(frozen=True, slots=True)
class Policy:
    """What `permissions.yaml` and `PERSON_ROLES` say, checked and flattened; build it with `Policy.build`.

    Attributes:
        service_roles: roles by name, each with all that it includes.
        person_roles: the same for people.
        services: grants by the service's name, each closed over includes.
        commands: rules by the command's name, in the order of the file.
        chats: chats by alias.
        people: the roles that each person was given, before includes.
        aliases: the first alias of each chat.
        keys: the service and the key of each `kid`.
    """

    service_roles: Mapping[str, ServiceRole] = field(default_factory=dict)
    person_roles: Mapping[str, PersonRole] = field(default_factory=dict)
    services: Mapping[str, ServiceGrant] = field(default_factory=dict)
    commands: Mapping[str, CommandRule] = field(default_factory=dict)
    chats: Mapping[str, ChatId] = field(default_factory=dict)
    people: Mapping[int, frozenset[str]] = field(default_factory=dict)
    aliases: Mapping[ChatId, str] = field(default_factory=dict)
    keys: Mapping[str, tuple[str, ServiceKey]] = field(default_factory=dict)

    @classmethod
    def build(
        cls,
        *,
        service_roles: Iterable[ServiceRole] = (),
        person_roles: Iterable[PersonRole] = (),
        services: Iterable[ServiceGrant] = (),
        commands: Iterable[CommandRule] = (),
        chats: Mapping[str, ChatId] | None = None,
        people: Mapping[int, frozenset[str]] | None = None,
    ) -> Policy:
        """Flatten roles and grants over their includes.

        Roles come as they are written: each with its own permissions and direct includes.

        Raises:
            KeyError: something names a role that is not there; the policy file's reader checks that first.
        """
        flat = _flat_service_roles({role.name: role for role in service_roles})
        grants = [replace(grant, roles=_closed(grant.roles, flat)) for grant in services]
        named = {alias: _spelled_alike(chat) for alias, chat in (chats or {}).items()}
        return cls(
            service_roles=MappingProxyType(flat),
            person_roles=MappingProxyType(_flat_person_roles({role.name: role for role in person_roles})),
            services=MappingProxyType({grant.name: grant for grant in grants}),
            commands=MappingProxyType({rule.name: rule for rule in commands}),
            chats=MappingProxyType(named),
            people=MappingProxyType(dict(people or {})),
            aliases=MappingProxyType({chat: alias for alias, chat in reversed(named.items())}),
            keys=MappingProxyType({key.kid: (grant.name, key) for grant in grants for key in grant.keys}),
        )

    # Services

    def effective_roles(self, service: str, claimed: Iterable[str]) -> frozenset[str]:
        """Roles of the token that are also granted, with all that they include: never more than the grant."""
        grant = self.services.get(service)
        return (
            frozenset() if grant is None else _closed(grant.roles.intersection(claimed), self.service_roles)
        )

    def require_endpoint(self, principal: Principal, endpoint: str) -> None:
        """Let the principal pass when one of its effective roles names the endpoint.

        Raises:
            Forbidden: none does.
        """
        if endpoint not in FOR_EVERY_SERVICE and not self._roles_naming(endpoint, principal.roles):
            raise Forbidden(
                f"{principal.service} may not use {endpoint}: this token's roles "
                f"({_listed(principal.roles)}) do not name it. {self._advice(principal.service, endpoint)}",
            )

    def require_chat(self, principal: Principal, endpoint: str, chat_id: ChatId) -> None:
        """Let the principal pass when one effective role names both the endpoint and the chat.

        Roles are not mixed: an endpoint of one role and a chat of another are not enough.

        Raises:
            ChatForbidden: no single role names both.
        """
        roles = self._roles_naming(endpoint, principal.roles)
        if not any(role.names_chat(chat_id) for role in roles):
            reachable = self._chats_of(roles)
            raise ChatForbidden(
                f"No role of this token names both {endpoint} and the chat {self._chat_name(chat_id)}. "
                f"The chats that {principal.service} reaches with this endpoint: {_listed(reachable)}.",
            )

    def chats_in_reach(self, principal: Principal, endpoint: str) -> frozenset[ChatId] | None:
        """The chats that roles name which also name the endpoint; None for every chat."""
        chats = frozenset[ChatId]().union(*(r.chats for r in self._roles_naming(endpoint, principal.roles)))
        return None if EVERY_CHAT in chats else chats

    def endpoints_of(self, principal: Principal) -> tuple[str, ...]:
        """Every endpoint that the principal may use, in the order of the API reference."""
        named = {name for role in self._roles(principal.roles) for name in role.endpoints}
        return (*(name for name in ENDPOINTS if name in named), *FOR_EVERY_SERVICE)

    def chats_of(self, principal: Principal) -> tuple[ChatId, ...]:
        """Every chat that some effective role names: by alias where it has one, sorted; `*` for all."""
        return self._chats_of(self._roles(principal.roles))

    def endpoints_not_in(self, served: Collection[str]) -> tuple[str, ...]:
        """Every endpoint that some role names and that is not among those served, in the API's order."""
        named = {name for role in self.service_roles.values() for name in role.endpoints}
        return tuple(name for name in ENDPOINTS if name in named and name not in served)

    def resolve_chat(self, chat: ChatId, *, pointer: str = "/chat") -> tuple[ChatId, str | None]:
        """What a request calls a chat, as Telegram's name for it and its alias.

        Args:
            chat: an id, `@channel`, or an alias.
            pointer: where in the body it stands (RFC 6901).

        Returns:
            The id or `@channel` (in lower case: Telegram does not tell cases apart), and the alias, if any.

        Raises:
            Invalid: no such alias, or not a channel's name.
        """
        if isinstance(chat, int):
            return chat, self.aliases.get(chat)
        if chat in self.chats:
            return self.chats[chat], chat
        if _CHANNEL.fullmatch(chat):
            return chat.lower(), self.aliases.get(chat.lower())
        raise Invalid.field(pointer, _no_such_chat(chat))

    # People

    @property
    def person_role_names(self) -> frozenset[str]:
        """Every role that a person can have."""
        return frozenset(self.person_roles)

    def roles_of_person(self, person_id: int) -> frozenset[str]:
        """The person's roles with all that they include; a stranger has none."""
        return _closed(self.people.get(person_id, frozenset()), self.person_roles)

    def people_with_role(self, role: str) -> frozenset[int]:
        """Everybody who has this role, directly or by a role that includes it."""
        return frozenset(person for person in self.people if role in self.roles_of_person(person))

    def may_run(self, person_id: int, command: str, chat_id: ChatId) -> bool:
        """Whether this person may type this command in this chat."""
        rule = self.commands.get(command)
        return rule is not None and rule.works_in(chat_id) and self._is_open_to(rule, person_id)

    def commands_for(self, person_id: int, chat_id: ChatId) -> tuple[CommandRule, ...]:
        """What this person may run in this chat, in the order of the file."""
        return tuple(rule for rule in self.commands.values() if self.may_run(person_id, rule.name, chat_id))

    # Why

    def explain_service(self, service: str, endpoint: str, chat: ChatId | None = None) -> Explanation:
        """Why a service may use an endpoint (in a chat), or not.

        The service is taken with every role that its tokens may claim.
        """
        if endpoint in PUBLIC:
            return _yes(f"{endpoint} is public: it needs no token of a service.")
        grant = self.services.get(service)
        if grant is None:
            return _no(f"permissions.yaml names no service {service}.")
        if endpoint in FOR_EVERY_SERVICE:
            return _yes(f"Every service with a valid token may use {endpoint}.")
        if endpoint not in ENDPOINTS:
            return _no(f"The API has no endpoint {endpoint}; write method and path, as in {ENDPOINTS[0]}.")
        roles = self._roles_naming(endpoint, grant.roles)
        if not roles:
            return _no(
                f"{service} may not use {endpoint}: none of its roles ({_listed(grant.roles)}) names it.",
            )
        return self._explain_reach(service, endpoint, roles, chat)

    def explain_person(self, person_id: int, command: str, chat: ChatId | None = None) -> Explanation:
        """Why a person may run a command (in a chat), or not."""
        name = command.removeprefix("/")
        if name in FOR_EVERY_PERSON:
            return _yes(f"Everybody may run /{name}: the gateway answers it itself.")
        rule = self.commands.get(name)
        if rule is None:
            return _no(f"permissions.yaml names no command /{name}.")
        reason = self._why_open(rule, person_id)
        if reason is None:
            return _no(self._why_closed(rule, person_id))
        return self._explain_place(rule, person_id, reason, chat)

    # Inside

    def _roles(self, names: Iterable[str]) -> list[ServiceRole]:
        # A principal may be older than this policy: a role that is gone gives nothing.
        return [self.service_roles[name] for name in sorted(names) if name in self.service_roles]

    def _roles_naming(self, endpoint: str, names: Iterable[str]) -> list[ServiceRole]:
        return [role for role in self._roles(names) if endpoint in role.endpoints]

    def _chats_of(self, roles: Iterable[ServiceRole]) -> tuple[ChatId, ...]:
        chats = {chat for role in roles for chat in role.chats}
        if EVERY_CHAT in chats:
            return (EVERY_CHAT,)
        return tuple(sorted((self.aliases.get(chat, chat) for chat in chats), key=str))

    def _chat_name(self, chat: ChatId) -> str:
        return str(self.aliases.get(_spelled_alike(chat), chat))

    def _advice(self, service: str, endpoint: str) -> str:
        grant = self.services.get(service)
        claimable = self._roles_naming(endpoint, grant.roles if grant else ())
        if claimable:
            return f"The service may claim {claimable[0].name}: use a token with that role."
        able = self._roles_naming(endpoint, self.service_roles)
        if able:
            return (
                f"Ask the operator to grant it a role that does, such as {able[0].name}, in permissions.yaml."
            )
        return "No role in permissions.yaml names it; ask the operator."

    def _is_open_to(self, rule: CommandRule, person_id: int) -> bool:
        return self._why_open(rule, person_id) is not None

    def _why_open(self, rule: CommandRule, person_id: int) -> str | None:
        if person_id in rule.people:
            return "the command names this person"
        for role in sorted(self.roles_of_person(person_id)):
            if rule.name in self.person_roles[role].commands:
                return f"the role {role} names it"
        return None

    def _why_closed(self, rule: CommandRule, person_id: int) -> str:
        roles = self.roles_of_person(person_id)
        if not roles:
            return f"Person {person_id} may not run /{rule.name}: PERSON_ROLES gives this person no role."
        return (
            f"Person {person_id} may not run /{rule.name}: "
            f"none of the person's roles ({_listed(roles)}) names it."
        )

    def _explain_reach(
        self, service: str, endpoint: str, roles: Sequence[ServiceRole], chat: ChatId | None
    ) -> Explanation:
        if chat is None:
            return _yes(
                f"{service} may use {endpoint}: its role {roles[0].name} names it, "
                f"for these chats: {_listed(self._chats_of(roles))}.",
            )
        try:
            chat_id, _ = self.resolve_chat(chat)
        except Invalid as error:
            return _no(error.problems[0].detail)
        name = self._chat_name(chat_id)
        for role in roles:
            if role.names_chat(chat_id):
                return _yes(
                    f"{service} may use {endpoint} in {name}: its role {role.name} names both.",
                )
        return _no(
            f"{service} may not use {endpoint} in {name}: the role that names the endpoint "
            f"has to name the chat too; its chats there: {_listed(self._chats_of(roles))}.",
        )

    def _explain_place(
        self, rule: CommandRule, person_id: int, reason: str, chat: ChatId | None
    ) -> Explanation:
        places = (
            None if rule.chats is None else _listed(self.aliases.get(place, place) for place in rule.chats)
        )
        if chat is None:
            where = "in every chat" if places is None else f"in these chats: {places}"
            return _yes(f"Person {person_id} may run /{rule.name}, {where}; {reason}.")
        try:
            chat_id, _ = self.resolve_chat(chat)
        except Invalid as error:
            return _no(error.problems[0].detail)
        name = self._chat_name(chat_id)
        if rule.works_in(chat_id):
            return _yes(f"Person {person_id} may run /{rule.name} in {name}: {reason}.")
        return _no(
            f"Person {person_id} may not run /{rule.name} in {name}: the command works only in {places}.",
        )


def _yes(sentence: str) -> Explanation:
    return Explanation(allowed=True, sentence=sentence)


def _no(sentence: str) -> Explanation:
    return Explanation(allowed=False, sentence=sentence)


def _spelled_alike(chat: ChatId) -> ChatId:
    """The one spelling that chats are compared in: Telegram's usernames do not tell cases apart."""
    return chat.lower() if isinstance(chat, str) else chat


def _no_such_chat(chat: str) -> str:
    if chat.lstrip("-").isdigit():
        return f"permissions.yaml names no chat {chat}; write a chat's id as a number, without quotes."
    if chat.startswith("@"):
        return f"{chat} is not a channel's name: @, a letter, then 3 to 31 letters, digits or underscores."
    return f"permissions.yaml names no chat {chat}; use one of its aliases, an id, or @channel."


def _listed(names: Iterable[ChatId]) -> str:
    return ", ".join(sorted(str(name) for name in names)) or "none"


def _closed(
    names: Iterable[str], flat: Mapping[str, ServiceRole] | Mapping[str, PersonRole]
) -> frozenset[str]:
    """These roles and all that they include."""
    own = frozenset(names)
    return own.union(*(flat[name].includes for name in own))


def _united(name: str, included: frozenset[str], own: Mapping[str, frozenset[_K]]) -> frozenset[_K]:
    """What this role has, and every one that it includes."""
    return own[name].union(*map(own.__getitem__, included))


def _flat_service_roles(declared: Mapping[str, ServiceRole]) -> dict[str, ServiceRole]:
    reached = reach({name: role.includes for name, role in declared.items()})
    endpoints = {name: role.endpoints for name, role in declared.items()}
    chats = {name: frozenset(map(_spelled_alike, role.chats)) for name, role in declared.items()}
    methods = {name: role.methods for name, role in declared.items()}
    flat: dict[str, ServiceRole] = {}
    for name in declared:
        included = reached.of(name) - {name}
        flat[name] = ServiceRole(
            name=name,
            endpoints=_united(name, included, endpoints),
            chats=_united(name, included, chats),
            methods=_united(name, included, methods),
            includes=included,
        )
    return flat


def _flat_person_roles(declared: Mapping[str, PersonRole]) -> dict[str, PersonRole]:
    reached = reach({name: role.includes for name, role in declared.items()})
    commands = {name: role.commands for name, role in declared.items()}
    flat: dict[str, PersonRole] = {}
    for name in declared:
        included = reached.of(name) - {name}
        flat[name] = PersonRole(name, _united(name, included, commands), included)
    return flat
