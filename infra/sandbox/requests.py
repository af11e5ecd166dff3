"""What the Bot API can be asked, as typed objects: parsed at the door, before anything is done."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from infra.sandbox.answers import JsonObject, MethodFailed, bad_request
from infra.sandbox.keyboards import parse_inline, parse_markup
from infra.sandbox.links import NoAddressError, check_link, user_of
from infra.sandbox.markup import LARGEST_EMOJI, FormattedText, is_date_time_format, parse
from infra.sandbox.parameters import Parameters, Upload
from infra.sandbox.updates import DEFAULT_CONNECTIONS
from infra.sandbox.world import Entity, Keyboard, Markup

CHAT_ACTIONS = frozenset(
    {
        "cancel",
        "typing",
        "choose_sticker",
        "find_location",
        "pick_up_location",
        "record_audio",
        "record_video",
        "record_video_note",
        "record_voice",
        "upload_audio",
        "upload_document",
        "upload_photo",
        "upload_video",
        "upload_video_note",
        "upload_voice",
    }
)
SCOPES = {
    "default": (),
    "all_private_chats": (),
    "all_group_chats": (),
    "all_chat_administrators": (),
    "chat": ("chat_id",),
    "chat_administrators": ("chat_id",),
    "chat_member": ("chat_id", "user_id"),
}
BARE_ENTITIES = frozenset(
    {"bold", "italic", "underline", "strikethrough", "spoiler", "code", "blockquote", "expandable_blockquote"}
)
FOUND_ENTITIES = frozenset(
    {
        *("mention", "hashtag", "cashtag", "bot_command"),
        *("url", "email", "phone_number", "bank_card_number"),
    }
)
POINTING_ENTITIES = {
    "text_link": "url",
    "text_mention": "user",
    "custom_emoji": "custom_emoji_id",
    "date_time": "unix_time",
}
"""Entities that point to something, with the field that says where."""

LONGEST_COMMAND = 32
LONGEST_DESCRIPTION = 256
MOST_COMMANDS = 100
LONGEST_SECRET = 256
LARGEST_CERTIFICATE = 3 << 20


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a new message goes, and how."""

    chat: str
    topic: int
    reply_to: int
    without_reply: bool
    silent: bool
    protected: bool
    markup: Markup | None


@dataclass(frozen=True, slots=True)
class SendText:
    """`sendMessage`."""

    place: Placement
    body: FormattedText
    link_preview: JsonObject | None


@dataclass(frozen=True, slots=True)
class SendFile:
    """`sendDocument`, `sendPhoto`: a new file, or the `file_id` of a known one."""

    place: Placement
    caption: FormattedText
    upload: Upload | None
    file_id: str
    is_photo: bool


@dataclass(frozen=True, slots=True)
class MessageName:
    """Which message a call is about."""

    chat: str
    message: int


@dataclass(frozen=True, slots=True)
class EditText:
    """`editMessageText`."""

    name: MessageName
    body: FormattedText
    markup: Keyboard | None


@dataclass(frozen=True, slots=True)
class EditMarkup:
    """`editMessageReplyMarkup`."""

    name: MessageName
    markup: Keyboard | None


@dataclass(frozen=True, slots=True)
class AnswerPress:
    """`answerCallbackQuery`."""

    press: str
    text: str
    alert: bool


@dataclass(frozen=True, slots=True)
class Scope:
    """For whom a list of commands is; `key` finds it again."""

    kind: str
    chat: str
    person: int
    language: str


@dataclass(frozen=True, slots=True)
class SetCommands:
    """`setMyCommands`."""

    scope: Scope
    commands: tuple[JsonObject, ...]


@dataclass(frozen=True, slots=True)
class ChatAction:
    """`sendChatAction`."""

    chat: str
    action: str


@dataclass(frozen=True, slots=True)
class MemberName:
    """`getChatMember`."""

    chat: str
    person: int


@dataclass(frozen=True, slots=True)
class SetWebhook:
    """`setWebhook`; `deleteWebhook` is one without a url."""

    url: str
    secret: str
    max_connections: int
    allowed: frozenset[str] | None
    certificate: bytes | None
    drop_pending: bool


def nothing(_: Parameters) -> None:
    """A call without parameters."""


def chat_name(given: Parameters) -> str:
    """`getChat`."""
    return given.text("chat_id")


def file_name(given: Parameters) -> str:
    """`getFile`."""
    return given.text("file_id")


def send_text(given: Parameters) -> SendText:
    """Read `sendMessage`."""
    preview = given.structure("link_preview_options", "link preview options")
    if preview is not None and not isinstance(preview, dict):
        raise bad_request("object expected as link preview options")
    return SendText(_placement(given), _body(given), preview or None)


def send_document(given: Parameters) -> SendFile:
    """Read `sendDocument`."""
    return _send_file(given, "document")


def send_photo(given: Parameters) -> SendFile:
    """Read `sendPhoto`."""
    return _send_file(given, "photo")


def edit_text(given: Parameters) -> EditText:
    """Read `editMessageText`."""
    return EditText(message_name(given), _body(given), parse_inline(_markup(given)))


def edit_markup(given: Parameters) -> EditMarkup:
    """Read `editMessageReplyMarkup`."""
    return EditMarkup(message_name(given), parse_inline(_markup(given)))


def message_name(given: Parameters) -> MessageName:
    """Read `chat_id` and `message_id`."""
    chat, message = given.text("chat_id"), given.integer("message_id")
    if not chat and not message:
        raise bad_request("message identifier is not specified")
    if not chat:
        raise bad_request("chat_id is empty")
    if message <= 0:
        raise bad_request("message identifier is not specified")
    return MessageName(chat, message)


def answer_press(given: Parameters) -> AnswerPress:
    """Read `answerCallbackQuery`."""
    return AnswerPress(given.text("callback_query_id"), given.text("text"), given.flag("show_alert"))


def chat_action(given: Parameters) -> ChatAction:
    """Read `sendChatAction`."""
    action = given.text("action").lower()
    if action not in CHAT_ACTIONS:
        raise bad_request("wrong parameter action in request")
    return ChatAction(given.text("chat_id"), action)


def member_name(given: Parameters) -> MemberName:
    """Read `getChatMember`."""
    person = given.integer("user_id")
    if person <= 0:
        raise bad_request("invalid user_id specified")
    return MemberName(given.text("chat_id"), person)


def set_webhook(given: Parameters) -> SetWebhook:
    """Read `setWebhook`."""
    url = given.text("url")
    secret = given.text("secret_token")
    if len(secret) > LONGEST_SECRET:
        raise bad_request("secret token is too long")
    if not re.fullmatch(r"[A-Za-z0-9_-]*", secret):
        raise bad_request("secret token contains unallowed characters")
    most = min(max(given.integer("max_connections") or DEFAULT_CONNECTIONS, 1), 100)
    certificate = given.files.get(_attachment(given, "certificate"))
    if certificate is not None and len(certificate.content) > LARGEST_CERTIFICATE:
        raise bad_request(f"certificate size is too big ({len(certificate.content)} bytes)")
    pem = certificate.content if certificate else None
    return SetWebhook(url, secret, most, _allowed(given), pem, given.flag("drop_pending_updates"))


def delete_webhook(given: Parameters) -> SetWebhook:
    """Read `deleteWebhook`."""
    return SetWebhook("", "", DEFAULT_CONNECTIONS, None, None, given.flag("drop_pending_updates"))


def set_commands(given: Parameters) -> SetCommands:
    """Read `setMyCommands`."""
    commands = given.structure("commands", "commands")
    if commands is None:
        commands = []
    if not isinstance(commands, list):
        raise bad_request("expected an Array of BotCommand")
    if len(commands) > MOST_COMMANDS:
        raise bad_request("BOT_COMMANDS_TOO_MUCH")
    return SetCommands(commands_scope(given), tuple(_command(command) for command in commands))


def commands_scope(given: Parameters) -> Scope:
    """Read the scope of a list of commands; none means `default`."""
    language = given.text("language_code")
    scope = given.structure("scope", "BotCommandScope")
    if scope is None:
        return Scope("default", "", 0, language)
    if not isinstance(scope, dict):
        raise bad_request("can't parse BotCommandScope: BotCommandScope must be an Object")
    kind = scope.get("type")
    if kind not in SCOPES:
        raise bad_request("can't parse BotCommandScope: Unsupported type specified")
    for field in SCOPES[kind]:
        if not scope.get(field):
            raise bad_request(f"can't parse BotCommandScope: Can't find field \"{field}\"")
    person = int(scope["user_id"]) if "user_id" in SCOPES[kind] else 0
    return Scope(kind, str(scope["chat_id"]) if SCOPES[kind] else "", person, language)


def _body(given: Parameters) -> FormattedText:
    text = given.text("text")
    if not text:
        raise bad_request("message text is empty")
    return parse(text, given.text("parse_mode"), _entities(given, "entities"))


def _entities(given: Parameters, name: str) -> list[Entity]:
    """Read entities; those that Telegram finds by itself count for nothing.

    Source: `get_text_entity_type` in telegram-bot-api/Client.cpp, https://github.com/tdlib/telegram-bot-api,
    and `get_message_entities` in td/telegram/MessageEntity.cpp, https://github.com/tdlib/td.
    """
    if given.text("parse_mode"):
        return []
    values = given.structure(name, "entities")
    if not isinstance(values, list):
        return []
    return [entity for value in values if (entity := _entity(value)) is not None]


def _entity(value: Any) -> Entity | None:
    if not isinstance(value, dict):
        raise _bad_entity("expected an Object")
    for field in ("offset", "length"):
        if not isinstance(value.get(field), int):
            raise _bad_entity(f'Field "{field}" must be of type Number')
    kind = value.get("type")
    bare = Entity(str(kind), value["offset"], value["length"])
    if kind in BARE_ENTITIES:
        return bare
    if kind in FOUND_ENTITIES:
        return None
    if kind == "pre":
        return replace(bare, language=value.get("language") or None)
    if kind not in POINTING_ENTITIES:
        raise _bad_entity("Unsupported type specified")
    field = POINTING_ENTITIES[kind]
    if field not in value:
        raise _bad_entity(f'Can\'t find field "{field}"')
    return _pointing(bare, value[field], str(value.get("date_time_format") or ""))


def _pointing(bare: Entity, to: Any, time_format: str) -> Entity:
    """An entity that carries an address, a person, an emoji or a time."""
    match bare.type:
        case "text_link":
            return _link(bare, str(to))
        case "text_mention":
            return replace(bare, user_id=to.get("id") if isinstance(to, dict) else None)
        case "custom_emoji":
            if not re.fullmatch("[0-9]{1,19}", str(to)) or not 0 < int(to) <= LARGEST_EMOJI:
                raise bad_request("invalid custom emoji identifier specified")
            return replace(bare, custom_emoji_id=str(to))
        case _:
            if not is_date_time_format(time_format):
                raise _bad_entity("Invalid date-time format specified")
            if not isinstance(to, int) or to <= 0:
                raise bad_request("invalid date specified")
            return replace(bare, unix_time=to, date_time_format=time_format)


def _link(bare: Entity, url: str) -> Entity:
    person = user_of(url)
    if person is not None:
        return replace(bare, type="text_mention", user_id=person)
    try:
        return replace(bare, url=check_link(url))
    except NoAddressError as reason:
        raise bad_request(f"entity URL '{url}' is invalid: {reason}") from None


def _bad_entity(reason: str) -> MethodFailed:
    return bad_request(f"can't parse MessageEntity: {reason}")


def _placement(given: Parameters) -> Placement:
    reply_to, without_reply = _reply(given)
    return Placement(
        chat=given.text("chat_id"),
        topic=given.integer("message_thread_id"),
        reply_to=reply_to,
        without_reply=without_reply,
        silent=given.flag("disable_notification"),
        protected=given.flag("protect_content"),
        markup=parse_markup(_markup(given)),
    )


def _reply(given: Parameters) -> tuple[int, bool]:
    """Which message is replied to, and whether it may be missing."""
    if older := given.integer("reply_to_message_id"):
        return older, given.flag("allow_sending_without_reply")
    reply = given.structure("reply_parameters", "reply parameters")
    if not reply:
        return 0, False
    if not isinstance(reply, dict):
        raise bad_request("object expected as reply parameters")
    message = reply.get("message_id")
    if not isinstance(message, int | str) or not str(message).isdigit():
        raise bad_request('field "message_id" must be of type Number')
    return int(message), bool(reply.get("allow_sending_without_reply"))


def _markup(given: Parameters) -> Any:
    return given.structure("reply_markup", "reply keyboard markup")


def _attachment(given: Parameters, name: str) -> str:
    """The name of the file that a parameter means: itself, or `attach://<name>`."""
    value = given.text(name)
    return value.removeprefix("attach://") if value.startswith("attach://") else name


def _send_file(given: Parameters, kind: str) -> SendFile:
    upload = given.files.get(_attachment(given, kind))
    file_id = "" if upload else given.text(kind)
    if upload is None and not file_id:
        raise bad_request(f"there is no {kind} in the request")
    if upload is not None and not upload.content:
        raise bad_request("file must be non-empty")
    caption = given.text("caption")
    body = parse(caption, given.text("parse_mode"), _entities(given, "caption_entities")) if caption else None
    return SendFile(_placement(given), body or FormattedText(""), upload, file_id, kind == "photo")


def _allowed(given: Parameters) -> frozenset[str] | None:
    """The kinds of updates that are wanted; None keeps what was said before, an empty list is the default."""
    values = given.structure("allowed_updates", "allowed updates")
    if values is None:
        return None
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise bad_request("can't parse allowed updates: Expected an Array of String")
    return frozenset(values)


def _command(value: Any) -> JsonObject:
    if not isinstance(value, dict):
        raise bad_request("can't parse BotCommand: expected an Object")
    for field in ("command", "description"):
        if not isinstance(value.get(field), str):
            raise bad_request(f"can't parse BotCommand: Can't find field \"{field}\"")
    name, description = value["command"].removeprefix("/").strip(), value["description"].strip()
    if not name:
        raise bad_request("command must be non-empty")
    if len(name) > LONGEST_COMMAND:
        raise bad_request(f"command length must not exceed {LONGEST_COMMAND}")
    if not description:
        raise bad_request("command description must be non-empty")
    if len(description) > LONGEST_DESCRIPTION:
        raise bad_request(f"command description length must not exceed {LONGEST_DESCRIPTION}")
    if not re.fullmatch(r"[a-z0-9_]+", name):
        raise bad_request("BOT_COMMAND_INVALID")
    return {"command": name, "description": description}
