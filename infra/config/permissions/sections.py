"""The sections of `permissions.yaml`: nodes become roles, services, commands and chats of the core."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Final, TypeVar
from urllib.parse import urlsplit

import yaml

from core.model.chat import ChatId
from core.policy.includes import reach
from core.policy.policy import (
    CHANNEL,
    EVERY_CHAT,
    FOR_EVERY_PERSON,
    GATEWAY_SERVICE,
    CommandRule,
    PersonRole,
    Policy,
    Rate,
    ServiceGrant,
    ServiceKey,
    ServiceRole,
)
from core.policy.routes import ENDPOINTS, FOR_EVERY_SERVICE, PUBLIC
from infra.config.permissions.nodes import (
    NodeReader,
    PolicyProblem,
    TooManyProblems,
    did_you_mean,
    kind_of,
)

VERSION: Final = "1"
SECTIONS: Final = ("version", "service_roles", "person_roles", "services", "commands", "chats")

_PERIODS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}
_RATE = re.compile(r"([1-9][0-9]{0,6})/(second|minute|hour|day)", re.ASCII)
_KID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
_COMMAND = re.compile(r"[a-z0-9_]{1,32}", re.ASCII)
_METHOD = re.compile(r"[a-z][A-Za-z]{2,63}", re.ASCII)
_HOST = re.compile(r"[A-Za-z0-9.:-]{1,253}", re.ASCII)
_LONGEST_KEY = 8192
_MOST_NAMES = 200_000
"""Endpoints, chats, methods, commands and roles in all roles together, each with all that it includes."""

# They would let a service take the bot, or its updates, away from the gateway.
_METHODS_NEVER = frozenset(
    name.lower()
    for name in (
        "getUpdates", "setWebhook", "deleteWebhook", "getWebhookInfo", "logOut", "close",
        "getManagedBotToken", "replaceManagedBotToken",
    )
)  # fmt: skip

_T = TypeVar("_T")


def read_policy(
    text: str, people: Mapping[int, frozenset[str]], *, allow_http: bool
) -> Policy | tuple[PolicyProblem, ...]:
    """The policy, or everything that is wrong with it, in the order of the file.

    Args:
        text: the whole of `permissions.yaml`.
        people: the roles that `PERSON_ROLES` gives.
        allow_http: whether deliveries may go to plain http addresses (`DELIVERY_ALLOW_PRIVATE`).
    """
    reader = NodeReader()
    try:
        root = reader.document(text)
        if root is None:
            empty = PolicyProblem(1, 1, "The file is empty; it has to begin with: version: 1")
            return tuple(reader.problems) or (empty,)
        policy = _Sections(reader, root, allow_http=allow_http).read(people)
    except TooManyProblems as error:
        return (*sorted(reader.problems), error.problem)
    return policy or tuple(sorted(reader.problems))


class _Sections:
    """Reads all sections; the names of each are known first, because the others refer to them."""

    def __init__(self, reader: NodeReader, root: yaml.Node, *, allow_http: bool) -> None:
        self._reader = reader
        self._root = root
        self._allow_http = allow_http
        fields = reader.fields(root, "permissions.yaml", SECTIONS)
        self._version = fields.get("version")
        self._entries = {
            section: reader.entries(fields[section], section) if section in fields else {}
            for section in SECTIONS[1:]
        }
        self._chats: dict[str, ChatId] = {}
        self._kids: dict[str, yaml.Node] = {}

    def read(self, people: Mapping[int, frozenset[str]]) -> Policy | None:
        """The policy, or None when there are problems."""
        self._check_version()
        self._chats = {name: chat for name, chat in self._each("chats", "an alias", self._alias) if chat}
        service_roles = dict(self._each("service_roles", "a role", self._service_role))
        person_roles = dict(self._each("person_roles", "a role", self._person_role))
        services = dict(self._each("services", "a service", self._service))
        commands = dict(self._each("commands", "a command", self._command))
        self._check_includes(
            "service_roles",
            {name: role.includes for name, role in service_roles.items()},
            {
                name: len(role.endpoints) + len(role.chats) + len(role.methods)
                for name, role in service_roles.items()
            },
        )
        self._check_includes(
            "person_roles",
            {name: role.includes for name, role in person_roles.items()},
            {name: len(role.commands) for name, role in person_roles.items()},
        )
        self._check_people(people)
        if self._reader.problems:
            return None
        return Policy.build(
            service_roles=service_roles.values(),
            person_roles=person_roles.values(),
            services=services.values(),
            commands=commands.values(),
            chats=self._chats,
            people=people,
        )

    def _each(
        self, section: str, what: str, read: Callable[[str, yaml.Node], _T]
    ) -> Iterator[tuple[str, _T]]:
        for name, (key, value) in self._entries[section].items():
            if section == "commands":
                self._check_command_name(key)
            else:
                self._reader.name(key, what)
            yield name, read(name, value)

    def _check_version(self) -> None:
        if self._version is None:
            self._reader.complain(self._root, "version is missing; write: version: 1")
        elif kind_of(self._version) != "int" or self._version.value != VERSION:
            self._reader.complain(self._version, "This release of Telegate reads version: 1.")

    def _check_command_name(self, key: yaml.Node) -> None:
        if not _COMMAND.fullmatch(key.value):
            self._reader.complain(
                key,
                f"{key.value} is no name for a command: Telegram takes 1 to 32 small letters, digits "
                "and underscores, without the slash.",
            )
        elif key.value in FOR_EVERY_PERSON:
            self._reader.complain(key, f"/{key.value} is answered by the gateway itself; take another name.")

    # Chats

    def _alias(self, name: str, node: yaml.Node) -> ChatId | None:
        return self._chat_id(node, f"chats.{name}")

    def _chat_id(self, node: yaml.Node, what: str) -> ChatId | None:
        if kind_of(node) != "str":
            return self._reader.telegram_id(node, what)
        if CHANNEL.fullmatch(node.value):
            return str(node.value)
        self._reader.complain(node, f"{what} has to be a chat's id (a number without quotes) or @channel.")
        return None

    def _chat_names(self, node: yaml.Node | None, what: str) -> frozenset[ChatId]:
        return frozenset(chat for item in self._reader.items(node, what) if (chat := self._chat(item, what)))

    def _chat(self, node: yaml.Node, what: str) -> ChatId | None:
        if kind_of(node) == "str" and not node.value.startswith("@"):
            if node.value == EVERY_CHAT:
                return EVERY_CHAT
            if node.value not in self._entries["chats"]:
                hint = did_you_mean(node.value, self._entries["chats"])
                self._reader.complain(
                    node, f"{what} names {node.value}, which is no alias under chats.{hint}"
                )
            return self._chats.get(node.value)
        return self._chat_id(node, f"An entry of {what}")

    # Roles

    def _service_role(self, name: str, node: yaml.Node) -> ServiceRole:
        what = f"service_roles.{name}"
        fields = self._reader.fields(node, what, ("includes", "endpoints", "chats", "methods"))
        return ServiceRole(
            name=name,
            endpoints=frozenset(self._endpoints(fields.get("endpoints"), f"{what}.endpoints")),
            chats=self._chat_names(fields.get("chats"), f"{what}.chats"),
            methods=frozenset(self._methods(fields.get("methods"), f"{what}.methods")),
            includes=self._known(fields.get("includes"), f"{what}.includes", "service_roles"),
        )

    def _person_role(self, name: str, node: yaml.Node) -> PersonRole:
        what = f"person_roles.{name}"
        fields = self._reader.fields(node, what, ("includes", "commands"))
        return PersonRole(
            name=name,
            commands=self._known(fields.get("commands"), f"{what}.commands", "commands"),
            includes=self._known(fields.get("includes"), f"{what}.includes", "person_roles"),
        )

    def _known(self, node: yaml.Node | None, what: str, section: str) -> frozenset[str]:
        """Names of another section; one that is not there is noted."""
        known = self._entries[section]
        found = set()
        for item, name in self._reader.texts(node, what):
            if name in known:
                found.add(name)
            else:
                hint = did_you_mean(name, known)
                self._reader.complain(item, f"{what} names {name}, which is not under {section}.{hint}")
        return frozenset(found)

    def _endpoints(self, node: yaml.Node | None, what: str) -> Iterator[str]:
        for item, name in self._reader.texts(node, what):
            if name in ENDPOINTS:
                yield name
            elif name in PUBLIC or name in FOR_EVERY_SERVICE:
                self._reader.complain(item, f"{name} needs no role; take it out of {what}.")
            else:
                hint = did_you_mean(name, ENDPOINTS) or f" Write method and path, such as {ENDPOINTS[0]}."
                self._reader.complain(item, f"{what} names {name}, which the API does not have.{hint}")

    def _methods(self, node: yaml.Node | None, what: str) -> Iterator[str]:
        for item, name in self._reader.texts(node, what):
            if not _METHOD.fullmatch(name):
                self._reader.complain(item, f"{name} is no method of the Bot API, such as setChatTitle.")
            elif name.lower() in _METHODS_NEVER:
                self._reader.complain(
                    item, f"{name} is never allowed: it could take the bot from the gateway."
                )
            else:
                yield name

    def _check_includes(
        self, section: str, includes: Mapping[str, frozenset[str]], sizes: Mapping[str, int]
    ) -> None:
        """Refuse circles, and roles that would be too much once each has all that it includes."""
        reached = reach(includes)
        for circle in reached.circles:
            key, _ = next(entry for name, entry in self._entries[section].items() if name in circle)
            members = ", ".join(sorted(circle))
            self._reader.complain(key, f"Roles of {section} include each other in a circle: {members}.")
        # Counted before it is built: a small file can stand for a very large policy.
        total = sum(map(reached.count, includes))
        if not reached.circles and total <= _MOST_NAMES:
            total += sum(sum(map(sizes.__getitem__, reached.of(name))) for name in includes if includes[name])
        if total > _MOST_NAMES and not reached.circles:
            key, _ = next(iter(self._entries[section].values()))
            self._reader.complain(
                key,
                f"With all that they include, the roles of {section} name more than {_MOST_NAMES:,} things; "
                "include less in each other.",
            )

    # Services

    def _service(self, name: str, node: yaml.Node) -> ServiceGrant:
        what = f"services.{name}"
        fields = self._reader.fields(
            node, what, ("roles", "keys", "not_before", "revoked", "address", "rate")
        )
        if name == GATEWAY_SERVICE:
            key, _ = self._entries["services"][name]
            self._reader.complain(key, f"{name} is the gateway's own name; a service needs another one.")
        return ServiceGrant(
            name=name,
            roles=self._known(fields.get("roles"), f"{what}.roles", "service_roles"),
            keys=tuple(self._keys(fields.get("keys"), f"{what}.keys")),
            not_before=self._optional(fields, "not_before", what, self._reader.instant),
            revoked=frozenset(
                text for _, text in self._reader.texts(fields.get("revoked"), f"{what}.revoked")
            ),
            address=self._optional(fields, "address", what, self._address),
            rate=self._optional(fields, "rate", what, self._rate),
        )

    def _optional(
        self,
        fields: Mapping[str, yaml.Node],
        field: str,
        what: str,
        read: Callable[[yaml.Node, str], _T | None],
    ) -> _T | None:
        node = fields.get(field)
        return None if node is None or kind_of(node) == "null" else read(node, f"{what}.{field}")

    def _keys(self, node: yaml.Node | None, what: str) -> Iterator[ServiceKey]:
        for item in self._reader.items(node, what):
            fields = self._reader.fields(item, f"An entry of {what}", ("kid", "public_key", "jwk"))
            kid = self._kid(item, fields, what)
            if ("public_key" in fields) == ("jwk" in fields):
                self._reader.complain(item, f"An entry of {what} needs either public_key or jwk.")
                continue
            read = self._public_key(fields, kid, what)
            if read is not None and kid is not None:
                yield ServiceKey(kid, *read)

    def _kid(self, item: yaml.Node, fields: Mapping[str, yaml.Node], what: str) -> str | None:
        node = fields.get("kid")
        if node is None:
            self._reader.complain(item, f"An entry of {what} needs a kid, the name of the key.")
            return None
        kid = self._reader.text(node, f"kid of {what}")
        if kid is None:
            return None
        if not _KID.fullmatch(kid):
            self._reader.complain(node, "A kid has 1 to 64 letters, digits, dots, hyphens or underscores.")
            return None
        first = self._kids.setdefault(kid, node)
        if first is not node:
            line = first.start_mark.line + 1
            self._reader.complain(node, f"The kid {kid} is used twice; the first is on line {line}.")
        return kid

    def _public_key(
        self, fields: Mapping[str, yaml.Node], kid: str | None, what: str
    ) -> tuple[str, str] | None:
        from infra.config.permissions.keys import read_public_jwk, read_public_pem  # noqa: PLC0415 - loads cryptography

        node = fields.get("public_key") or fields["jwk"]
        try:
            if "public_key" in fields:
                text = self._reader.text(node, f"public_key of {what}", _LONGEST_KEY)
                return None if text is None else read_public_pem(text)
            jwk = self._jwk(node, kid, what)
            return None if jwk is None else read_public_jwk(jwk)
        except ValueError as error:
            self._reader.complain(node, f"The key {kid or 'without a kid'} of {what}: {error}.")
            return None

    def _jwk(self, node: yaml.Node, kid: str | None, what: str) -> dict[str, str] | None:
        members: dict[str, str] = {}
        for name, (_, value) in self._reader.entries(node, f"jwk of {what}").items():
            if name == "key_ops":
                continue  # a list, and what a key is for is said by its place in this file
            text = self._reader.text(value, f"{name} of a jwk of {what}", _LONGEST_KEY)
            if text is None:
                return None
            members[name] = text
        if members.get("kid", kid) != kid:
            self._reader.complain(node, f"This JWK says kid {members['kid']}; it has to be the entry's kid.")
        return members

    def _address(self, node: yaml.Node, what: str) -> str | None:
        text = self._reader.text(node, what, 2048)
        trouble = None if text is None else _address_trouble(text, allow_http=self._allow_http)
        if trouble:
            self._reader.complain(node, f"{what} {trouble}.")
            return None
        return text

    def _rate(self, node: yaml.Node, what: str) -> Rate | None:
        found = _RATE.fullmatch(node.value) if isinstance(node, yaml.ScalarNode) else None
        if found:
            return Rate(int(found[1]), _PERIODS[found[2]])
        if node.value != "none":
            self._reader.complain(
                node,
                f"{what} has to be a number per second, minute, hour or day, such as 60/minute, or none.",
            )
        return None

    # Commands

    def _command(self, name: str, node: yaml.Node) -> CommandRule:
        what = f"commands.{name}"
        allowed = ("service", "description", "usage", "retry", "chats", "people")
        fields = self._reader.fields(node, what, allowed)
        service = self._command_service(node, fields.get("service"), what)
        return CommandRule(
            name=name,
            service=service,
            description=self._optional(fields, "description", what, self._reader.text)
            or f"Answered by {service}",
            usage=self._optional(fields, "usage", what, self._reader.text) or "",
            retry=self._optional(fields, "retry", what, self._reader.boolean) or False,
            chats=self._command_chats(fields.get("chats"), what),
            people=frozenset(self._people(fields.get("people"), f"{what}.people")),
        )

    def _command_service(self, node: yaml.Node, field: yaml.Node | None, what: str) -> str:
        if field is None:
            self._reader.complain(node, f"{what} needs a service that gets it.")
            return ""
        service = self._reader.text(field, f"{what}.service")
        if service is not None and service not in self._entries["services"]:
            hint = did_you_mean(service, self._entries["services"])
            self._reader.complain(
                field, f"{what}.service names {service}, which is not under services.{hint}"
            )
        return service or ""

    def _command_chats(self, node: yaml.Node | None, what: str) -> frozenset[ChatId] | None:
        if node is None:
            return None
        if not self._reader.items(node, f"{what}.chats") and kind_of(node) in {"seq", "null"}:
            self._reader.complain(node, f"{what}.chats is empty; leave it out to allow every chat.")
        return self._chat_names(node, f"{what}.chats")

    def _people(self, node: yaml.Node | None, what: str) -> Iterator[int]:
        for item in self._reader.items(node, what):
            person = self._reader.telegram_id(item, f"An entry of {what}")
            if person is not None and person < 0:
                self._reader.complain(item, f"{person} in {what} is a chat; a person's id is positive.")
            elif person is not None:
                yield person

    def _check_people(self, people: Mapping[int, frozenset[str]]) -> None:
        known = self._entries["person_roles"]
        for person, roles in people.items():
            for role in sorted(roles - known.keys()):
                hint = did_you_mean(role, known)
                message = (
                    f"PERSON_ROLES gives {person} the role {role}, which is not under person_roles.{hint}"
                )
                self._reader.problems.append(PolicyProblem(0, 0, message))


def _address_trouble(text: str, *, allow_http: bool) -> str | None:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return "is not an address such as https://ci.example.com/telegram"
    if parts.scheme != "https" and not (allow_http and parts.scheme == "http"):
        return "has to begin with https://"
    if not parts.hostname or not _HOST.fullmatch(parts.hostname) or port == 0 or not _is_plain(text):
        return "is not an address such as https://ci.example.com/telegram"
    if "@" in parts.netloc:
        return "must not hold a user name or password; deliveries are signed"
    if "#" in text:
        return "must not have a fragment (#…)"
    return None


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable() and " " not in text
