"""What the chat page and other programs see of the world: JSON for one person's eyes."""

from __future__ import annotations

from infra.sandbox import render
from infra.sandbox.answers import JsonObject
from infra.sandbox.calls import Call
from infra.sandbox.faults import Fault
from infra.sandbox.updates import Attempt
from infra.sandbox.world import Change, ChangeKind, Chat, Message, Person, Press, ReplyKeyboard, World

SHOWN_MESSAGES = 200
"""How many messages of a chat the page gets when it opens."""


def state(world: World, viewer: Person) -> JsonObject:
    """Everything that one person sees when the page opens."""
    chats = [chat for chat in world.chats.values() if viewer.id in chat.members and chat.migrated_to is None]
    shown = [chat_view(world, viewer, chat) for chat in chats]
    if viewer.id not in world.chats:
        shown.insert(0, chat_view(world, viewer, Chat(viewer.id, "private", members={viewer.id: viewer})))
    return {
        "kind": "state",
        "viewer": person_view(viewer),
        "bot": render.me(world),
        "persons": [person_view(person) for person in world.persons.values()],
        "chats": shown,
    }


def person_view(person: Person) -> JsonObject:
    """A person, with what Telegram's own User leaves out."""
    return render.user(person) | {
        "name": person.name,
        "started": person.started,
        "blocked": person.blocked,
    }


def chat_view(world: World, viewer: Person, chat: Chat) -> JsonObject:
    """A chat, its newest messages and the commands that its menu shows to this person."""
    messages = list(chat.messages.values())[-SHOWN_MESSAGES:]
    return render.chat(chat) | {
        "name": world.bot.name if chat.is_private else chat.title,
        "members": [render.user(member) for member in chat.members.values()],
        "topics": chat.topics or {},
        "bot_status": chat.bot_status,
        "commands": commands(world, viewer, chat),
        "messages": [message_view(world, message) for message in messages],
    }


def message_view(world: World, message: Message) -> JsonObject:
    """A Message of the Bot API, and what only people see: the reply field, the keyboard, the open presses."""
    value = render.message(world, message)
    asks = message.force_reply
    if asks is not None:
        value["force_reply"] = {"placeholder": asks.placeholder}
    if isinstance(message.markup, ReplyKeyboard):
        value["keyboard"] = [list(row) for row in message.markup.rows]
    if message.sender is world.bot:
        value["out_of_bot"] = True
    return value


def press_view(press: Press) -> JsonObject:
    """A press, and what was answered to it."""
    return {
        "id": press.id,
        "person": press.person.id,
        "chat": press.message.chat.id,
        "message": press.message.id,
        "data": press.data,
        "answered": press.done.is_set(),
        "toast": press.toast,
        "alert": press.alert,
    }


def change_view(world: World, viewer: Person, change: Change) -> JsonObject | None:
    """A change as one person notices it; None when he does not."""
    if change.kind in {ChangeKind.COMMANDS, ChangeKind.CHAT}:
        return state(world, viewer)
    foreign = change.press is not None and change.press.person is not viewer
    if change.chat is None or viewer.id not in change.chat.members or foreign:
        return None
    return {"kind": change.kind.value, "chat": change.chat.id} | _details(world, change)


def _details(world: World, change: Change) -> JsonObject:
    if change.press is not None:
        return {"press": press_view(change.press)}
    if change.message is None:
        return {"action": change.text}
    if change.kind is ChangeKind.DELETED:
        return {"message_id": change.message.id}
    return {"message": message_view(world, change.message)}


def truth_view(change: Change) -> JsonObject:
    """A change as the truth log tells it."""
    return {
        "kind": change.kind.value,
        "at": change.at,
        "chat": change.chat.id if change.chat else None,
        "message": change.message.id if change.message else None,
        "press": change.press.id if change.press else None,
        "text": change.text,
    }


def call_view(call: Call) -> JsonObject:
    """A Bot API call as the log tells it."""
    names = ("number", "method", "parameters", "chat", "at", "status", "outcome")
    return {name: getattr(call, name) for name in names}


def attempt_view(attempt: Attempt) -> JsonObject:
    """A POST to the webhook."""
    return {name: getattr(attempt, name) for name in ("at", "update_id", "kind", "status", "error")}


def fault_view(fault: Fault) -> JsonObject:
    """A fault that holds."""
    names = ("number", "method", "chat", "times", "effect", "status", "retry_after", "hits")
    return {"kind": fault.kind.value} | {name: getattr(fault, name) for name in names}


def commands(world: World, viewer: Person, chat: Chat) -> list[JsonObject]:
    """The command menu that this person sees in this chat: the narrowest scope wins.

    Source: https://core.telegram.org/bots/api#determining-list-of-commands
    """
    if chat.is_private:
        scopes = [("chat", chat.id, 0), ("all_private_chats", 0, 0), ("default", 0, 0)]
    else:
        scopes = [
            ("chat_member", chat.id, viewer.id),
            ("chat", chat.id, 0),
            ("all_group_chats", 0, 0),
            ("default", 0, 0),
        ]
    for scope in scopes:
        for language in ("en", ""):
            if found := world.commands.get((*scope, language)):
                return list(found)
    return []
