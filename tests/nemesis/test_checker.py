"""The checker finds each kind of violation, and none where there is none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.nemesis.checker import RULES, violations
from tests.nemesis.facts import (
    Act,
    Call,
    Deed,
    Exchange,
    Facts,
    Fault,
    Mention,
    Post,
    Reply,
    Row,
    Standing,
    Step,
    Told,
    Uptime,
)
from tests.nemesis.plan import Database, Kind, Plan, PlannedChat, PlannedPress, PlannedTask, Torment

ADA, GRACE, STRANGER = 1, 2, 9
CHAT = -100
MESSAGE, QUESTION, EDIT, DELETION, LATER = (f"n00000{number}" for number in range(5))
YES = Reply(choice="yes", by=ADA)

PLAN = Plan(
    seed=1,
    database=Database.SQLITE,
    span=10.0,
    chats=(PlannedChat(CHAT, (ADA, GRACE, STRANGER)),),
    tasks=(
        PlannedTask(0, Kind.MESSAGE, CHAT, 0, 60, 1),
        PlannedTask(
            1, Kind.QUESTION, CHAT, 1, 60, 1, respondents=(ADA, GRACE), presses=(PlannedPress(0, ADA, "yes"),)
        ),
        PlannedTask(2, Kind.EDIT, CHAT, 2, 3600, 1, of=0),
        PlannedTask(3, Kind.DELETION, CHAT, 8, 3600, 1, of=4),
        PlannedTask(4, Kind.MESSAGE, CHAT, 7, 60, 1, resends=True),
    ),
    commands=(),
    faults=(),
)


def asked(marker: str, task: str, state: str, begun: float, reply: Reply | None = None) -> Exchange:
    return Exchange(marker, 0, "POST", begun, begun + 0.5, 200, "", Told(task, state, reply))


def steps(task: str, *whats: tuple[float, str]) -> tuple[Step, ...]:
    return tuple(Step(task, seq, at, what) for seq, (at, what) in enumerate(whats, 1))


SOUND = Facts(
    began=0.0,
    ended=100.0,
    exchanges=(
        asked(MESSAGE, "m", "sent", 0.0),
        asked(QUESTION, "q", "asked", 1.0),
        asked(QUESTION, "q", "answered", 4.0, YES),
        asked(EDIT, "e", "sent", 2.0),
        asked(LATER, "l", "sent", 7.0),
        asked(DELETION, "d", "sent", 8.0),
    ),
    calls=(
        Call(1, 0.1, "sendMessage", CHAT, MESSAGE, 200),
        Call(2, 1.1, "sendMessage", CHAT, QUESTION, 200),
        Call(3, 2.1, "editMessageText", CHAT, EDIT, 200),
        Call(4, 5.1, "sendMessage", CHAT, None, 200, reply_to=77),
        Call(5, 7.1, "sendMessage", CHAT, LATER, 200),
        Call(6, 8.1, "deleteMessage", CHAT, None, 200),
    ),
    deeds=(
        Deed("sent", 0.1, CHAT, 11, MESSAGE),
        Deed("sent", 1.1, CHAT, 12, QUESTION),
        Deed("edited", 2.1, CHAT, 11, EDIT),
        Deed("sent", 5.1, CHAT, 13, None, reply_to=77),
        Deed("sent", 7.1, CHAT, 14, LATER),
        Deed("deleted", 8.1, CHAT, 14, LATER),
    ),
    acts=(
        Act("press", 501, 3.0, ADA, CHAT, 12, QUESTION, "yes"),
        Act("press", 502, 4.0, GRACE, CHAT, 12, QUESTION, "no"),
        Act("command", 503, 5.0, GRACE, CHAT, 77, None, "/whoami"),
    ),
    posts=(Post(501, 3.0, None), Post(501, 3.1, 200), Post(502, 4.1, 200), Post(503, 5.1, 200)),
    rows=(
        Row("m", "message", "sent", CHAT, 0.0, 60.0, MESSAGE, message_ids=(11,)),
        Row("q", "question", "answered", CHAT, 1.0, 61.0, QUESTION, None, (12,), YES, 1, closed=True),
        Row("e", "edit", "sent", CHAT, 2.0, 3600.0, EDIT, "m"),
        Row("l", "message", "sent", CHAT, 7.0, 67.0, LATER, message_ids=(14,)),
        Row("d", "deletion", "sent", CHAT, 8.0, 3600.0, DELETION, "l"),
        Row("r", "message", "sent", CHAT, 5.0, 3600.0, None, message_ids=(13,), reply_to=77),
    ),
    steps=(
        *steps("m", (0.0, "sending"), (0.2, "sent")),
        *steps("q", (1.0, "sending"), (1.2, "asked")),
        Step("q", 3, 3.05, "answered", ADA, 501),
        *steps("e", (2.0, "sending"), (2.2, "sent")),
        *steps("l", (7.0, "sending"), (7.2, "sent")),
        *steps("d", (8.0, "sending"), (8.2, "sent")),
        *steps("r", (5.0, "sending"), (5.2, "sent")),
    ),
    standing=(
        Standing(CHAT, 11, MESSAGE, has_buttons=False),
        Standing(CHAT, 12, QUESTION, has_buttons=False),
    ),
    uptimes=(Uptime(0, -1.0, 100.0),),
)

Planting = Callable[[Facts], Facts]


def row(facts: Facts, task: str, **changes: Any) -> Facts:
    rows = tuple(replace(each, **changes) if each.id == task else each for each in facts.rows)
    return replace(facts, rows=rows)


def more(name: str, *items: Any) -> Planting:
    """One more of something."""

    def plant(facts: Facts) -> Facts:
        changed: dict[str, Any] = {name: (*getattr(facts, name), *items)}
        return replace(facts, **changed)

    return plant


def without(name: str, *indexes: int) -> Planting:
    """Some of something are missing."""

    def plant(facts: Facts) -> Facts:
        kept = tuple(each for at, each in enumerate(getattr(facts, name)) if at not in indexes)
        changed: dict[str, Any] = {name: kept}
        return replace(facts, **changed)

    return plant


def with_row(task: str, **changes: Any) -> Planting:
    """A row says something else."""
    return lambda facts: row(facts, task, **changes)


def with_step(task: str, what: str, at: float) -> Planting:
    """A task's end was at another time."""

    def plant(facts: Facts) -> Facts:
        found = tuple(
            replace(step, at=at) if step.task == task and step.what == what else step for step in facts.steps
        )
        return replace(facts, steps=found)

    return plant


def both(*plantings: Planting) -> Planting:
    """Several things at once."""

    def plant(facts: Facts) -> Facts:
        for each in plantings:
            facts = each(facts)
        return facts

    return plant


def flood(number: int, at: float, chat: int, seconds: int) -> Call:
    return Call(number, at, "sendMessage", chat, None, 429, seconds)


OTHER = Call(8, 20.0, "sendMessage", CHAT - 1, None, 200)
FAILED = {"state": "failed", "message_ids": ()}

PLANTED: list[tuple[str, str, Planting]] = [
    ("a second task", "one task", more("rows", replace(SOUND.rows[0], id="m2"))),
    ("a task that vanished", "one task", without("rows", 3)),
    ("two ids for one key", "one task", more("exchanges", asked(MESSAGE, "m2", "sent", 3.0))),
    ("a service that gave up", "every service is answered", more("gave_up", MESSAGE)),
    (
        "a server error",
        "every service is answered",
        more("exchanges", Exchange(MESSAGE, 0, "POST", 1.0, 1.1, 500, "internal")),
    ),
    (
        "a key that no longer leads to its correction",
        "every service is answered",
        more("exchanges", Exchange(EDIT, 0, "PATCH", 9.0, 9.1, 409, "already_final")),
    ),
    (
        "another answer for another waiter",
        "one answer",
        more("exchanges", asked(QUESTION, "q", "answered", 6.0, Reply("no", by=GRACE))),
    ),
    (
        "another end for another waiter",
        "one answer",
        more("exchanges", asked(QUESTION, "q", "expired", 6.0)),
    ),
    ("a second decision", "one answer", more("steps", Step("q", 4, 4.0, "answered", GRACE, 502))),
    ("a question whose deadline was forgotten", "in time", with_step("q", "answered", 66.5)),
    ("a task that is never finished", "in time", both(with_row("m", state="sending"), without("steps", 1))),
    (
        "a task that is stuck before its deadline",
        "in time",
        both(with_row("e", state="sending"), without("steps", 6)),
    ),
    (
        "a message that was tried twice",
        "sent once",
        more("calls", Call(7, 9.0, "sendMessage", CHAT, MESSAGE, 200)),
    ),
    (
        "a message that was tried again after an unclear outcome",
        "sent once",
        more("calls", Call(7, 9.0, "sendMessage", CHAT, MESSAGE, 500)),
    ),
    ("a message that stands there twice", "sent once", more("deeds", Deed("sent", 9, CHAT, 15, MESSAGE))),
    (
        "a reply of the gateway that was said twice",
        "sent once",
        more("calls", Call(7, 9.0, "sendMessage", CHAT, None, 200, reply_to=77)),
    ),
    (
        "a question that was asked again without need",
        "sent once",
        more("calls", Call(7, 9.0, "sendMessage", CHAT, QUESTION, 200)),
    ),
    (
        "a message that was sent again without need, although it might be",
        "sent once",
        more("calls", Call(7, 9.0, "sendMessage", CHAT, LATER, 200)),
    ),
    (
        "a question that stands there too often",
        "sent once",
        more("deeds", Deed("sent", 9, CHAT, 15, QUESTION)),
    ),
    ("sent, and never there", "honest", without("deeds", 0)),
    ("answered, and never asked", "honest", without("deeds", 1)),
    ("edited, and never changed", "honest", without("deeds", 2)),
    ("a reply that was never said", "honest", without("deeds", 3)),
    ("deleted, and still there", "honest", without("deeds", 5)),
    ("failed, and there", "honest", with_row("m", **FAILED)),
    ("an edit that failed, and was made", "honest", with_row("e", state="failed")),
    (
        "unknown, and never asked for",
        "unclear",
        both(with_row("m", state="unknown", message_ids=()), without("calls", 0), without("deeds", 0)),
    ),
    (
        "an edit that is unknown, and was refused",
        "unclear",
        both(
            with_row("e", state="unknown"),
            without("calls", 2),
            more("calls", Call(3, 2.1, "editMessageText", CHAT, EDIT, 400)),
        ),
    ),
    (
        "a deletion that is unknown, while Telegram was away",
        "unclear",
        both(
            with_row("d", state="unknown"),
            without("calls", 5),
            more("faults", Fault(Torment.DOWN, 8.0, 9.0)),
        ),
    ),
    ("a foreign message", "honest", with_row("l", message_ids=(14, 99))),
    (
        "a message that overtook an earlier one",
        "in order",
        lambda facts: replace(
            facts,
            calls=tuple(
                replace(call, number={1: 5, 5: 1}.get(call.number, call.number)) for call in facts.calls
            ),
        ),
    ),
    (
        "a call before retry_after",
        "patient",
        lambda facts: replace(facts, calls=(flood(0, 0.05, CHAT, 3), *facts.calls)),
    ),
    (
        "a call before the whole bot's pause was over",
        "patient",
        more("calls", flood(7, 16.0, CHAT, 9), flood(8, 18.0, CHAT - 2, 9), OTHER),
    ),
    (
        "buttons under a decided question",
        "closed",
        more("standing", Standing(CHAT, 12, QUESTION, has_buttons=True)),
    ),
    ("an effect of nothing", "one effect", more("steps", Step("q", 4, 3.5, "answer_refused", 5, 999))),
    ("two effects", "one effect", more("steps", Step("q", 4, 3.1, "copy_found", ADA, 501))),
    (
        "a lost answer",
        "one effect",
        both(
            with_row("q", state="expired", reply=None, answers=0),
            without("steps", 4),
            more("steps", Step("q", 3, 61.0, "expired")),
        ),
    ),
    ("a command without a reply", "one effect", without("rows", 5)),
    ("a command with two replies", "one effect", more("rows", replace(SOUND.rows[5], id="r2"))),
    ("a stranger's answer", "only respondents", with_row("q", reply=Reply("yes", by=STRANGER))),
    ("an answer that nobody gave", "only respondents", with_row("q", reply=Reply("no", by=ADA))),
    ("a secret", "silent", more("mentions", Mention("server-0.log", "the bot token", "…"))),
    ("a server that did not start", "alive", more("mishaps", "Server 0 was not ready within 60 s.")),
]


def found(facts: Facts) -> set[str]:
    return {violation.rule for violation in violations(PLAN, facts)}


def test_sound_facts_have_no_violation() -> None:
    assert violations(PLAN, SOUND) == []


@pytest.mark.parametrize(("rule", "plant"), [each[1:] for each in PLANTED], ids=[each[0] for each in PLANTED])
def test_a_planted_violation_is_found(rule: str, plant: Planting) -> None:
    assert rule in found(plant(SOUND))


def test_every_rule_has_a_planted_violation() -> None:
    assert {rule for _, rule, _ in PLANTED} == set(RULES)


KILLED = Fault(Torment.KILL, 8.5, 9.5, 0)

EXCUSED: dict[str, Planting] = {
    "unknown that became the truth": more("exchanges", asked(QUESTION, "q", "unknown", 3.0)),
    "a correction that is refused and has no task": both(
        without("rows", 2),
        without("exchanges", 3),
        more("exchanges", Exchange(EDIT, 0, "PATCH", 9.0, 9.1, 409, "already_final")),
    ),
    "a service that hung up, and one that was told to come back": more(
        "exchanges",
        Exchange(MESSAGE, 0, "POST", 1.0, 1.1, None, "hung up"),
        Exchange(MESSAGE, 0, "POST", 1.0, 1.1, 503, "storage_unavailable"),
    ),
    "a late end while no server was up": both(
        with_step("q", "answered", 70.0),
        without("uptimes", 0),
        more("uptimes", Uptime(0, -1.0, 60.0), Uptime(0, 69.0, 100.0)),
    ),
    "a late end while no server lived for longer than a moment": both(
        with_step("q", "answered", 70.0),
        without("uptimes", 0),
        more("uptimes", Uptime(0, -1.0, 60.0), *(Uptime(0, at, at + 0.7) for at in range(61, 70))),
    ),
    "a late end while the database was away": both(
        with_step("q", "answered", 70.0), more("faults", Fault(Torment.DATABASE_RESTART, 60.0, 68.0))
    ),
    "a message that was refused, and tried again": lambda facts: replace(
        facts, calls=(flood(0, -5.0, CHAT, 3), *facts.calls)
    ),
    "a question that was asked again after a kill": both(
        more("calls", Call(7, 9.0, "sendMessage", CHAT, QUESTION, 200)), more("faults", KILLED)
    ),
    "a question that was asked again after an unclear outcome": both(
        without("calls", 1),
        more(
            "calls",
            Call(2, 1.1, "sendMessage", CHAT, QUESTION, None),
            Call(7, 9.0, "sendMessage", CHAT, QUESTION, 200),
        ),
    ),
    "a message that was sent again after a kill, since it may be": both(
        more("calls", Call(7, 9.0, "sendMessage", CHAT, LATER, 200)), more("faults", KILLED)
    ),
    "unknown after an unclear outcome": both(
        with_row("m", state="unknown", message_ids=()),
        without("calls", 0),
        without("exchanges", 0),
        more("exchanges", asked(MESSAGE, "m", "unknown", 0.0)),
        more("calls", Call(1, 0.1, "sendMessage", CHAT, MESSAGE, None)),
    ),
    "unknown, since the server was killed before it could ask": both(
        with_row("e", state="unknown"),
        without("calls", 2),
        without("exchanges", 3),
        without("deeds", 2),
        with_step("e", "sent", 40.0),
        more("faults", KILLED),
    ),
    "a call that was on its way when the 429 came": more("calls", flood(7, 19.8, CHAT - 1, 9), OTHER),
    "a copy that nobody knows of": more("standing", Standing(CHAT, 99, QUESTION, has_buttons=True)),
    "an answer that was not taken yet": without("posts", 0, 1, 2),
    "an answer that came after the end": both(
        with_row("q", state="expired", reply=None, answers=0),
        without("exchanges", 2),
        without("steps", 4),
        more("steps", Step("q", 3, 2.9, "expired")),
    ),
}


@pytest.mark.parametrize("plant", EXCUSED.values(), ids=EXCUSED.keys())
def test_what_is_allowed_is_no_violation(plant: Planting) -> None:
    assert violations(PLAN, plant(SOUND)) == []
