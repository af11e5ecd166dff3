"""The objects of the Bot API as JSON: User, Chat, Message, CallbackQuery and the others."""

from __future__ import annotations

from typing import Any

from infra.sandbox.answers import JsonObject
from infra.sandbox.world import Chat, Entity, Keyboard, Message, Person, Press, StoredFile, World

BOT_ABILITIES = {
    "can_join_groups": True,
    "supports_inline_queries": False,
    "can_connect_to_business": False,
    "has_main_web_app": False,
}


def user(person: Person) -> JsonObject:
    """A User."""
    value: JsonObject = {"id": person.id, "is_bot": person.is_bot, "first_name": person.first_name}
    if person.last_name:
        value["last_name"] = person.last_name
    if person.username:
        value["username"] = person.username
    if not person.is_bot:
        value["language_code"] = "en"
    return value


def me(world: World) -> JsonObject:
    """The User of `getMe`."""
    return user(world.bot) | BOT_ABILITIES | {"can_read_all_group_messages": not world.privacy_mode}


def chat(place: Chat) -> JsonObject:
    """A Chat."""
    if place.is_private:
        value = user(place.partner)
        shown = ("id", "first_name", "last_name", "username")
        return {name: value[name] for name in shown if name in value} | {"type": "private"}
    value = {"id": place.id, "title": place.title}
    if place.username:
        value["username"] = place.username
    if place.topics is not None:
        value["is_forum"] = True
    value["type"] = place.kind
    if place.kind == "group":
        value["all_members_are_administrators"] = False
    return value


def full_chat(place: Chat) -> JsonObject:
    """The ChatFullInfo of `getChat`."""
    gifts = (
        "unlimited_gifts",
        "limited_gifts",
        "unique_gifts",
        "premium_subscription",
        "gifts_from_channels",
    )
    value = chat(place) | {
        "accepted_gift_types": dict.fromkeys(gifts, False),
        "max_reaction_count": 11,
        "accent_color_id": abs(place.id) % 7,
    }
    if not place.is_private:
        value["permissions"] = {"can_send_messages": True, "can_send_polls": True, "can_invite_users": True}
    return value


def entity(world: World, part: Entity) -> JsonObject:
    """A MessageEntity."""
    value: JsonObject = {"offset": part.offset, "length": part.length, "type": part.type}
    if part.url is not None:
        value["url"] = part.url
    if part.language is not None:
        value["language"] = part.language
    if part.custom_emoji_id is not None:
        value["custom_emoji_id"] = part.custom_emoji_id
    if part.unix_time is not None:
        value["unix_time"] = part.unix_time
    if part.date_time_format:
        value["date_time_format"] = part.date_time_format
    if part.user_id is not None:
        value["user"] = user(world.persons.get(part.user_id) or Person(part.user_id, ""))
    return value


def message(world: World, sent: Message, *, with_reply: bool = True) -> JsonObject:
    """A Message; `reply_to_message` goes one level deep, as in the Bot API."""
    value: JsonObject = {
        "message_id": sent.id,
        "from": user(sent.sender),
        "chat": chat(sent.chat),
        "date": sent.date,
    }
    if sent.edit_date is not None:
        value["edit_date"] = sent.edit_date
    if sent.topic is not None:
        value["message_thread_id"] = sent.topic
        value["is_topic_message"] = True
    if sent.forwarded_from is not None:
        value |= _forward(sent, sent.forwarded_from)
    if with_reply and sent.reply_to is not None and not sent.reply_to.deleted:
        value["reply_to_message"] = message(world, sent.reply_to, with_reply=False)
    value |= _content(world, sent)
    if isinstance(sent.markup, Keyboard):
        value["reply_markup"] = markup(sent.markup)
    if sent.protected:
        value["has_protected_content"] = True
    return value


def _forward(sent: Message, origin: Person) -> JsonObject:
    author = user(origin)
    source = {"type": "user", "sender_user": author, "date": sent.date}
    return {"forward_origin": source, "forward_from": author, "forward_date": sent.date}


def markup(keyboard: Keyboard) -> JsonObject:
    """An InlineKeyboardMarkup."""
    value: JsonObject = {"inline_keyboard": [[button.raw for button in row] for row in keyboard.rows]}
    if keyboard.force_reply:
        value["force_reply"] = True
    return value


def _content(world: World, sent: Message) -> JsonObject:
    """What the message is about: text, a file with its caption, a place, or something of the chat itself."""
    if sent.service is not None:
        return sent.service
    if sent.location is not None:
        latitude, longitude = sent.location
        return {"location": {"latitude": latitude, "longitude": longitude}}
    value: JsonObject = {}
    prefix = ""
    if sent.file is not None:
        prefix = "caption_"
        value |= _file(sent.file)
    if sent.text:
        value["caption" if prefix else "text"] = sent.text
    if sent.entities:
        value[f"{prefix}entities"] = [entity(world, part) for part in sent.entities]
    if sent.link_preview is not None:
        value["link_preview_options"] = sent.link_preview
    return value


def _file(stored: StoredFile) -> JsonObject:
    size = {"file_id": stored.id, "file_unique_id": stored.unique_id, "file_size": len(stored.content)}
    if stored.is_photo:
        return {"photo": [size | {"width": 800, "height": 600}]}
    return {"document": {"file_name": stored.name, "mime_type": stored.content_type} | size}


def file(stored: StoredFile) -> JsonObject:
    """The File of `getFile`."""
    return {
        "file_id": stored.id,
        "file_unique_id": stored.unique_id,
        "file_size": len(stored.content),
        "file_path": stored.path,
    }


def callback_query(world: World, press: Press) -> JsonObject:
    """A CallbackQuery; the message is an InaccessibleMessage when it has been deleted."""
    about = press.message
    if about.deleted:
        shown: JsonObject = {"message_id": about.id, "chat": chat(about.chat), "date": 0}
    else:
        shown = message(world, about)
    return {
        "id": press.id,
        "from": user(press.person),
        "message": shown,
        "chat_instance": about.chat.instance,
        "data": press.data,
    }


def member(person: Person, status: str) -> JsonObject:
    """A ChatMember."""
    value: JsonObject = {"user": user(person), "status": status}
    if status == "administrator":
        value |= {"can_be_edited": False, "is_anonymous": False} | dict.fromkeys(ADMINISTRATOR_RIGHTS, True)
    if status == "kicked":
        value["until_date"] = 0
    return value


ADMINISTRATOR_RIGHTS = (
    "can_manage_chat",
    "can_delete_messages",
    "can_manage_video_chats",
    "can_restrict_members",
    "can_promote_members",
    "can_change_info",
    "can_invite_users",
    "can_post_stories",
    "can_edit_stories",
    "can_delete_stories",
    "can_pin_messages",
    "can_manage_topics",
)


def member_update(
    place: Chat, by: Person, person: Person, statuses: tuple[str, str], date: int
) -> JsonObject:
    """A ChatMemberUpdated: who changed whose status, from what to what."""
    old, new = statuses
    return {
        "chat": chat(place),
        "from": user(by),
        "date": date,
        "old_chat_member": member(person, old),
        "new_chat_member": member(person, new),
    }


def webhook_info(value: dict[str, Any]) -> JsonObject:
    """A WebhookInfo without the fields that are empty."""
    required = {"url", "has_custom_certificate", "pending_update_count"}
    return {name: field for name, field in value.items() if name in required or field}
