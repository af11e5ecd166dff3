"""The control routes under `/sandbox/`: what the Python side can do, for other programs and the chat page."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from aiohttp import web

from infra.sandbox import people, views
from infra.sandbox.answers import JsonObject, MethodFailed, dump
from infra.sandbox.double import TelegramDouble
from infra.sandbox.faults import Fault, FaultKind
from infra.sandbox.keys import DOUBLE, PORT, SCRIPTS
from infra.sandbox.parameters import Parameters, read_parameters
from infra.sandbox.people import Said
from infra.sandbox.scripts import Script
from infra.sandbox.world import Change, Chat, Message, Person

log = logging.getLogger("telegate.sandbox")

HEARTBEAT = 15.0
"""Seconds between two signs of life on an event stream."""

LONGEST_WAIT = 60.0
MOST_UNREAD = 1_000
"""Changes that a slow page may lag behind before its stream is cut; it then loads everything again."""

T = TypeVar("T")
Handler = Callable[[TelegramDouble, Parameters, web.Request], Awaitable[object]]


class Misused(Exception):
    """A control request that cannot be done: the status and one sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


def add_control_routes(app: web.Application) -> None:
    """Hang the control routes into an application."""
    app[SCRIPTS] = {}
    for method, path, handler in ROUTES:
        app.router.add_route(method, f"/sandbox/{path}", _route(handler))
    app.router.add_get("/sandbox/events", events)
    app.router.add_get("/sandbox/files/{id}", stored_file)


def _route(handler: Handler) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """A route that reads JSON, a form or the query, and answers JSON."""

    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            given = await read_parameters(request)
            result = await handler(request.app[DOUBLE], given, request)
        except Misused as error:
            return _json({"error": str(error)}, error.status)
        except MethodFailed as error:
            return _json({"error": error.description}, error.status)
        except (ValueError, LookupError) as error:
            return _json({"error": str(error)}, 400)
        return _json(result)

    return answer


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(body=dump(value), status=status, content_type="application/json")


# Looking ----------------------------------------------------------------------------------------------


async def get_state(double: TelegramDouble, given: Parameters, _: web.Request) -> object:
    """What a person sees; without `person`, as the first one."""
    person = _person(double, given) if given.text("person") else next(iter(double.world.persons.values()))
    return views.state(double.world, person)


async def get_messages(double: TelegramDouble, given: Parameters, _: web.Request) -> object:
    """Messages of a chat after `after`; waits up to `wait` seconds for one."""
    chat_id, after = given.integer("chat"), given.integer("after")

    def newer() -> list[Message]:
        chat = double.world.chats.get(chat_id)
        messages = chat.messages.values() if chat else ()
        return [message for message in messages if message.id > after]

    found = await _wait(double, given, newer)
    return {"messages": [views.message_view(double.world, message) for message in found or ()]}


async def get_calls(double: TelegramDouble, given: Parameters, _: web.Request) -> object:
    """The log of Bot API calls; waits up to `wait` seconds for one that fits."""
    method, chat, after = given.text("method").lower(), given.text("chat"), given.integer("after")

    def fitting() -> list[JsonObject]:
        return [
            views.call_view(call)
            for call in double.calls
            if call.number > after and method in ("", call.method.lower()) and chat in ("", str(call.chat))
        ]

    return {"calls": await _wait(double, given, fitting) or [], "total": double.calls.total}


async def clear_calls(double: TelegramDouble, _: Parameters, __: web.Request) -> object:
    """Forget all calls."""
    double.calls.clear()
    return {}


async def get_truth(double: TelegramDouble, _: Parameters, __: web.Request) -> object:
    """What really happened."""
    return {"truth": [views.truth_view(change) for change in double.world.truth]}


async def get_updates(double: TelegramDouble, _: Parameters, __: web.Request) -> object:
    """How the webhook is doing."""
    return {
        "pending": double.updates.pending,
        "attempts": [views.attempt_view(attempt) for attempt in double.updates.attempts],
    }


async def get_press(double: TelegramDouble, given: Parameters, request: web.Request) -> object:
    """A press; waits up to `wait` seconds for its answer."""
    press = double.world.presses.get(request.match_info["id"])
    if press is None:
        raise Misused(404, "There is no such press.")
    await _wait(double, given, press.done.is_set)
    return views.press_view(press)


# Acting -----------------------------------------------------------------------------------------------


async def post_message(double: TelegramDouble, given: Parameters, _: web.Request) -> object:
    """Let `person` write `text` into `chat`, or send the uploaded `file`."""
    person = _person(double, given)
    chat = _chat(double, given, person)
    reply_to = chat.messages.get(given.integer("reply_to")) if given.text("reply_to") else None
    upload = given.files.get("file")
    said = Said(
        reply_to=reply_to,
        topic=given.integer("topic") or None,
        file=double.store(upload) if upload else None,
        location=_location(given),
    )
    message = people.say(double, person, chat, given.text("text"), said)
    return views.message_view(double.world, message)


async def post_press(double: TelegramDouble, given: Parameters, _: web.Request) -> object:
    """Let `person` press the `button` (its label), or send any `data`."""
    person = _person(double, given)
    message = _chat(double, given, person).messages.get(given.integer("message"))
    if message is None:
        raise Misused(404, "There is no such message.")
    data = given.text("data") or message.button(given.text("button")).data
    if data is None:
        raise Misused(400, "That button sends nothing to the bot.")
    return views.press_view(people.press(double, person, message, data))


async def post_start(double: TelegramDouble, given: Parameters, _: web.Request) -> object:
    """Let `person` press Start, with a `payload` if there is one."""
    message = people.start(double, _person(double, given), given.text("payload"))
    return views.message_view(double.world, message)


async def post_block(double: TelegramDouble, given: Parameters, _: web.Request) -> object:
    """Let `person` block the bot, or with `blocked: false` unblock it."""
    person = _person(double, given)
    if given.text("blocked") and not given.flag("blocked"):
        people.unblock(double, person)
    else:
        people.block(double, person)
    return views.person_view(person)


async def post_person(double: TelegramDouble, given: Parameters, _: web.Request) -> object:
    """Let somebody exist."""
    person_id, first_name = given.integer("id"), given.text("first_name")
    if person_id <= 0 or not first_name:
        raise Misused(400, "A person needs an `id` above zero and a `first_name`.")
    started = given.flag("started") or not given.text("started")
    person = Person(person_id, first_name, given.text("last_name"), given.text("username"), started=started)
    return views.person_view(double.world.add_person(person))


async def post_chat(double: TelegramDouble, given: Parameters, _: web.Request) -> object:
    """Let a group exist."""
    chat_id, title = given.integer("id"), given.text("title")
    members = given.structure("members", "members")
    if chat_id >= 0 or not title or not isinstance(members, list):
        raise Misused(400, "A chat needs an `id` below zero, a `title` and a list of `members`.")
    persons = {member: double.world.persons[member] for member in members}
    chat = Chat(chat_id, given.text("kind") or "supergroup", title, members=persons)
    return views.chat_view(double.world, next(iter(persons.values())), double.world.add_chat(chat))


# Faults and scripts -----------------------------------------------------------------------------------


async def get_faults(double: TelegramDouble, _: Parameters, __: web.Request) -> object:
    """The faults that hold."""
    return {"faults": [views.fault_view(fault) for fault in double.faults]}


async def post_fault(double: TelegramDouble, given: Parameters, request: web.Request) -> object:
    """Let something go wrong; `down` needs `seconds`, as nobody could lift it."""
    if given.text("kind") == "down":
        seconds = _seconds(given, "seconds", 1.0)
        request.app[PORT].go_down_for(seconds)
        return {"kind": "down", "seconds": seconds}
    if given.text("kind") not in set(FaultKind):
        raise Misused(400, f"There is no such kind of fault; there are down, {', '.join(FaultKind)}.")
    lasting = "times" in given.values and given.values["times"] in (None, "", "null")
    fault = Fault(
        FaultKind(given.text("kind")),
        method=given.text("method") or None,
        chat=given.integer("chat") or None,
        times=None if lasting else given.integer("times") or 1,
        effect=given.flag("effect"),
        status=given.integer("status") or 500,
        description=given.text("description"),
        retry_after=given.integer("retry_after") or 1,
        seconds=_seconds(given, "seconds", 0.5),
        size=given.integer("size") or 10_000_000,
    )
    return views.fault_view(double.faults.add(fault))


async def delete_faults(double: TelegramDouble, _: Parameters, request: web.Request) -> object:
    """End one fault, or all."""
    number = request.match_info.get("number")
    return {"lifted": double.faults.lift(int(number) if number else None)}


async def post_script(double: TelegramDouble, given: Parameters, request: web.Request) -> object:
    """Let `person` answer by himself with `answer`."""
    if not given.text("answer"):
        raise Misused(400, "A script needs an `answer`: the label of a button, or a text.")
    times = given.integer("times") or None
    delay = _seconds(given, "delay", 0.0)
    script = Script(double, _person(double, given), given.text("answer"), times, delay).attach()
    request.app[SCRIPTS][script.number] = script
    return {"number": script.number}


async def delete_script(_: TelegramDouble, __: Parameters, request: web.Request) -> object:
    """End a script."""
    script = request.app[SCRIPTS].pop(int(request.match_info["number"]), None)
    if script is None:
        raise Misused(404, "There is no such script.")
    script.lift()
    return {"answered": len(script.answered)}


ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("GET", "state", get_state),
    ("GET", "messages", get_messages),
    ("POST", "messages", post_message),
    ("POST", "presses", post_press),
    ("GET", r"presses/{id:\d+}", get_press),
    ("POST", "start", post_start),
    ("POST", "block", post_block),
    ("POST", "persons", post_person),
    ("POST", "chats", post_chat),
    ("GET", "calls", get_calls),
    ("DELETE", "calls", clear_calls),
    ("GET", "truth", get_truth),
    ("GET", "updates", get_updates),
    ("GET", "faults", get_faults),
    ("POST", "faults", post_fault),
    ("DELETE", "faults", delete_faults),
    ("DELETE", r"faults/{number:\d+}", delete_faults),
    ("POST", "scripts", post_script),
    ("DELETE", r"scripts/{number:\d+}", delete_script),
)


# Events -----------------------------------------------------------------------------------------------


async def events(request: web.Request) -> web.StreamResponse:
    """Server-sent events for one person: first the whole state, then every change."""
    double = request.app[DOUBLE]
    person = double.world.persons.get(int(request.query.get("person", "0") or 0))
    if person is None:
        return _json({"error": "There is no such person."}, 404)
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
    await response.prepare(request)
    changes: asyncio.Queue[Change] = asyncio.Queue(MOST_UNREAD)

    lagging = asyncio.Event()

    def watch(change: Change) -> None:
        if changes.full():
            lagging.set()
        else:
            changes.put_nowait(change)

    double.world.watchers.append(watch)
    try:
        await _send(response, views.state(double.world, person))
        while not lagging.is_set():
            await _send(response, await _next_view(double, person, changes))
    except ConnectionError:
        log.debug("The page of person %s went away.", person.id, extra={"action": "page_gone"})
    finally:
        double.world.watchers.remove(watch)
    return response


async def _next_view(
    double: TelegramDouble, person: Person, changes: asyncio.Queue[Change]
) -> JsonObject | None:
    """The next change that this person notices, or None after a while without one."""
    try:
        async with asyncio.timeout(HEARTBEAT):
            while True:
                view = views.change_view(double.world, person, await changes.get())
                if view is not None:
                    return view
    except TimeoutError:
        return None


async def _send(response: web.StreamResponse, view: JsonObject | None) -> None:
    await response.write(b": still here\n\n" if view is None else b"data: " + dump(view) + b"\n\n")


async def stored_file(request: web.Request) -> web.StreamResponse:
    """A picture or document, for the chat page; only pictures are shown, all else is downloaded."""
    stored = request.app[DOUBLE].world.files.get(request.match_info["id"])
    if stored is None:
        return _json({"error": "There is no such file."}, 404)
    picture = stored.content_type in {"image/png", "image/jpeg", "image/gif", "image/webp"}
    return web.Response(
        body=stored.content,
        content_type=stored.content_type if picture else "application/octet-stream",
        headers={
            "Content-Disposition": "inline" if picture else "attachment",
            "Content-Security-Policy": "sandbox",
            "X-Content-Type-Options": "nosniff",
        },
    )


# Reading ----------------------------------------------------------------------------------------------


async def _wait(double: TelegramDouble, given: Parameters, look: Callable[[], T]) -> T | None:
    """Look until there is something, at most `wait` seconds; the last look counts."""
    try:
        async with asyncio.timeout(min(_seconds(given, "wait", 0.0), LONGEST_WAIT)):
            while not (found := look()):
                await double.world.next_change()
            return found
    except TimeoutError:
        return look()


def _seconds(given: Parameters, name: str, otherwise: float) -> float:
    text = given.text(name)
    seconds = float(text) if text else otherwise
    if not 0 <= seconds <= 86_400:  # noqa: PLR2004 - a day
        raise Misused(400, f"`{name}` is a number of seconds from 0 to 86400.")
    return seconds


def _person(double: TelegramDouble, given: Parameters) -> Person:
    person = double.world.persons.get(given.integer("person"))
    if person is None:
        known = sorted(double.world.persons)
        raise Misused(404, f"There is no person {given.text('person') or '(none given)'}; there are {known}.")
    return person


def _chat(double: TelegramDouble, given: Parameters, person: Person) -> Chat:
    """The chat that is meant; without one, the person's private chat."""
    chat_id = given.integer("chat") or person.id
    if chat_id == person.id:
        return double.world.open_private_chat(person)
    chat = double.world.chats.get(chat_id)
    if chat is None:
        raise Misused(404, f"There is no chat {chat_id}; there are {sorted(double.world.chats)}.")
    return chat


def _location(given: Parameters) -> tuple[float, float] | None:
    value = given.structure("location", "location")
    if value is None:
        return None
    if not isinstance(value, list) or [type(part) in (int, float) for part in value] != [True, True]:
        raise Misused(400, "`location` is a list of latitude and longitude.")
    return float(value[0]), float(value[1])
