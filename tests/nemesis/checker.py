"""The checker: from the facts of a run to what was not kept; pure, so that it can be tested itself."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tests.nemesis.evidence import FINAL, SAYING, Evidence, chats_with_sends
from tests.nemesis.facts import TOO_LATE, Act, Call, Facts, Reply, Row
from tests.nemesis.plan import OF_DATABASE, OF_SERVERS, Kind, Plan

LATE = 5.0
"""Seconds after its deadline in which a task must be finished."""

IN_FLIGHT = 0.5
"""Seconds after a 429 in which a call may arrive that was on its way already."""

SOON = 5.0
"""Seconds between floods of two chats that mean the whole bot (docs/explanation/durability.md)."""

SLACK = 0.05
"""Seconds that two measurements of one moment may differ."""


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that was not kept.

    Attributes:
        rule: its name, as in the docs.
        words: which task, what was seen.
    """

    rule: str
    words: str

    def __str__(self) -> str:
        return f"[{self.rule}] {self.words}"


Rule = Callable[[Evidence], Iterator[str]]


def violations(plan: Plan, facts: Facts) -> list[Violation]:
    """Everything that was not kept in a run, rule by rule."""
    evidence = Evidence(plan, facts)
    return [Violation(name, words) for name, rule in RULES.items() for words in rule(evidence)]


# Tasks


def one_task(evidence: Evidence) -> Iterator[str]:
    """Every acknowledged POST has exactly one task."""
    for marker in evidence.planned:
        ids = {each.told.id for each in evidence.exchanges(marker) if each.told}
        rows = [row.id for row in evidence.rows(marker)]
        if len(ids) > 1:
            yield f"{marker} was acknowledged as {len(ids)} tasks: {', '.join(sorted(ids))}."
        if len(rows) > 1:
            yield f"{marker} has {len(rows)} rows: {', '.join(rows)}."
        for lost in sorted(ids - set(rows)):
            yield f"{marker} was acknowledged as {lost}, and that task does not exist."


def every_service_is_answered(evidence: Evidence) -> Iterator[str]:
    """A service that insists is told how its task ended, and is refused by nobody."""
    for marker in evidence.facts.gave_up:
        seen = [_seen(each.status, each.code) for each in evidence.exchanges(marker)]
        last = ", ".join(seen[-5:])
        yield f"{marker} was asked for {len(seen)} times and its end was never told: … {last}."
    for each in evidence.facts.exchanges:
        if each.told is not None or each.status is None or not (400 <= each.status <= 500):
            continue
        rows = evidence.rows(each.marker)
        # A correction may be refused, but not once it has a task: the same key attaches to that.
        if each.code != TOO_LATE or rows:
            task = f", although it has {rows[0].id}" if rows else ""
            refused = f"{each.marker} was refused by server {each.server}{task}"
            yield f"{refused}: {each.method} → {_seen(each.status, each.code)}."


def one_answer(evidence: Evidence) -> Iterator[str]:
    """One answer per question, the same at every waiter."""
    for marker in evidence.planned:
        told = {
            (each.told.state, each.told.reply)
            for each in evidence.exchanges(marker)
            # `unknown` alone may be corrected later.
            if each.told and each.told.state in FINAL - {"unknown"}
        }
        kept = {(row.state, row.reply) for row in evidence.rows(marker)}
        if len(told | kept) > 1 and told:
            words = "; ".join(sorted(f"{state} {_reply(reply)}" for state, reply in told))
            yield f"{marker} was told as {words}; its row says {kept or 'nothing'}."
    for row in evidence.facts.rows:
        decisions = [step for step in evidence.steps(row) if step.what == "answered"]
        if len(decisions) > 1 or row.answers > 1:
            yield f"{evidence.name(row)} was decided {max(len(decisions), row.answers)} times."


def in_time(evidence: Evidence) -> Iterator[str]:
    """No task is unfinished more than five seconds after its deadline, dark times aside."""
    for row in evidence.facts.rows:
        finished = evidence.finished_at(row)
        until = evidence.facts.ended if finished is None else finished
        late = until - row.expires_at - LATE
        if late > 0 and late > evidence.dark(row.expires_at, until):
            how = f"ended {late + LATE:.1f} s after it" if finished else f"is still {row.state}"
            yield f"{evidence.name(row)} had its deadline and {how}: {_story(evidence, row)}."
        elif finished is None:
            yield f"{evidence.name(row)} is stuck as {row.state}: {_story(evidence, row)}."


# Telegram


def sent_once(evidence: Evidence) -> Iterator[str]:
    """A message is tried once; what may be repeated is tried again only when the outcome was unclear."""
    for row in evidence.facts.rows:
        if row.kind not in SAYING:
            continue
        tries = [call for call in evidence.sends(row) if call.done_or_unclear]
        copies = evidence.copies(row)
        planned = evidence.planned.get(row.marker or "")
        if planned is None or not planned.repeatable:
            if max(len(tries), len(copies)) > 1:
                seen = f"{len(tries)} calls ({_calls(tries)}) and {len(copies)} copies in the chat"
                yield f"{evidence.name(row)} was sent more than once: {seen}."
            continue
        for first, second in itertools.pairwise(tries):
            if first.status == 200 and not evidence.disturbed(first.at, second.at):
                yield f"{evidence.name(row)} was sent again without need: {_calls((first, second))}."
        if len(copies) > len(tries):
            yield f"{evidence.name(row)} stands in the chat {len(copies)} times after {len(tries)} calls."


def honest(evidence: Evidence) -> Iterator[str]:
    """`sent` means that it happened, `failed` that it did not."""
    for row in evidence.facts.rows:
        happened = _happened(evidence, row)
        if row.state in {"sent", "answered"} and not happened:
            yield f"{evidence.name(row)} is {row.state}, and Telegram never did it: {_story(evidence, row)}."
        if row.state == "failed" and happened:
            yield f"{evidence.name(row)} is failed, and Telegram did it: {_story(evidence, row)}."
        there = {copy.message for copy in evidence.copies(row)} if row.kind in SAYING else set()
        invented = set(row.message_ids) - there if row.kind in SAYING else set()
        if invented:
            yield f"{evidence.name(row)} names messages {sorted(invented)} that are not its own."


def unclear(evidence: Evidence) -> Iterator[str]:
    """`unknown` is said of what Telegram was asked for, or what a disturbed server had in its hands."""
    for row in evidence.facts.rows:
        if row.state != "unknown" or evidence.was_asked_for(row):
            continue
        begun = next((step.at for step in evidence.steps(row)), row.created_at)
        until = evidence.finished_at(row) or evidence.facts.ended
        # An outage of Telegram excuses nothing: what could not be connected is known not to be sent.
        if not evidence.disturbed(begun, until, OF_SERVERS | OF_DATABASE):
            yield f"{evidence.name(row)} is unknown, and Telegram was never asked: {_story(evidence, row)}."


def in_order(evidence: Evidence) -> Iterator[str]:
    """In a chat, what was acknowledged before the next was asked for is tried before it."""
    for sends in chats_with_sends(evidence):
        earliest, first = math.inf, ""
        for task, _number in reversed(sends):
            exchanges = evidence.exchanges(task.marker)
            asked = min((each.begun for each in exchanges), default=-math.inf)
            if earliest < asked:
                gap = asked - earliest
                yield (
                    f"In chat {task.chat}, {task.marker} was tried before {first}, which had been "
                    f"acknowledged {gap:.2f} s before {task.marker} was asked for."
                )
            acknowledged = min((each.ended for each in exchanges if each.told), default=math.inf)
            if acknowledged < earliest:
                earliest, first = acknowledged, task.marker


def patient(evidence: Evidence) -> Iterator[str]:
    """No call to a chat before the `retry_after` of a 429; two chats flooded are the whole bot."""
    floods: dict[int, Call] = {}
    whole_bot: Call | None = None
    for call in evidence.facts.calls:
        if call.chat is None:
            continue
        for why, flood in (("this chat", floods.get(call.chat)), ("the whole bot", whole_bot)):
            if flood is not None and IN_FLIGHT < call.at - flood.at < flood.retry_after - SLACK:
                told = f"call {flood.number} to {flood.chat} was told to wait {flood.retry_after} s for {why}"
                yield (
                    f"Call {call.number} ({call.method} to {call.chat}, {call.marker}) came "
                    f"{call.at - flood.at:.2f} s after {told}."
                )
                break
        if call.retry_after:
            others = [each for chat, each in floods.items() if chat != call.chat and call.at - each.at < SOON]
            whole_bot = call if others else whole_bot
            floods[call.chat] = call


def closed(evidence: Evidence) -> Iterator[str]:
    """A question that is over has no buttons in the chat."""
    states = {row.marker: row for row in evidence.facts.rows if row.kind == Kind.QUESTION}
    for standing in evidence.facts.standing:
        row = states.get(standing.marker)
        if row is not None and standing.has_buttons and row.state in {"answered", "expired", "cancelled"}:
            known = standing.message in row.message_ids
            if known:
                yield f"{evidence.name(row)} is {row.state}; message {standing.message} still has buttons."


# People


def one_effect(evidence: Evidence) -> Iterator[str]:
    """Every update that was answered 200 has exactly one effect."""
    for update, steps in evidence.effects.items():
        if update not in evidence.acts:
            yield f"Update {update}, which Telegram never had, made {steps[0].what} of {steps[0].task}."
    for act in evidence.facts.acts:
        yield from _EFFECTS[act.kind](evidence, act)


def _press(evidence: Evidence, act: Act) -> Iterator[str]:
    effects = evidence.effects.get(act.update, ())
    if len(effects) > 1:
        yield f"{_act(act)} had {len(effects)} effects: {', '.join(step.what for step in effects)}."
    yield from _counted(evidence, act)


def _words(evidence: Evidence, act: Act) -> Iterator[str]:
    effects = evidence.effects.get(act.update, ())
    replies = evidence.replies.get((act.chat, act.message), ())
    if len(effects) > 1 or len(replies) > 1:
        yield f"{_act(act)} had {len(effects)} effects and {len(replies)} replies."
    yield from _counted(evidence, act)


def _command(evidence: Evidence, act: Act) -> Iterator[str]:
    replies = evidence.replies.get((act.chat, act.message), ())
    wanted = 1 if act.update in evidence.taken_at else min(1, len(replies))
    if len(replies) != wanted:
        yield f"{_act(act)} was answered 200 and has {len(replies)} replies."


def _counted(evidence: Evidence, act: Act) -> Iterator[str]:
    """What a respondent said to an open question and what was answered 200 decides it, or came too late."""
    planned = evidence.planned.get(act.marker or "")
    rows = evidence.rows(act.marker or "")
    taken = evidence.taken_at.get(act.update)
    if planned is None or not rows or act.person not in planned.respondents or taken is None:
        return
    (row, *_) = rows
    over = evidence.finished_at(row)
    if row.state != "answered" and (over is None or taken < over - SLACK):
        yield f"{_act(act)} was answered 200 and lost: {evidence.name(row)} is {row.state}."


def only_respondents(evidence: Evidence) -> Iterator[str]:
    """A question is decided by what a respondent really said."""
    for row in evidence.facts.rows:
        if row.state != "answered":
            continue
        planned = evidence.planned.get(row.marker or "")
        said = [
            act
            for act in evidence.acts_on.get(row.marker, ())
            if row.reply == _reply_of(act) and planned is not None and act.person in planned.respondents
        ]
        if not said:
            yield f"{evidence.name(row)} was answered {_reply(row.reply)}, and no respondent said that."


# Logs and processes


def silent(evidence: Evidence) -> Iterator[str]:
    """No secret and no traceback in any log."""
    for mention in evidence.facts.mentions:
        yield f"{mention.log} has {mention.what}: {mention.excerpt}"


def alive(evidence: Evidence) -> Iterator[str]:
    """Servers start, live until they are stopped, and end with 0 when they are told to."""
    yield from evidence.facts.mishaps


RULES: Mapping[str, Rule] = {
    "one task": one_task,
    "every service is answered": every_service_is_answered,
    "one answer": one_answer,
    "in time": in_time,
    "sent once": sent_once,
    "honest": honest,
    "unclear": unclear,
    "in order": in_order,
    "patient": patient,
    "closed": closed,
    "one effect": one_effect,
    "only respondents": only_respondents,
    "silent": silent,
    "alive": alive,
}

_EFFECTS: Mapping[str, Callable[[Evidence, Act], Iterator[str]]] = {
    "press": _press,
    "words": _words,
    "command": _command,
}


# Words


def _happened(evidence: Evidence, row: Row) -> bool:
    if row.kind in SAYING:
        return bool(evidence.copies(row))
    if row.kind == Kind.EDIT:
        return evidence.was_edited(row)
    about = evidence.row_of.get(row.of or "")
    ids = about.message_ids if about is not None else ()
    return bool(ids) and all((row.chat, each) in evidence.deleted for each in ids)


def _reply_of(act: Act) -> Reply:
    if act.kind == "words":
        return Reply(text=act.said, by=act.person)
    return Reply(choice=act.said, by=act.person)


def _reply(reply: Reply | None) -> str:
    if reply is None:
        return "without an answer"
    return f"“{reply.choice or reply.text}” by {reply.by or 'nobody'}"


def _seen(status: int | None, code: str) -> str:
    return " ".join(filter(None, (str(status or "no response"), code)))


def _act(act: Act) -> str:
    return f"Update {act.update} ({act.kind} “{act.said}” of {act.person} on {act.marker or 'nothing'})"


def _calls(calls: Sequence[Call]) -> str:
    return ", ".join(f"call {call.number} at {call.at:.2f} → {call.status or 'unclear'}" for call in calls)


def _story(evidence: Evidence, row: Row) -> str:
    began = evidence.facts.began
    steps = ", ".join(f"{step.what} at {step.at - began:.1f} s" for step in evidence.steps(row))
    return f"created at {row.created_at - began:.1f} s, due at {row.expires_at - began:.1f} s; {steps}"
