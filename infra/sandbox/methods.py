"""The Bot API's methods: one table from a name to what it does."""

from __future__ import annotations

import ipaddress
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

from infra.sandbox import render, requests
from infra.sandbox.answers import Answer, JsonObject, MethodFailed, bad_request, too_many_requests
from infra.sandbox.double import TelegramDouble
from infra.sandbox.markup import LONGEST_TEXT, FormattedText
from infra.sandbox.parameters import Parameters
from infra.sandbox.requests import Placement, Scope
from infra.sandbox.updates import Webhook
from infra.sandbox.world import ChangeKind, Chat, Keyboard, Markup, Message, StoredFile

NOT_MODIFIED = (
    "message is not modified: specified new message content and reply markup are exactly the same "
    "as a current content and reply markup of the message"
)
TOO_OLD = "query is too old and response timeout expired or query ID is invalid"
LONGEST_CAPTION = 1024
LONGEST_TOAST = 200
LARGEST_DOWNLOAD = 20 << 20
DELETABLE_FOR = 48 * 3600
WEBHOOK_PORTS = frozenset({443, 80, 88, 8443})
GENERAL_TOPIC = 1

Request = TypeVar("Request")


@dataclass(frozen=True, slots=True)
class Method:
    """A method of the Bot API: its name, and what it does with its parameters."""

    name: str
    run: Callable[[TelegramDouble, Parameters], Any]


def call(double: TelegramDouble, method: Method | None, given: Parameters) -> Answer:
    """Do what was asked, and say what came of it."""
    if method is None:
        return Answer.refusing(MethodFailed(404, "method not found"))
    try:
        return Answer.of(method.run(double, given))
    except MethodFailed as failure:
        return Answer.refusing(failure)


def get_me(double: TelegramDouble, _: None) -> JsonObject:
    """Who the bot is."""
    return render.me(double.world)


def send_message(double: TelegramDouble, asked: requests.SendText) -> JsonObject:
    """Say something in a chat."""
    chat, topic, reply_to = _place(double, asked.place)
    if len(asked.body.text) > LONGEST_TEXT:
        raise bad_request("message is too long")
    sent = double.new_message(
        chat,
        text=asked.body.text,
        entities=asked.body.entities,
        markup=asked.place.markup,
        topic=topic,
        reply_to=reply_to,
        link_preview=asked.link_preview,
        silent=asked.place.silent,
        protected=asked.place.protected,
    )
    return render.message(double.world, double.world.add_message(sent))


def send_file(double: TelegramDouble, asked: requests.SendFile) -> JsonObject:
    """Send a document or a photo."""
    chat, topic, reply_to = _place(double, asked.place)
    if len(asked.caption.text) > LONGEST_CAPTION:
        raise bad_request("message caption is too long")
    sent = double.new_message(
        chat,
        text=asked.caption.text,
        entities=asked.caption.entities,
        markup=asked.place.markup,
        topic=topic,
        reply_to=reply_to,
        file=_file(double, asked),
        silent=asked.place.silent,
        protected=asked.place.protected,
    )
    return render.message(double.world, double.world.add_message(sent))


def edit_message_text(double: TelegramDouble, asked: requests.EditText) -> JsonObject:
    """Change what a message of the bot says; without `reply_markup` its buttons vanish."""
    message = _editable(double, asked.name)
    if message.file is not None or message.location is not None:
        raise bad_request("there is no text in the message to edit")
    if len(asked.body.text) > LONGEST_TEXT:
        raise bad_request("MESSAGE_TOO_LONG")
    return _edit(double, message, asked.body, asked.markup)


def edit_message_markup(double: TelegramDouble, asked: requests.EditMarkup) -> JsonObject:
    """Change the buttons of a message of the bot."""
    message = _editable(double, asked.name)
    return _edit(double, message, FormattedText(message.text, message.entities), asked.markup)


def delete_message(double: TelegramDouble, asked: requests.MessageName) -> bool:
    """Let a message vanish: the bot's own, any in a private chat, any where it is an administrator."""
    message = _find(double.writable_chat(asked.chat), asked.message, "message to delete")
    own = message.sender is double.world.bot
    allowed = own or message.chat.is_private or message.chat.bot_status == "administrator"
    if not allowed or time.time() - message.date > DELETABLE_FOR:
        raise bad_request("message can't be deleted")
    double.world.delete_message(message)
    return True


def answer_callback_query(double: TelegramDouble, asked: requests.AnswerPress) -> bool:
    """End a press: the spinner, and a toast or an alert for the person."""
    press = double.world.presses.get(asked.press)
    if press is None or press.expires <= time.monotonic():
        raise bad_request(TOO_OLD)
    if len(asked.text) > LONGEST_TOAST:
        raise bad_request("MESSAGE_TOO_LONG")
    double.world.answer_press(press, asked.text, alert=asked.alert)
    return True


def send_chat_action(double: TelegramDouble, asked: requests.ChatAction) -> bool:
    """Show that the bot is typing, or the like."""
    chat = double.writable_chat(asked.chat)
    double.world.happened(ChangeKind.TYPING, chat=chat, text=asked.action)
    return True


def get_chat(double: TelegramDouble, name: str) -> JsonObject:
    """What the bot knows about a chat."""
    return render.full_chat(double.find_chat(name))


def get_chat_member(double: TelegramDouble, asked: requests.MemberName) -> JsonObject:
    """What somebody is in a chat."""
    chat = double.find_chat(asked.chat)
    if asked.person == double.world.bot.id:
        return render.member(double.world.bot, chat.bot_status)
    person = double.world.persons.get(asked.person)
    if person is None:
        raise bad_request("PARTICIPANT_ID_INVALID" if not chat.is_private else "user not found")
    return render.member(person, "member" if person.id in chat.members else "left")


def set_my_commands(double: TelegramDouble, asked: requests.SetCommands) -> bool:
    """Set the command menu of a scope."""
    key = _scope_key(double, asked.scope)
    if asked.commands:
        double.world.commands[key] = asked.commands
    else:
        double.world.commands.pop(key, None)
    double.world.happened(ChangeKind.COMMANDS)
    return True


def delete_my_commands(double: TelegramDouble, scope: Scope) -> bool:
    """Take the command menu of a scope away."""
    return set_my_commands(double, requests.SetCommands(scope, ()))


def get_my_commands(double: TelegramDouble, scope: Scope) -> list[JsonObject]:
    """The command menu of a scope, exactly as it was set."""
    return list(double.world.commands.get(_scope_key(double, scope), ()))


def get_file(double: TelegramDouble, file_id: str) -> JsonObject:
    """Where a file can be downloaded."""
    if not file_id:
        raise bad_request("file_id not specified")
    stored = _stored(double, file_id, "invalid file_id")
    if len(stored.content) > LARGEST_DOWNLOAD:
        raise bad_request("file is too big")
    return render.file(stored)


def set_webhook(double: TelegramDouble, asked: requests.SetWebhook) -> bool:
    """Send updates to a url from now on; without one, keep them here."""
    if not asked.url:
        double.updates.set_webhook(None, drop_pending=asked.drop_pending)
        return True
    now = time.monotonic()
    if now < double.set_webhook_at[0]:
        raise too_many_requests(1)
    double.set_webhook_at[0] = now + 1 * double.timing.scale
    _check_webhook_url(asked.url)
    if asked.allowed is not None:
        double.updates.allowed = asked.allowed or None
    tls = _trusting(asked.certificate) if asked.certificate else None
    webhook = Webhook(asked.url, asked.secret, asked.max_connections, tls, has_certificate=tls is not None)
    double.updates.set_webhook(webhook, drop_pending=asked.drop_pending)
    return True


def get_webhook_info(double: TelegramDouble, _: None) -> JsonObject:
    """Where updates go, and how that goes."""
    webhook = double.updates.webhook
    error_date, error = double.updates.last_error
    allowed = double.updates.allowed
    return render.webhook_info(
        {
            "url": webhook.url if webhook else "",
            "has_custom_certificate": bool(webhook and webhook.has_certificate),
            "pending_update_count": double.updates.pending,
            "last_error_date": error_date,
            "last_error_message": error,
            "max_connections": webhook.max_connections if webhook else 0,
            "ip_address": "127.0.0.1" if webhook else "",
            "allowed_updates": sorted(allowed) if allowed else [],
        }
    )


def _place(double: TelegramDouble, place: Placement) -> tuple[Chat, int | None, Message | None]:
    """The chat, the topic and the message replied to of a new message."""
    chat = double.writable_chat(place.chat)
    topic = place.topic or None
    if topic is not None and (chat.topics is None or topic not in chat.topics or topic == GENERAL_TOPIC):
        raise bad_request("message thread not found")
    reply_to = chat.messages.get(place.reply_to)
    if place.reply_to and reply_to is None and not place.without_reply:
        raise bad_request("message to be replied not found")
    if topic is None and reply_to is not None:
        topic = reply_to.topic
    return chat, topic, reply_to


def _find(chat: Chat, message_id: int, what: str) -> Message:
    message = chat.messages.get(message_id)
    if message is None:
        raise bad_request(f"{what} not found")
    return message


def _editable(double: TelegramDouble, name: requests.MessageName) -> Message:
    """A message that the bot may edit: its own, and not one that forces a reply."""
    chat = double.find_chat(name.chat)
    message = _find(chat, name.message, "message to edit")
    own = message.sender is double.world.bot
    if not own or not isinstance(message.markup, Keyboard | None):
        raise bad_request("message can't be edited")
    return message


def _edit(
    double: TelegramDouble, message: Message, body: FormattedText, keyboard: Markup | None
) -> JsonObject:
    same_text = (message.text, message.entities) == (body.text, body.entities)
    if same_text and message.markup == keyboard:
        raise bad_request(NOT_MODIFIED)
    edited = double.world.edit_message(message, body.text, body.entities, keyboard)
    return render.message(double.world, edited)


def _file(double: TelegramDouble, asked: requests.SendFile) -> StoredFile:
    if asked.upload is not None:
        return double.store(asked.upload, is_photo=asked.is_photo)
    return _stored(double, asked.file_id, "wrong file identifier/HTTP URL specified")


def _stored(double: TelegramDouble, file_id: str, otherwise: str) -> StoredFile:
    stored = double.world.files.get(file_id)
    if stored is None:
        raise bad_request(otherwise)
    return stored


def _scope_key(double: TelegramDouble, scope: Scope) -> tuple[str, int, int, str]:
    chat_id = double.find_chat(scope.chat).id if scope.chat else 0
    return scope.kind, chat_id, scope.person, scope.language


def _check_webhook_url(url: str) -> None:
    """Https on four ports; anything goes on this machine (the one difference from Telegram)."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise bad_request("invalid webhook URL specified") from error
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise bad_request("invalid webhook URL specified")
    if _is_this_machine(parts.hostname):
        return
    if parts.scheme != "https":
        raise bad_request("bad webhook: An HTTPS URL must be provided for webhook")
    if (port or 443) not in WEBHOOK_PORTS:
        raise bad_request("bad webhook: Webhook can be set up only on ports 80, 88, 443 or 8443")


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _trusting(certificate: bytes) -> ssl.SSLContext:
    """A TLS context that trusts the uploaded certificate and no other.

    Raises:
        MethodFailed: it is not a certificate in PEM form.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(cadata=certificate.decode("ascii"))
    except (ssl.SSLError, UnicodeDecodeError) as error:
        raise bad_request("bad webhook: Failed to set custom certificate file") from error
    return context


def _method(
    name: str, parse: Callable[[Parameters], Request], run: Callable[[TelegramDouble, Request], Any]
) -> Method:
    return Method(name, lambda double, given: run(double, parse(given)))


METHODS = {
    method.name.lower(): method
    for method in (
        _method("getMe", requests.nothing, get_me),
        _method("setWebhook", requests.set_webhook, set_webhook),
        _method("deleteWebhook", requests.delete_webhook, set_webhook),
        _method("getWebhookInfo", requests.nothing, get_webhook_info),
        _method("sendMessage", requests.send_text, send_message),
        _method("sendDocument", requests.send_document, send_file),
        _method("sendPhoto", requests.send_photo, send_file),
        _method("editMessageText", requests.edit_text, edit_message_text),
        _method("editMessageReplyMarkup", requests.edit_markup, edit_message_markup),
        _method("deleteMessage", requests.message_name, delete_message),
        _method("answerCallbackQuery", requests.answer_press, answer_callback_query),
        _method("sendChatAction", requests.chat_action, send_chat_action),
        _method("getChat", requests.chat_name, get_chat),
        _method("getChatMember", requests.member_name, get_chat_member),
        _method("setMyCommands", requests.set_commands, set_my_commands),
        _method("getMyCommands", requests.commands_scope, get_my_commands),
        _method("deleteMyCommands", requests.commands_scope, delete_my_commands),
        _method("getFile", requests.file_name, get_file),
    )
}
"""By name in lower case: the Bot API does not care about case."""
