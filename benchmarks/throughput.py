"""How many a second: updates stored before they are acknowledged, and messages sent through the API."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from typing import NamedTuple

from benchmarks import budgets, load, postgresql, traffic, wire
from benchmarks.load import Load
from benchmarks.machine import cpu_seconds, wait_until_idle
from benchmarks.plan import Plan
from benchmarks.postgresql import Database
from benchmarks.results import Budget, Finding, Row
from benchmarks.servers import Place, Server

_WEBHOOK = "/telegram/webhook"
_WARM_UP = 0.5
_SETTLE_LIMIT = 60.0

NO_TORNADO = (
    "python-telegram-bot's own webhook server needs tornado, which is not installed here "
    "(pip install 'python-telegram-bot[webhooks]'): it was left out, and its budget is not judged."
)

_WHAT_IS_ALIKE = (
    "The budgets are about a text: that is what the contenders take, too. A press costs a call to Telegram "
    "besides, and one that answers a question two calls and a second transaction."
)

_WHAT_THE_FLOOR_IS = (
    "The floor is the same steps by the same libraries, on SQLite, in one short file and with nothing around "
    "them (`benchmarks/contenders/floor.py`): what it costs is the libraries' price, and what ours costs "
    "beyond it is the price of our promises and of our own code."
)

_CPU = "The first CPU time is the server's, the one after the plus PostgreSQL's; SQLite works in the server."

BARE = "bare aiohttp handler: the unit"
_TEXT = "webhook on SQLite: a text that concerns no task, stored"
_TEXT_POSTGRESQL = "webhook on PostgreSQL: a text that concerns no task, stored"
_STRAY = "webhook on SQLite: a press on a dead button, stored; the popup is sent"
_ANSWER = "webhook on SQLite: a press that answers a question, stored; popup and message are sent"
_FLOOR_TEXT = "floor: the same text, stored"
_FLOOR_UNLOGGED = "floor: the same text, stored; no log line"
_PTB = "webhook: python-telegram-bot's own server, nothing stored"
_PTB_AIOHTTP = "webhook: python-telegram-bot behind aiohttp, nothing stored"
_EDDSA = "POST /v1/messages on SQLite: EdDSA token, stored, sent"
_EDDSA_POSTGRESQL = "POST /v1/messages on PostgreSQL: EdDSA token, stored, sent"
_HS256 = "POST /v1/messages on SQLite: HS256 token, stored, sent"
_FLOOR_MESSAGE = "floor: the same message: EdDSA token, stored, sent"
_FLOOR_ONE_COMMIT = "floor: the same message, but that it was sent is not stored"
_FLOOR_UNSENT = "floor: the same message, stored as sent but never sent"
_PTB_HTTPX = "sending with python-telegram-bot and httpx: no token, nothing stored"


@dataclass(frozen=True, slots=True)
class Contender:
    """A server with something to do.

    Attributes:
        make: a load for one round; takes its length in seconds.
        database: what the server stores in, when that is PostgreSQL.
    """

    name: str
    server: Server
    make: Callable[[float], Load]
    database: Database | None = None

    @property
    def processes(self) -> list[int]:
        """The server's process, and the database's."""
        return [self.server.worker, *([self.database.process] if self.database else ())]


class Turn(NamedTuple):
    """What a contender did in one round.

    Attributes:
        rate: answers per second.
        cpu: µs of CPU time for each answer, of each of its processes.
    """

    rate: float
    cpu: Sequence[float]


Turns = Mapping[str, Sequence[Turn]]


class Limit(NamedTuple):
    """How many times as much as another a contender has to do at least."""

    name: str
    other: str
    times: float
    shown: str


LIMITS = (
    Limit(_TEXT, BARE, budgets.WEBHOOK_TO_BARE, " × bare"),
    Limit(_TEXT, _PTB, budgets.WEBHOOK_TO_PTB, " × PTB's own"),
    Limit(_TEXT_POSTGRESQL, BARE, budgets.POSTGRESQL_WEBHOOK_TO_BARE, " × bare"),
    Limit(_EDDSA, BARE, budgets.MESSAGES_TO_BARE, " × bare"),
    Limit(_EDDSA, _PTB_HTTPX, budgets.MESSAGES_TO_PTB, " × PTB with httpx"),
)


def webhook(place: Place, plan: Plan) -> Finding:
    """Updates per second on either database, against python-telegram-bot's two ways of taking them."""
    with ExitStack() as stack:
        contenders = [
            _bare(place, stack),
            *_our_webhook(place, plan, stack),
            *_floor_webhooks(place, stack),
            *_ptb_webhooks(place, stack),
        ]
        turns = _take_turns(contenders, place, plan)
    compared = NO_TORNADO
    if _PTB in turns:
        compared = f"Ours (SQLite) to python-telegram-bot's own server: {_ratio(turns, _TEXT, _PTB):.2f}."
    return Finding(
        "Updates from Telegram", _rows(turns), (_WHAT_IS_ALIKE, _WHAT_THE_FLOOR_IS, compared, _about_cpu())
    )


def messages(place: Place, plan: Plan) -> Finding:
    """Messages per second through the API on either database, against sending with httpx."""
    with ExitStack() as stack:
        turns = _take_turns([_bare(place, stack), *_senders(place, stack)], place, plan)
    to_httpx = _ratio(turns, _EDDSA, _PTB_HTTPX)
    compared = f"Ours (EdDSA, SQLite) to python-telegram-bot with httpx: {to_httpx:.1f}."
    return Finding("Messages through the API", _rows(turns), (_WHAT_THE_FLOOR_IS, compared, _about_cpu()))


def _bare(place: Place, stack: ExitStack) -> Contender:
    return _repeating(BARE, stack.enter_context(place.bare()), traffic.plain_json())


def _our_webhook(place: Place, plan: Plan, stack: ExitStack) -> Iterator[Contender]:
    gateway = stack.enter_context(place.gateway())
    who = place.credentials
    text = traffic.text(_WEBHOOK, who)
    yield _repeating(_TEXT, gateway, text)
    yield from _on_postgresql(_TEXT_POSTGRESQL, text, place, stack)
    yield _repeating(_STRAY, gateway, traffic.stray_press(_WEBHOOK, who))
    yield Contender(_ANSWER, gateway, lambda seconds: _answers(place, gateway, plan, seconds))


def _floor_webhooks(place: Place, stack: ExitStack) -> Iterator[Contender]:
    floor, who = stack.enter_context(place.floor()), place.credentials
    yield _repeating(_FLOOR_TEXT, floor, traffic.text("/webhook", who))
    yield _repeating(_FLOOR_UNLOGGED, floor, traffic.text("/webhook/unlogged", who))


def _ptb_webhooks(place: Place, stack: ExitStack) -> Iterator[Contender]:
    template = traffic.text("/webhook", place.credentials)
    if find_spec("tornado"):
        yield _repeating(_PTB, stack.enter_context(place.ptb_webhook()), template)
    yield _repeating(_PTB_AIOHTTP, stack.enter_context(place.ptb_aiohttp()), template)


def _senders(place: Place, stack: ExitStack) -> Iterator[Contender]:
    gateway, who = stack.enter_context(place.gateway()), place.credentials
    message = traffic.message(who.own_key)
    yield _repeating(_EDDSA, gateway, message)
    yield from _on_postgresql(_EDDSA_POSTGRESQL, message, place, stack)
    yield _repeating(_HS256, gateway, traffic.message(who.shared_secret))
    yield from _floor_messages(place, stack)
    yield _repeating(_PTB_HTTPX, stack.enter_context(place.ptb_sending()), traffic.plain_json())


def _floor_messages(place: Place, stack: ExitStack) -> Iterator[Contender]:
    floor, token = stack.enter_context(place.floor()), place.credentials.own_key
    yield _repeating(_FLOOR_MESSAGE, floor, traffic.message(token, "/messages"))
    yield _repeating(_FLOOR_ONE_COMMIT, floor, traffic.message(token, "/messages/one-commit"))
    yield _repeating(_FLOOR_UNSENT, floor, traffic.message(token, "/messages/unsent"))


def _on_postgresql(name: str, template: str, place: Place, stack: ExitStack) -> Iterator[Contender]:
    """Our server on PostgreSQL, if there is one."""
    if postgresql.is_installed():
        database = stack.enter_context(place.postgresql())
        gateway = stack.enter_context(place.gateway(DATABASE_URL=database.url))
        yield _repeating(name, gateway, template, database)


def _repeating(name: str, server: Server, template: str, database: Database | None = None) -> Contender:
    return Contender(
        name, server, lambda seconds: Load(server.port, 200, template, seconds=seconds), database
    )


def _answers(place: Place, gateway: Server, plan: Plan, seconds: float) -> Load:
    """Ask as many questions as will be answered; the load then presses one button of each."""
    wanted = plan.answers if seconds >= plan.seconds else load.CONNECTIONS
    template = traffic.question(place.credentials.own_key, wait=False)
    load.run(Load(gateway.port, 202, template, seconds=_SETTLE_LIMIT, most=wanted), place.cores.load)
    raw = wire.request("GET", f"/buttons?count={wanted}")
    buttons = wire.fetch(place.double, raw, _SETTLE_LIMIT).json()
    wait_until_idle(gateway.worker, _SETTLE_LIMIT)
    first = next(load.numbers)
    presses = (
        traffic.press(_WEBHOOK, place.credentials, number, button)
        for number, button in enumerate(buttons, first)
    )
    return Load(gateway.port, 200, listed=tuple(presses))


def _take_turns(contenders: Sequence[Contender], place: Place, plan: Plan) -> Turns:
    """Let each do something in each round."""
    for contender in contenders:
        _let_run(contender, place, min(_WARM_UP, plan.seconds / 2))
    turns: dict[str, list[Turn]] = {contender.name: [] for contender in contenders}
    for _ in range(plan.rounds):
        for contender in contenders:
            turns[contender.name].append(_let_run(contender, place, plan.seconds))
    return turns


def _let_run(contender: Contender, place: Place, seconds: float) -> Turn:
    what, processes = contender.make(seconds), contender.processes
    before = [cpu_seconds(process) for process in processes]
    done = load.run(what, place.cores.load)
    for process in processes:
        # What goes on after the answers would be counted against whoever is next.
        wait_until_idle(process, _SETTLE_LIMIT)
    spent = [cpu_seconds(process) - ago for process, ago in zip(processes, before, strict=True)]
    return Turn(done.rate, [seconds / done.answers * 1e6 for seconds in spent])


def _ratio(turns: Turns, name: str, other: str) -> float:
    """The median over the rounds of what one did for each one that the other did."""
    pairs = zip(turns[name], turns[other], strict=True)
    return statistics.median(one.rate / two.rate for one, two in pairs)


def _rows(turns: Turns) -> tuple[Row, ...]:
    return tuple(
        Row(name, _value(some), _ratio(turns, name, BARE), tuple(_judged(turns, name)))
        for name, some in turns.items()
    )


def _judged(turns: Turns, name: str) -> Iterator[Budget]:
    """The budgets of one contender, as far as whom it is compared with has taken part."""
    for limit in LIMITS:
        if limit.name == name and limit.other in turns:
            yield Budget.at_least(limit.times, _ratio(turns, name, limit.other), limit.shown)


def _value(turns: Sequence[Turn]) -> str:
    rate = statistics.median(turn.rate for turn in turns)
    cpu = [statistics.median(spent) for spent in zip(*(turn.cpu for turn in turns), strict=True)]
    return f"{rate:,.0f}/s, {' + '.join(f'{spent:,.0f}' for spent in cpu)} µs CPU"


def _about_cpu() -> str:
    return _CPU if postgresql.is_installed() else postgresql.NOT_INSTALLED
