"""How many a second: updates stored before they are acknowledged, and messages sent through the API."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from typing import NamedTuple

from benchmarks import budgets, load, traffic, wire
from benchmarks.load import Load
from benchmarks.machine import cpu_seconds, wait_until_idle
from benchmarks.plan import Plan
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

BARE = "bare aiohttp handler: the unit"
_TEXT = "webhook: a text that concerns no task, stored"
_STRAY = "webhook: a press on a dead button, stored; the popup is sent"
_ANSWER = "webhook: a press that answers a question, stored; popup and message are sent"
_PTB = "webhook: python-telegram-bot's own server, nothing stored"
_PTB_AIOHTTP = "webhook: python-telegram-bot behind aiohttp, nothing stored"
_EDDSA = "POST /v1/messages: EdDSA token, stored, sent"
_HS256 = "POST /v1/messages: HS256 token, stored, sent"
_PTB_HTTPX = "sending with python-telegram-bot and httpx: no token, nothing stored"


@dataclass(frozen=True, slots=True)
class Contender:
    """A server with something to do.

    Attributes:
        make: a load for one round; takes its length in seconds.
    """

    name: str
    server: Server
    make: Callable[[float], Load]


class Turn(NamedTuple):
    """What a contender did in one round: answers per second, and the server's CPU time for each in µs."""

    rate: float
    cpu: float


Turns = Mapping[str, Sequence[Turn]]


def webhook(place: Place, plan: Plan) -> Finding:
    """Updates per second, against python-telegram-bot's two ways of taking them."""
    with ExitStack() as stack:
        contenders = [_bare(place, stack), *_our_webhook(place, plan, stack), *_ptb_webhooks(place, stack)]
        turns = _take_turns(contenders, place, plan)
    to_ptb = _ratio(turns, _TEXT, _PTB) if _PTB in turns else None
    ratio = _ratio(turns, _TEXT, BARE)
    judged = [Budget.at_least(budgets.WEBHOOK_TO_BARE, ratio, " × bare")]
    if to_ptb is not None:
        judged.append(Budget.at_least(budgets.WEBHOOK_TO_PTB, to_ptb, " × PTB's own"))
    compared = NO_TORNADO if to_ptb is None else f"Ours to python-telegram-bot's own server: {to_ptb:.2f}."
    notes = (_WHAT_IS_ALIKE, compared)
    return Finding("Updates from Telegram", _rows(turns, {_TEXT: tuple(judged)}), notes)


def messages(place: Place, plan: Plan) -> Finding:
    """Messages per second through the API, against sending with httpx."""
    with ExitStack() as stack:
        gateway = stack.enter_context(place.gateway())
        httpx = stack.enter_context(place.ptb_sending())
        templates = {
            _EDDSA: (gateway, traffic.message(place.credentials.own_key)),
            _HS256: (gateway, traffic.message(place.credentials.shared_secret)),
            _PTB_HTTPX: (httpx, traffic.plain_json()),
        }
        ours = [_repeating(name, server, template) for name, (server, template) in templates.items()]
        turns = _take_turns([_bare(place, stack), *ours], place, plan)
    to_httpx = _ratio(turns, _EDDSA, _PTB_HTTPX)
    judged = (
        Budget.at_least(budgets.MESSAGES_TO_BARE, _ratio(turns, _EDDSA, BARE), " × bare"),
        Budget.at_least(budgets.MESSAGES_TO_PTB, to_httpx, " × PTB with httpx"),
    )
    notes = (f"Ours (EdDSA) to python-telegram-bot with httpx: {to_httpx:.1f}.",)
    return Finding("Messages through the API", _rows(turns, {_EDDSA: judged}), notes)


def _bare(place: Place, stack: ExitStack) -> Contender:
    return _repeating(BARE, stack.enter_context(place.bare()), traffic.plain_json())


def _our_webhook(place: Place, plan: Plan, stack: ExitStack) -> Iterator[Contender]:
    gateway = stack.enter_context(place.gateway())
    who = place.credentials
    yield _repeating(_TEXT, gateway, traffic.text(_WEBHOOK, who))
    yield _repeating(_STRAY, gateway, traffic.stray_press(_WEBHOOK, who))
    yield Contender(_ANSWER, gateway, lambda seconds: _answers(place, gateway, plan, seconds))


def _ptb_webhooks(place: Place, stack: ExitStack) -> Iterator[Contender]:
    template = traffic.text("/webhook", place.credentials)
    if find_spec("tornado"):
        yield _repeating(_PTB, stack.enter_context(place.ptb_webhook()), template)
    yield _repeating(_PTB_AIOHTTP, stack.enter_context(place.ptb_aiohttp()), template)


def _repeating(name: str, server: Server, template: str) -> Contender:
    return Contender(name, server, lambda seconds: Load(server.port, 200, template, seconds=seconds))


def _answers(place: Place, gateway: Server, plan: Plan, seconds: float) -> Load:
    """Ask as many questions as will be answered; the load then presses one button of each."""
    wanted = plan.answers if seconds >= plan.seconds else load.CONNECTIONS
    template = traffic.question(place.credentials.own_key, wait=False)
    load.run(Load(gateway.port, 202, template, seconds=_SETTLE_LIMIT, most=wanted), place.cores.load)
    raw = wire.request("GET", f"/buttons?count={wanted}")
    buttons = wire.fetch(place.double, raw, _SETTLE_LIMIT).json()
    wait_until_idle(gateway.worker, _SETTLE_LIMIT)
    numbered = Load(gateway.port, 200)
    presses = (
        traffic.press(_WEBHOOK, place.credentials, numbered.first_number + index, button)
        for index, button in enumerate(buttons)
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
    what, worker = contender.make(seconds), contender.server.worker
    before = cpu_seconds(worker)
    done = load.run(what, place.cores.load)
    # What goes on after the answers would be counted against whoever is next.
    wait_until_idle(worker, _SETTLE_LIMIT)
    return Turn(done.rate, (cpu_seconds(worker) - before) / done.answers * 1e6)


def _ratio(turns: Turns, name: str, other: str) -> float:
    """The median over the rounds of what one did for each one that the other did."""
    pairs = zip(turns[name], turns[other], strict=True)
    return statistics.median(one.rate / two.rate for one, two in pairs)


def _rows(turns: Turns, judged: Mapping[str, tuple[Budget, ...]]) -> tuple[Row, ...]:
    return tuple(
        Row(name, _value(some), _ratio(turns, name, BARE), judged.get(name, ()))
        for name, some in turns.items()
    )


def _value(turns: Sequence[Turn]) -> str:
    rate = statistics.median(turn.rate for turn in turns)
    cpu = statistics.median(turn.cpu for turn in turns)
    return f"{rate:,.0f}/s, {cpu:,.0f} µs CPU"
