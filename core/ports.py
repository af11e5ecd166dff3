"""What the core needs from the world, in the words of the trade. Adapters inherit nothing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from core.model.errors import TelegateError
from core.model.message import Format
from core.model.question import Style
from core.model.task import Change, Failure, Lease, Task, TaskKind, TaskState
from core.model.update import Effect, Lookup
from core.presentation.buttons import ButtonKey


class Clock(Protocol):
    """What time it is."""

    def now(self) -> datetime:
        """The time in UTC, with its zone, to the millisecond."""


@dataclass(frozen=True, slots=True)
class Idempotency:
    """An `Idempotency-Key` with its scope (service and route) and the fingerprint of the body.

    Source: draft-ietf-httpapi-idempotency-key-header-07.
    """

    service: str
    route: str
    key: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class TaskFilter:
    """Which of a service's tasks to list; None means any.

    Attributes:
        among: the chats of which tasks may be told at all.
        after: the id of the last task of the page before, or None for the first page.
        limit: at most this many, 1 to 200.
    """

    service: str
    state: TaskState | None = None
    kind: TaskKind | None = None
    chat: int | str | None = None
    among: frozenset[int | str] | None = None
    since: datetime | None = None
    after: str | None = None
    limit: int = 50


class TaskStore(Protocol):
    """The rows of tasks. Every method is one transaction; all raise `StorageUnavailable`."""

    async def add(
        self, task: Task, idempotency: Idempotency | None, refusal: TelegateError | None = None
    ) -> tuple[Task, bool]:
        """Store a task, or find the one that this key already made.

        A task that would be `sending` while an earlier one in its chat is not sent yet is stored as `queued`:
        a chat gets its messages in the order in which they were accepted.

        Args:
            task: as drafted.
            idempotency: the key that makes repeating it safe, or None.
            refusal: what is raised when this would make a new task.

        Returns:
            The stored task, and whether it is new.

        Raises:
            IdempotencyMismatch: the key was used with another body.
        """

    async def made_by(self, idempotency: Idempotency) -> Task | None:
        """The task that this key made, if it made one.

        Raises:
            IdempotencyMismatch: the key was used with another body.
        """

    async def amend(self, task_id: str, judge: Callable[[Task], Change | None]) -> Task | None:
        """Read a task, let `judge` decide on one step of it, store the step and its row of history.

        Nobody else changes the task in between. `judge` must be pure and quick; what it raises undoes
        the transaction and reaches the caller; None changes nothing.

        Returns:
            The task as it then stands, or None when there is no such task.
        """

    async def advance(self, known: Task, judge: Callable[[Task], Change | None]) -> Task | None:
        """Do what `amend` does with a task that is probably still as it is known here.

        That spares reading it. `judge` may be called twice: with what is known, and, when the task has moved
        on or the first judgement was None, with what its row says.
        """

    async def find(self, task_id: str, service: str | None = None) -> Task | None:
        """The task, if there is one (and it is this service's, when a service is named)."""

    async def page(self, wanted: TaskFilter) -> tuple[Sequence[Task], bool]:
        """A page of tasks, newest first, and whether there are more."""

    async def final_among(self, task_ids: Collection[str]) -> Sequence[str]:
        """Which of these tasks are final, in one query."""

    async def steps_among(self, task_ids: Collection[str]) -> Mapping[str, int]:
        """How many steps each of these tasks has made, in one query; what does not exist is left out."""


SENDING_GRACE = timedelta(seconds=2)
"""So long after its end a task may still be in the middle of a call to Telegram."""


class DeadlineStore(Protocol):
    """What is due, by the clock."""

    async def claim(self, now: datetime, lease: Lease, limit: int) -> Sequence[Task]:
        """Take queued tasks whose `not_before` has come; they come back as `sending`, with this lease.

        Of each chat only the first one that is not sent yet is taken, and of the services each as many as
        the others, as far as they have any.
        """

    async def claim_in(self, chat: int | str, now: datetime, lease: Lease) -> Task | None:
        """Take the first task of this chat that is not sent yet, when it is queued and due."""

    async def waiting(self) -> Mapping[str, int]:
        """How many tasks of each service are queued."""

    async def abandoned(self, now: datetime, lease: Lease, limit: int) -> Sequence[Task]:
        """Take tasks that are `sending` under a lease that has run out; they come back with this lease."""

    async def held(self, holder: str, until: datetime, limit: int) -> Sequence[Task]:
        """Tasks that are `sending` under a lease of this holder that ends by `until`, the oldest first.

        Without those that wait for their next try, after an unclear one.
        """

    async def overdue(self, now: datetime, limit: int) -> Sequence[str]:
        """Ids of `queued` tasks and of `asked` questions whose `expires_at` has come, oldest first.

        Behind these come tasks that are `sending` although their `expires_at` is over since `SENDING_GRACE`.
        """

    async def unclosed(self, before: datetime, limit: int) -> Sequence[Task]:
        """Questions decided before this time whose message does not show it yet."""

    async def next_deadline(self) -> datetime | None:
        """The earliest time at which something of the above comes due."""

    async def forget(self, now: datetime, finished_before: datetime, limit: int) -> int:
        """Delete finished tasks and what belongs to them; returns how many tasks went."""


class InboxStore(Protocol):
    """Updates and what they did, each exactly once."""

    async def receive(
        self, update_id: int, lookup: Lookup | None, judge: Callable[[Sequence[Task]], Effect]
    ) -> Effect | None:
        """Store an update together with its effect, in one transaction.

        `judge` gets the tasks that `lookup` finds, nobody else changes them meanwhile; it must be pure
        and quick.

        Returns:
            The effect, or None when this update was received before: then nothing is done.
        """

    async def quarantine(self, update_id: int | None, reason: str, raw: bytes) -> None:
        """Keep an update that cannot be read aside, with the reason; a second time does nothing."""


@dataclass(frozen=True, slots=True)
class Entity:
    """A piece of formatting; offset and length in UTF-16 units.

    Source: https://core.telegram.org/bots/api#messageentity
    """

    type: str
    offset: int
    length: int
    url: str | None = None
    language: str | None = None


@dataclass(frozen=True, slots=True)
class FormattedText:
    """At most 4,096 characters with their formatting, as Telegram takes them."""

    text: str
    entities: tuple[Entity, ...] = ()


class Formatter(Protocol):
    """Turns what a service wrote into what Telegram takes."""

    def format(self, text: str, markup: Format, *, reserve: int = 0) -> tuple[FormattedText, ...]:
        """Parse the markup and split what is too long for one Telegram message.

        Args:
            text: as the service wrote it.
            markup: the language it is written in.
            reserve: characters to keep free in the last part, for an outcome that comes later.

        Raises:
            Invalid: markup that Telegram would refuse, or no text at all; pointer `/text`, with its place.
        """


@dataclass(frozen=True, slots=True)
class Button:
    """One of Telegram's inline buttons: it opens `url` or sends `data` back."""

    text: str
    url: str | None = None
    data: str | None = None
    style: Style | None = None


Keyboard = tuple[tuple[Button, ...], ...]


@dataclass(frozen=True, slots=True)
class Part:
    """One Telegram message of a task; a long text needs several.

    Attributes:
        reply_to: the message id that it answers, or None.
        reply_required: whether Telegram shall refuse the message when what it answers is gone.
        keyboard: rows of buttons under it; empty for none.
    """

    body: FormattedText
    reply_to: int | None = None
    reply_required: bool = True
    keyboard: Keyboard = ()
    silent: bool = False
    protect: bool = False
    preview: bool = False


class NotReached(TelegateError):
    """Telegram was certainly not asked (DNS, connect, TLS), or said "later" (429); try again.

    Args:
        detail: what happened.
        retry_after: Telegram's own wait in seconds, when it named one.
        error_code: Telegram's number, when it answered.
        description: Telegram's words, when it answered.
    """

    code = "telegram_unavailable"

    def __init__(
        self,
        detail: str,
        *,
        retry_after: float | None = None,
        error_code: int | None = None,
        description: str | None = None,
    ) -> None:
        super().__init__(detail, retry_after=retry_after)
        self.failure = Failure(self.code, detail, error_code, description)


class Rejected(TelegateError):
    """Telegram said no, and would say so again.

    Attributes:
        failure: with Telegram's number and words, its code `telegram_rejected` or `recipient_unreachable`.
    """

    code = "telegram_rejected"

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.detail)
        self.failure = failure


class Migrated(TelegateError):
    """Nothing was done: this group has become a supergroup, and has to be called by its new id.

    Attributes:
        chat: the supergroup's id.
    """

    code = "telegram_rejected"

    def __init__(self, chat: int) -> None:
        super().__init__("This group has become a supergroup with another id.")
        self.chat = chat


class Unclear(TelegateError):
    """Bytes were written and no usable answer came: it may or may not have been done."""

    code = "outcome_unknown"


class Messenger(Protocol):
    """Telegram, as far as tasks need it.

    Every method raises `NotReached`, `Rejected`, `Migrated` or `Unclear`.
    """

    async def send(self, chat: int | str, topic: int | None, part: Part) -> int:
        """Send one message; returns Telegram's message id."""

    async def edit(self, chat: int | str, message_id: int, part: Part) -> None:
        """Give a message this text and these buttons (none: they go away); "not modified" is success."""

    async def delete(self, chat: int | str, message_id: int) -> None:
        """Take a message away."""

    async def strip(self, chat: int | str, message_id: int) -> None:
        """Take a message's buttons away and leave its text; one that has none, or is gone, is success."""

    async def acknowledge(self, press_id: str, text: str, *, popup: bool) -> None:
        """Answer a button's press, with at most 200 characters; a press that is too old is success."""


ANNOUNCED_FOR = 30.0
"""Seconds for which other processes hint at every step of a task that was announced as followed."""


class Waker(Protocol):
    """Carries hints between whoever changes tasks and whoever waits, in all processes."""

    @property
    def trouble(self) -> str | None:
        """Why the hints of other processes do not arrive, in a sentence; None when they do."""

    @property
    def dropped(self) -> int:
        """How many hints were never sent to other processes, since the start."""

    def hint(self, task_ids: Iterable[str]) -> None:
        """Say that these tasks may have changed. Never fails, never blocks; may get lost."""

    def hint_step(self, task_ids: Iterable[str]) -> None:
        """Say that these tasks have made a step that is not their last. Otherwise as `hint`.

        It reaches followers alone, and only those other processes where somebody follows the task.
        """

    def announce(self, task_ids: Iterable[str]) -> None:
        """Tell other processes that these tasks are followed here. Never fails, never blocks; may get lost.

        From shortly before they hear of it they hint at every step, for as long as `ANNOUNCED_FOR`; so it has
        to be said again.
        """

    def subscribe(
        self, wake: Callable[[Iterable[str]], None], wake_followers: Callable[[Iterable[str]], None]
    ) -> None:
        """Call these with the ids of every hint, in the serving loop.

        Args:
            wake: for hints at tasks that may be final.
            wake_followers: for hints at other steps.
        """

    async def missed(self) -> None:
        """Return as soon as hints may have been missed, or `trouble` has begun: look at the rows now.

        One caller at a time.
        """

    async def run(self) -> None:
        """Carry hints for as long as the process lives; return at once when that takes no work."""


@dataclass(frozen=True, slots=True)
class GatewayIdentity:
    """Which bot this process speaks for, and how its buttons are signed.

    Attributes:
        bot: the bot's numeric id, the part of the token before the colon.
        holder: this process, in leases.
        keys: the button keys; the last one signs.
    """

    bot: int
    holder: str
    keys: Sequence[ButtonKey]
