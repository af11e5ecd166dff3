"""The Telegram double: its parts in one object, and the rules about who may reach whom."""

from __future__ import annotations

import hashlib
import secrets
import time
from dataclasses import dataclass

from infra.sandbox.answers import JsonObject, MethodFailed, bad_request
from infra.sandbox.calls import CallLog
from infra.sandbox.faults import FaultPlan
from infra.sandbox.parameters import Upload
from infra.sandbox.updates import Timing, UpdateQueues
from infra.sandbox.world import Chat, Message, StoredFile, World

BOT_ID_LENGTH = 20


@dataclass(frozen=True, slots=True)
class TelegramDouble:
    """Everything that one sandbox is made of.

    Attributes:
        token: the bot's token; calls with another are refused.
        set_webhook_at: when `setWebhook` was last allowed, on the monotonic clock (one element).
    """

    token: str
    world: World
    updates: UpdateQueues
    faults: FaultPlan
    calls: CallLog
    timing: Timing
    set_webhook_at: list[float]

    def find_chat(self, name: str) -> Chat:
        """The chat that `chat_id` names: a number, or `@username` of a group or channel.

        Raises:
            MethodFailed: there is none that the bot knows.
        """
        if not name:
            raise bad_request("chat_id is empty")
        if name.startswith("@"):
            found = [chat for chat in self.world.chats.values() if chat.username.lower() == name[1:].lower()]
        else:
            known = self.world.chats.get(int(name)) if _is_number(name) else None
            found = [known] if known else []
        if not found:
            raise bad_request("chat not found")
        return found[0]

    def writable_chat(self, name: str) -> Chat:
        """The chat that `chat_id` names, if the bot may write there.

        Raises:
            MethodFailed: there is none, or nobody would read it.
        """
        if _is_number(name) and int(name) not in self.world.chats and int(name) in self.world.persons:
            raise MethodFailed(403, "bot can't initiate conversation with a user")
        chat = self.find_chat(name)
        if chat.migrated_to is not None:
            raise MethodFailed(
                400, "group chat was upgraded to a supergroup chat", {"migrate_to_chat_id": chat.migrated_to}
            )
        if chat.is_private:
            _must_listen(chat)
        elif chat.bot_status == "kicked":
            raise MethodFailed(403, f"bot was kicked from the {_kind(chat)}")
        elif chat.bot_status == "left":
            raise MethodFailed(403, f"bot is not a member of the {_kind(chat)}")
        return chat

    def store(self, upload: Upload, *, is_photo: bool = False) -> StoredFile:
        """Keep a file so that it can be downloaded."""
        unique = hashlib.sha256(upload.content).hexdigest()[:16]
        folder = "photos" if is_photo else "documents"
        suffix = upload.name.rpartition(".")[2] if "." in upload.name else "bin"
        stored = StoredFile(
            id=f"BQACAgIAAxkDAAI{secrets.token_urlsafe(24)}",
            unique_id=unique,
            path=f"{folder}/file_{unique}.{suffix if suffix.isalnum() else 'bin'}",
            name=upload.name,
            content_type=upload.content_type,
            content=upload.content,
            is_photo=is_photo,
        )
        return self.world.add_file(stored)

    def bot_sees(self, message: Message) -> bool:
        """Privacy mode: in groups the bot sees commands for it and replies to its own messages.

        Source: https://core.telegram.org/bots/features#privacy-mode
        """
        chat = message.chat
        if chat.bot_status in {"left", "kicked"}:
            return False
        if chat.is_private or not self.world.privacy_mode or chat.bot_status == "administrator":
            return True
        if message.service is not None or (message.reply_to and message.reply_to.sender is self.world.bot):
            return True
        first_word = message.text.split(maxsplit=1)[0] if message.text else ""
        _, at, name = first_word.partition("@")
        for_the_bot = not at or name.lower() == self.world.bot.username.lower()
        return first_word.startswith("/") and for_the_bot

    def new_message(self, chat: Chat, **content: object) -> Message:
        """A message of the bot in a chat, not yet shown."""
        return Message(chat, next(chat.message_ids), self.world.bot, int(time.time()), **content)  # type: ignore[arg-type]

    def push(self, chat: Chat, kind: str, payload: JsonObject) -> int | None:
        """Queue an update about a chat; a chat is one queue."""
        return self.updates.push(("chat", chat.id), kind, payload)


def _is_number(name: str) -> bool:
    return name.removeprefix("-").isdigit() and len(name) <= BOT_ID_LENGTH


def _kind(chat: Chat) -> str:
    return f"{chat.kind} chat"


def _must_listen(chat: Chat) -> None:
    person = chat.partner
    if person.deactivated:
        raise MethodFailed(403, "user is deactivated")
    if person.blocked:
        raise MethodFailed(403, "bot was blocked by the user")
    if not person.started:
        raise MethodFailed(403, "bot can't initiate conversation with a user")
