"""Who may do what: roles, services, people, commands and chats, as `permissions.yaml` says; default deny."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import MappingProxyType
from typing import Final, TypeVar

from core.model.chat import ChatId
from core.model.errors import ChatForbidden, Forbidden, Invalid
from core.policy.includes import reach
from core.policy.routes import ENDPOINTS, FOR_EVERY_SERVICE

T = TypeVar("T")

FOR_EVERY_PERSON: Final = ("start", "help", "whoami")
"""Commands that the gateway answers itself, to anybody."""

GATEWAY_SERVICE: Final = "telegate"
"""The service that the gateway's own messages belong to; no token can carry this name."""

EVERY_CHAT: Final = "*"

CHANNEL: Final = re.compile(r"@[A-Za-z][A-Za-z0-9_]{3,31}", re.ASCII)
"""A channel's name; Telegram does not tell cases apart."""


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
        endpoints: names out of `core.policy.routes.ENDPOINTS`.
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
        return EVERY_CHAT in self.chats or _normalized(chat) in self.chats


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
        return self.chats is None or EVERY_CHAT in self.chats or _normalized(chat) in self.chats


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
        grants = [replace(grant, roles=_with_included(grant.roles, flat)) for grant in services]
        named = {alias: _normalized(chat) for alias, chat in (chats or {}).items()}
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
        if grant is None:
            return frozenset()
        return _with_included(grant.roles.intersection(claimed), self.service_roles)

    def roles_with_endpoint(self, roles: Iterable[str], endpoint: str) -> list[ServiceRole]:
        """Those of these roles that name the endpoint, by their names."""
        return [role for role in self._existing(roles) if endpoint in role.endpoints]

    def require_endpoint(self, principal: Principal, endpoint: str) -> None:
        """Let the principal pass when one of its effective roles names the endpoint.

        Raises:
            Forbidden: none does.
        """
        if endpoint in FOR_EVERY_SERVICE or self.roles_with_endpoint(principal.roles, endpoint):
            return
        grant = self.services.get(principal.service)
        claimable = self.roles_with_endpoint(grant.roles if grant else (), endpoint)
        existing = self.roles_with_endpoint(self.service_roles, endpoint)
        if claimable:
            advice = f"The service may claim {claimable[0].name}: use a token with that role."
        elif existing:
            advice = (
                "Ask the operator to grant it a role that does, "
                f"such as {existing[0].name}, in permissions.yaml."
            )
        else:
            advice = "No role in permissions.yaml names it; ask the operator."
        raise Forbidden(
            f"{principal.service} may not use {endpoint}: this token's roles "
            f"({enumerated(principal.roles)}) do not name it. {advice}",
        )

    def require_chat(self, principal: Principal, endpoint: str, chat_id: ChatId) -> None:
        """Let the principal pass when one effective role names both the endpoint and the chat.

        Roles are not mixed: an endpoint of one role and a chat of another are not enough.

        Raises:
            ChatForbidden: no single role names both.
        """
        roles = self.roles_with_endpoint(principal.roles, endpoint)
        if not any(role.names_chat(chat_id) for role in roles):
            raise ChatForbidden(
                f"No role of this token names both {endpoint} and the chat {self.chat_name(chat_id)}. "
                f"The chats that {principal.service} reaches with this endpoint: "
                f"{enumerated(self.chats_of_roles(roles))}.",
            )

    def chats_in_reach(self, principal: Principal, endpoint: str) -> frozenset[ChatId] | None:
        """The chats that roles name which also name the endpoint; None for every chat."""
        roles = self.roles_with_endpoint(principal.roles, endpoint)
        chats = frozenset[ChatId]().union(*(role.chats for role in roles))
        return None if EVERY_CHAT in chats else chats

    def following(self, moves: Mapping[ChatId, ChatId]) -> Policy:
        """This policy for groups that have become supergroups: who may use the one may use the other.

        Args:
            moves: the supergroup of each group that has become one.
        """
        if not moves:
            return self

        def followed(chats: frozenset[ChatId]) -> frozenset[ChatId]:
            return chats | {moves[chat] for chat in chats if chat in moves}

        return replace(
            self,
            service_roles={
                name: replace(role, chats=followed(role.chats)) for name, role in self.service_roles.items()
            },
            commands={
                name: rule if rule.chats is None else replace(rule, chats=followed(rule.chats))
                for name, rule in self.commands.items()
            },
            aliases={
                **{moves[chat]: alias for chat, alias in self.aliases.items() if chat in moves},
                **self.aliases,
            },
        )

    def endpoints_of(self, principal: Principal) -> tuple[str, ...]:
        """Every endpoint that the principal may use, in the order of the API reference."""
        named = {name for role in self._existing(principal.roles) for name in role.endpoints}
        return (*(name for name in ENDPOINTS if name in named), *FOR_EVERY_SERVICE)

    def endpoints_not_in(self, served: Collection[str]) -> tuple[str, ...]:
        """Every endpoint that some role names and that is not among those served, in the API's order."""
        named = {name for role in self.service_roles.values() for name in role.endpoints}
        return tuple(name for name in ENDPOINTS if name in named and name not in served)

    # Chats

    def chats_of(self, principal: Principal) -> tuple[ChatId, ...]:
        """Every chat that some effective role names: by alias where it has one, sorted; `*` for all."""
        return self.chats_of_roles(self._existing(principal.roles))

    def chats_of_roles(self, roles: Iterable[ServiceRole]) -> tuple[ChatId, ...]:
        """Every chat that some of these roles names, as `chats_of` lists them."""
        chats = {chat for role in roles for chat in role.chats}
        if EVERY_CHAT in chats:
            return (EVERY_CHAT,)
        return tuple(sorted((self.chat_name(chat) for chat in chats), key=str))

    def chat_name(self, chat: ChatId) -> ChatId:
        """The chat's alias, or what it was called when it has none."""
        return self.aliases.get(_normalized(chat), chat)

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
        if CHANNEL.fullmatch(chat):
            return _normalized(chat), self.aliases.get(_normalized(chat))
        if chat.lstrip("-").isdigit():
            detail = f"permissions.yaml names no chat {chat}; write a chat's id as a number, without quotes."
        elif chat.startswith("@"):
            detail = (
                f"{chat} is not a channel's name: @, a letter, then 3 to 31 letters, digits or underscores."
            )
        else:
            detail = f"permissions.yaml names no chat {chat}; use one of its aliases, an id, or @channel."
        raise Invalid.field(pointer, detail)

    # People

    def roles_of_person(self, person_id: int) -> frozenset[str]:
        """The person's roles with all that they include; a stranger has none."""
        return _with_included(self.people.get(person_id, frozenset()), self.person_roles)

    def people_with_role(self, role: str) -> frozenset[int]:
        """Everybody who has this role, directly or by a role that includes it."""
        return frozenset(person for person in self.people if role in self.roles_of_person(person))

    def roles_with_command(self, person_id: int, command: str) -> list[str]:
        """Those of the person's roles that name the command, sorted."""
        roles = sorted(self.roles_of_person(person_id))
        return [role for role in roles if command in self.person_roles[role].commands]

    def may_run(self, person_id: int, command: str, chat_id: ChatId) -> bool:
        """Whether this person may type this command in this chat."""
        rule = self.commands.get(command)
        if rule is None or not rule.works_in(chat_id):
            return False
        return person_id in rule.people or bool(self.roles_with_command(person_id, command))

    def commands_for(self, person_id: int, chat_id: ChatId) -> tuple[CommandRule, ...]:
        """What this person may run in this chat, in the order of the file."""
        return tuple(rule for rule in self.commands.values() if self.may_run(person_id, rule.name, chat_id))

    def _existing(self, roles: Iterable[str]) -> list[ServiceRole]:
        # A principal may be older than this policy: a role that is gone gives nothing.
        return [self.service_roles[name] for name in sorted(roles) if name in self.service_roles]


def enumerated(names: Iterable[ChatId]) -> str:
    """Names in a sentence, sorted."""
    return ", ".join(sorted(str(name) for name in names)) or "none"


def _normalized(chat: ChatId) -> ChatId:
    """The one spelling that chats are compared in: Telegram's usernames do not tell cases apart."""
    return chat.lower() if isinstance(chat, str) else chat


def _with_included(
    names: Iterable[str], flat: Mapping[str, ServiceRole] | Mapping[str, PersonRole]
) -> frozenset[str]:
    """These roles and all that they include."""
    own = frozenset(names)
    return own.union(*(flat[name].includes for name in own))


def _united(name: str, included: frozenset[str], own: Mapping[str, frozenset[T]]) -> frozenset[T]:
    """What this role has, and every one that it includes."""
    return own[name].union(*map(own.__getitem__, included))


def _flat_service_roles(declared: Mapping[str, ServiceRole]) -> dict[str, ServiceRole]:
    reached = reach({name: role.includes for name, role in declared.items()})
    endpoints = {name: role.endpoints for name, role in declared.items()}
    chats = {name: frozenset(map(_normalized, role.chats)) for name, role in declared.items()}
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
