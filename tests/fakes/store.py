"""The three stores in one, in memory: what a database promises, and a few ways for it to be difficult."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Literal, TypeAlias

from core.jobs.chats import EVERY_CHAT, SOON, ChatNote
from core.model.errors import IdempotencyMismatch, StorageUnavailable, TelegateError
from core.model.message import Deletion, Edit
from core.model.question import Question
from core.model.task import (
    DECIDED_STATES,
    SUCCESSORS,
    Change,
    Failure,
    Lease,
    Task,
    TaskState,
)
from core.model.update import ByMessage, ByToken, Effect, Lookup, OpenQuestions
from core.ports import SENDING_GRACE, Idempotency, TaskFilter

Method: TypeAlias = Literal[
    "add", "amend", "find", "page", "final_among", "steps_among", "claim", "abandoned", "overdue",
    "unclosed", "held", "next_deadline", "forget", "receive", "quarantine", "claim_in", "waiting", "chats",
    "made_by",
]  # fmt: skip

KEY_LIFETIME = timedelta(hours=72)


class Forbidden(AssertionError):
    """Somebody stored what no task may do; a real database would not notice."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of history: a step of a task, and the state it came from (None for a new task)."""

    before: TaskState | None
    change: Change


@dataclass(slots=True)
class Held:
    """A call whose answer is held back: what it does is committed, and its caller does not know yet."""

    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    released: asyncio.Event = field(default_factory=asyncio.Event)


class MemoryStore:
    """The ports `TaskStore`, `DeadlineStore`, `InboxStore` and `ChatStore`.

    Every method is one transaction: between its first and last line nobody else gets a turn, and a judge
    that raises changes nothing. Steps that `SUCCESSORS` does not allow raise `Forbidden`.

    Attributes:
        down: whether every call raises `StorageUnavailable`.
        tasks: the rows, oldest first.
        history: every step of every task, in order.
        calls: how often each method was called.
        notes: what Telegram said about chats.
        set_aside: updates that could not be read, with the reason.
    """

    def __init__(self) -> None:
        self.down = False
        self.tasks: dict[str, Task] = {}
        self.history: list[Entry] = []
        self.calls: dict[Method, int] = {}
        self.set_aside: dict[int | bytes, tuple[str, bytes]] = {}
        self._keys: dict[tuple[str, str, str], tuple[str, str]] = {}
        self._updates: set[int] = set()
        self._held: dict[Method, list[Held]] = {}
        self._lost: set[Method] = set()
        self.notes: dict[int | str, ChatNote] = {}
        self._paused_at: dict[int | str, datetime] = {}

    def hold(self, method: Method) -> Held:
        """Hold the answer of the next call of this method back until it is released."""
        held = Held()
        self._held.setdefault(method, []).append(held)
        return held

    def lose(self, method: Method) -> None:
        """Let the next call of this method be committed, and its caller be told that it was not."""
        self._lost.add(method)

    def steps_of(self, task_id: str) -> list[str]:
        """What happened to a task, in the words of its history."""
        return [entry.change.what for entry in self.history if entry.change.task.id == task_id]

    # TaskStore

    async def add(
        self, task: Task, idempotency: Idempotency | None, refusal: TelegateError | None = None
    ) -> tuple[Task, bool]:
        """See `core.ports.TaskStore.add`."""
        async with self._transaction("add"):
            stored = self._made_by(idempotency)
            if stored is None:
                if refusal is not None:
                    raise refusal
                task = self._place(task)
                if idempotency is not None:
                    self._keys[_scope(idempotency)] = (idempotency.fingerprint, task.id)
        return (task, True) if stored is None else (stored, False)

    async def made_by(self, idempotency: Idempotency) -> Task | None:
        """See `core.ports.TaskStore.made_by`."""
        async with self._transaction("made_by"):
            return self._made_by(idempotency)

    async def amend(self, task_id: str, judge: Callable[[Task], Change | None]) -> Task | None:
        """See `core.ports.TaskStore.amend`."""
        async with self._transaction("amend"):
            task = self.tasks.get(task_id)
            change = None if task is None else judge(task)
            if change is not None:
                task = self._take(change)
        return task

    async def advance(self, known: Task, judge: Callable[[Task], Change | None]) -> Task | None:
        """See `core.ports.TaskStore.advance`."""
        if known == self.tasks.get(known.id):
            # As a database does that is lucky with its guess: the judge must not mind.
            judge(known)
        return await self.amend(known.id, judge)

    async def find(self, task_id: str, service: str | None = None) -> Task | None:
        """See `core.ports.TaskStore.find`."""
        async with self._transaction("find"):
            task = self.tasks.get(task_id)
        return task if task is not None and service in {None, task.service} else None

    async def page(self, wanted: TaskFilter) -> tuple[Sequence[Task], bool]:
        """See `core.ports.TaskStore.page`."""
        async with self._transaction("page"):
            found = [
                task for task in sorted(self.tasks.values(), key=_id, reverse=True) if _fits(task, wanted)
            ]
        return found[: wanted.limit], len(found) > wanted.limit

    async def final_among(self, task_ids: Collection[str]) -> Sequence[str]:
        """See `core.ports.TaskStore.final_among`."""
        async with self._transaction("final_among"):
            return [task_id for task_id in task_ids if task_id in self.tasks and self.tasks[task_id].final]

    async def steps_among(self, task_ids: Collection[str]) -> Mapping[str, int]:
        """See `core.ports.TaskStore.steps_among`."""
        async with self._transaction("steps_among"):
            return {task_id: self.tasks[task_id].steps for task_id in task_ids if task_id in self.tasks}

    # DeadlineStore

    async def claim(self, now: datetime, lease: Lease, limit: int) -> Sequence[Task]:
        """See `core.ports.DeadlineStore.claim`."""
        async with self._transaction("claim"):
            due = self._fairly(self._due(now))[:limit]
            return [self._take(Change.to_state(task.sending(now, lease))) for task in due]

    async def claim_in(self, chat: int | str, now: datetime, lease: Lease) -> Task | None:
        """See `core.ports.DeadlineStore.claim_in`."""
        async with self._transaction("claim_in"):
            due = [task for task in self._due(now) if task.chat.id == chat]
            return self._take(Change.to_state(due[0].sending(now, lease))) if due else None

    async def waiting(self) -> Mapping[str, int]:
        """See `core.ports.DeadlineStore.waiting`."""
        async with self._transaction("waiting"):
            return Counter(task.service for task in self._in(TaskState.QUEUED))

    async def abandoned(self, now: datetime, lease: Lease, limit: int) -> Sequence[Task]:
        """See `core.ports.DeadlineStore.abandoned`."""
        async with self._transaction("abandoned"):
            left = [task for task in self._in(TaskState.SENDING) if task.lease and task.lease.until <= now]
            return [self._take(Change(task.taken_over(lease), "taken_over")) for task in left[:limit]]

    async def held(self, holder: str, until: datetime, limit: int) -> Sequence[Task]:
        """See `core.ports.DeadlineStore.held`."""
        async with self._transaction("held"):
            sending = self._in(TaskState.SENDING)
            mine = [task for task in sending if task.lease and task.lease.holder == holder]
            return [
                task for task in mine if task.lease and task.lease.until <= until and task.not_before is None
            ][:limit]

    async def overdue(self, now: datetime, limit: int) -> Sequence[str]:
        """See `core.ports.DeadlineStore.overdue`."""
        async with self._transaction("overdue"):
            waiting = self._in(TaskState.QUEUED, TaskState.ASKED)
            over = sorted((task for task in waiting if task.expires_at <= now), key=_expires_at)
            since = now - SENDING_GRACE
            stuck = [task for task in self._in(TaskState.SENDING) if task.expires_at <= since]
            return [task.id for task in (*over[:limit], *stuck[:limit])]

    async def unclosed(self, before: datetime, limit: int) -> Sequence[Task]:
        """See `core.ports.DeadlineStore.unclosed`."""
        async with self._transaction("unclosed"):
            decided = [task for task in self._in(*DECIDED_STATES) if task.message_ids and not task.closed]
            return [task for task in decided if task.updated_at < before][:limit]

    async def next_deadline(self) -> datetime | None:
        """See `core.ports.DeadlineStore.next_deadline`."""
        async with self._transaction("next_deadline"):
            return min(self._deadlines(), default=None)

    async def forget(self, now: datetime, finished_before: datetime, limit: int) -> int:
        """See `core.ports.DeadlineStore.forget`; a task whose key is still kept stays."""
        async with self._transaction("forget"):
            kept = {task_id for _, task_id in self._keys.values()}
            old = [
                task
                for task in self.tasks.values()
                if task.final
                and task.updated_at < finished_before
                and (task.id not in kept or task.updated_at < now - KEY_LIFETIME)
            ][:limit]
            for task in old:
                del self.tasks[task.id]
            self._keys = {scope: made for scope, made in self._keys.items() if made[1] in self.tasks}
            return len(old)

    # InboxStore

    async def receive(
        self, update_id: int, lookup: Lookup | None, judge: Callable[[Sequence[Task]], Effect]
    ) -> Effect | None:
        """See `core.ports.InboxStore.receive`."""
        async with self._transaction("receive"):
            if update_id in self._updates:
                return None
            found = list(self._look_up(lookup))
            if not found and isinstance(lookup, ByMessage):
                found = list(self._look_up(OpenQuestions(lookup.chat)))
            effect = judge(found)
            for change in effect.changes:
                self._take(change)
            replies = tuple(self._place(reply) for reply in effect.replies)
            self._updates.add(update_id)
        return replace(effect, replies=replies)

    async def quarantine(self, update_id: int | None, reason: str, raw: bytes) -> None:
        """See `core.ports.InboxStore.quarantine`."""
        async with self._transaction("quarantine"):
            self.set_aside.setdefault(raw if update_id is None else update_id, (reason, raw))

    # ChatStore

    async def chat_notes(self, chats: Collection[int | str] | None) -> Sequence[ChatNote]:
        """See `core.jobs.chats.ChatStore.chat_notes`."""
        async with self._transaction("chats"):
            return [note for note in self.notes.values() if chats is None or note.chat in chats]

    async def pause_chat(self, chat: int | str, now: datetime, until: datetime) -> None:
        """See `core.jobs.chats.ChatStore.pause_chat`."""
        async with self._transaction("chats"):
            self._pause(chat, until)
            if any(now - at < SOON for other, at in self._paused_at.items() if other != chat):
                self._pause(EVERY_CHAT, until)
            self._paused_at[chat] = now

    async def keep_chat_unreachable(self, chat: int | str, until: datetime, failure: Failure) -> None:
        """See `core.jobs.chats.ChatStore.keep_chat_unreachable`."""
        async with self._transaction("chats"):
            self.notes[chat] = replace(self._note(chat), unreachable_until=until, failure=failure)

    async def forget_chat_unreachable(self, chat: int | str) -> None:
        """See `core.jobs.chats.ChatStore.forget_chat_unreachable`."""
        async with self._transaction("chats"):
            self.notes[chat] = replace(self._note(chat), unreachable_until=None, failure=None)

    async def move_chat(self, chat: int | str, to: int) -> None:
        """See `core.jobs.chats.ChatStore.move_chat`."""
        async with self._transaction("chats"):
            self.notes[chat] = replace(self._note(chat), migrated_to=to)

    # Inside

    def _note(self, chat: int | str) -> ChatNote:
        return self.notes.get(chat) or ChatNote(chat)

    def _pause(self, chat: int | str, until: datetime) -> None:
        note = self._note(chat)
        self.notes[chat] = replace(note, paused_until=max(until, note.paused_until or until))

    @asynccontextmanager
    async def _transaction(self, method: Method) -> AsyncIterator[None]:
        """A turn of one's own; others get theirs before it and between the commit and the answer."""
        self.calls[method] = self.calls.get(method, 0) + 1
        await asyncio.sleep(0)
        if self.down:
            raise StorageUnavailable("The database cannot be reached. Nothing was done.", retry_after=3)
        yield
        if self._held.get(method):
            held = self._held[method].pop(0)
            held.arrived.set()
            await held.released.wait()
        await asyncio.sleep(0)
        if method in self._lost:
            self._lost.discard(method)
            raise StorageUnavailable("The connection broke; nobody knows whether it was done.", retry_after=3)

    def _place(self, task: Task) -> Task:
        if task.state is TaskState.SENDING and any(_keeps_up(other, task) for other in self.tasks.values()):
            task = task.waits()
        self.tasks[task.id] = task
        self.history.append(Entry(None, Change.to_state(task, jti=task.jti)))
        return task

    def _due(self, now: datetime) -> list[Task]:
        """What is queued, due, and the first of its chat; the oldest first."""
        return sorted(
            (task for task in self._firsts() if _due_at(task) <= now < task.expires_at),
            key=_id,
        )

    def _firsts(self) -> Iterator[Task]:
        for task in self._in(TaskState.QUEUED):
            if not any(_keeps_up(other, task) and other.id < task.id for other in self.tasks.values()):
                yield task

    @staticmethod
    def _fairly(due: Sequence[Task]) -> list[Task]:
        """The first of each service, its questions first, then the second of each."""
        turns: Counter[str] = Counter()
        numbered: list[tuple[int, str, Task]] = []
        for task in sorted(due, key=lambda task: (not task.is_question, task.id)):
            turns[task.service] += 1
            numbered.append((turns[task.service], task.id, task))
        return [task for *_, task in sorted(numbered, key=lambda one: one[:2])]

    def _take(self, change: Change) -> Task:
        before = self.tasks[change.task.id]
        after = replace(change.task, steps=before.steps + 1)
        if before.state is not after.state and after.state not in SUCCESSORS[before.state]:
            raise Forbidden(f"{after.id} goes from {before.state} to {after.state}.")
        if before.decision is not None and before.decision != after.decision:
            raise Forbidden(f"{after.id} was decided, and is decided again.")
        self.tasks[after.id] = after
        self.history.append(Entry(before.state, change))
        return after

    def _made_by(self, idempotency: Idempotency | None) -> Task | None:
        made = None if idempotency is None else self._keys.get(_scope(idempotency))
        if idempotency is None or made is None:
            return None
        fingerprint, task_id = made
        if fingerprint != idempotency.fingerprint:
            raise IdempotencyMismatch("This key was used before with another body; use a new key.")
        return self.tasks[task_id]

    def _in(self, *states: TaskState) -> list[Task]:
        return [task for task in self.tasks.values() if task.state in states]

    def _deadlines(self) -> Iterator[datetime]:
        yield from map(_due_at, self._firsts())
        for task in self.tasks.values():
            if task.state is TaskState.SENDING and task.lease is not None:
                yield task.lease.until
                yield task.expires_at + SENDING_GRACE
            if task.state in {TaskState.QUEUED, TaskState.ASKED}:
                yield task.expires_at

    def _look_up(self, lookup: Lookup | None) -> Iterator[Task]:
        for task in reversed(list(self.tasks.values())):
            match lookup:
                case None:
                    found = False
                case ByToken():
                    found = task.token == lookup.token
                case ByMessage():
                    found = _owns(task, lookup)
                case _:
                    # What is queued may never have been in the chat: words cannot be meant for it.
                    visible = {TaskState.SENDING, TaskState.ASKED, TaskState.UNKNOWN}
                    open_now = task.state in visible and isinstance(task.content, Question)
                    found = open_now and task.chat.id == lookup.chat
            if found:
                yield task


def _scope(idempotency: Idempotency) -> tuple[str, str, str]:
    return idempotency.service, idempotency.route, idempotency.key


def _id(task: Task) -> str:
    return task.id


def _keeps_up(earlier: Task, later: Task) -> bool:
    """Whether one task in a chat has to be sent before another can be."""
    in_flight = earlier.state is TaskState.SENDING and earlier.not_before is None
    return earlier.chat.id == later.chat.id and (in_flight or earlier.state is TaskState.QUEUED)


def _due_at(task: Task) -> datetime:
    return task.not_before or task.created_at


def _expires_at(task: Task) -> datetime:
    return task.expires_at


def _owns(task: Task, lookup: ByMessage) -> bool:
    """Whether a message is this task's own; an edit or a deletion names the message of another."""
    if isinstance(task.content, Edit | Deletion):
        return False
    return task.chat.id == lookup.chat and lookup.message_id in task.message_ids


def _fits(task: Task, wanted: TaskFilter) -> bool:
    return (
        task.service == wanted.service
        and wanted.state in {None, task.state}
        and wanted.kind in {None, task.kind}
        and wanted.chat in {None, task.chat.id}
        and (wanted.among is None or task.chat.id in wanted.among)
        and (wanted.since is None or task.created_at >= wanted.since)
        and (wanted.after is None or task.id < wanted.after)
    )
