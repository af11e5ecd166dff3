"""What the core needs from the world, in the words of the trade. Adapters inherit nothing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from core.model.chat import ChatId, ChatNote
from core.model.cluster import Entry, Outage, Presence
from core.model.effect import Committed, Decision, UpdateDecision
from core.model.errors import TelegateError
from core.model.failure import Failure
from core.model.job import Job, Lease, Outcome
from core.model.lookup import Idempotency, Lookup, TaskFilter
from core.model.message import Format
from core.model.part import FormattedText, Part
from core.model.retry import RetryPolicy
from core.model.task import Progress, Task


class Clock(Protocol):
    """What time it is."""

    def now(self) -> datetime:
        """The time in UTC, with its zone, to the millisecond."""


class TaskStore(Protocol):
    """The rows of tasks. Every method is one transaction; all raise `StorageUnavailable`."""

    async def add(
        self,
        task: Task,
        jobs: Sequence[Job],
        *,
        lease: Lease | None,
        idempotency: Idempotency | None,
        refusal: TelegateError | None = None,
    ) -> Committed | Task:
        """Store a task with the jobs that follow from it, or find the one that this key already made.

        A job that is due begins in this process's hands when a lease is given and its lane is free; otherwise
        it waits. A task none of whose jobs has begun is stored as `queued`.

        Args:
            task: as made, `sending`.
            jobs: what must happen because of it.
            lease: for jobs that are due; None when they have to wait.
            idempotency: the key that makes repeating the request safe, or None.
            refusal: what is raised when this would make a new task.

        Returns:
            What was stored, or the task that this key made before.

        Raises:
            IdempotencyMismatch: the key was used with another body.
        """

    async def made_by(self, idempotency: Idempotency) -> Task | None:
        """The task that this key made, if it made one.

        Raises:
            IdempotencyMismatch: the key was used with another body.
        """

    async def change(self, task_id: str, decide: Decision, *, lease: Lease | None) -> Committed:
        """Read a task, decide, and store the effect; nobody else changes the task in between.

        What `decide` raises undoes the transaction and reaches the caller. It gets None for a task that does
        not exist.
        """

    async def find(self, task_id: str, service: str | None = None) -> Task | None:
        """The task, if there is one (and it is this service's, when a service is named)."""

    async def page(self, wanted: TaskFilter) -> tuple[Sequence[Task], bool]:
        """A page of tasks, newest first, and whether there are more."""

    async def progress(self, task_ids: Collection[str]) -> Mapping[str, Progress]:
        """How far each of these tasks has come, in one query; what does not exist is left out."""

    async def purge(self, now: datetime, finished_before: datetime, limit: int) -> int:
        """Delete finished tasks and what belongs to them, old updates too; returns how many tasks went."""


class JobStore(Protocol):
    """The queue's rows. Every method is one transaction; all raise `StorageUnavailable`."""

    async def claim(
        self,
        queue: str,
        at: datetime,
        lease: Lease,
        limit: int,
        claimed: Callable[[Job, Task | None], Decision],
        forgotten: datetime,
    ) -> Sequence[tuple[Job, Task | None]]:
        """Take jobs that are due, with the tasks that they are about.

        Of an ordered lane only the first job is taken, of a wide one as many as its width leaves, of a held
        one none; of each service as many as of the others, the urgent first. A job whose lease has run out
        is taken as well; one that another process had is `in_doubt` from then on, and has used an attempt.
        So is one that this very process holds and has forgotten (the answer of the database got lost when it
        was stored); that one is in no doubt.

        Args:
            queue: of this queue alone.
            at: the time.
            lease: for what is taken; the epoch is the store's to set.
            limit: at most this many.
            claimed: decides, for each job as it was before (with its former lease), what that changes.
            forgotten: leases of the same holder that end by then were not renewed.
        """

    async def claim_next(
        self,
        queue: str,
        lane: str,
        at: datetime,
        lease: Lease,
        claimed: Callable[[Job, Task | None], Decision],
    ) -> tuple[Job, Task | None] | None:
        """Take the first job of an ordered lane, when it is due and may run."""

    async def claim_expired(
        self, at: datetime, lease: Lease, limit: int
    ) -> Sequence[tuple[Job, Task | None]]:
        """Take jobs that are to be given up: `expires_at` is over, of a running one for `EXPIRY_GRACE`.

        A running one is taken from its holder, and is `in_doubt` from then on.
        """

    async def renew(self, jobs: Sequence[Job], until: datetime) -> Collection[int]:
        """Make the leases of these jobs longer; returns the ids of those that still are their holder's."""

    async def record(self, job: Job, known: Task | None, decide: Decision, lease: Lease) -> Committed:
        """Store a step in the middle of a job, and make its lease longer.

        Args:
            job: as its holder knows it.
            known: the task as it was read last, which spares reading it when it has not changed since.
            decide: what the step changes; may be called again with the row as it is.
            lease: the job's lease from now on, and that of jobs that follow.

        Returns:
            What was stored, even when the lease was lost; it tells so.
        """

    async def complete(
        self, job: Job, known: Task | None, decide: Decision, *, lease: Lease | None, proof: bool = False
    ) -> Committed | None:
        """Store a job's outcome, and take the job away.

        Args:
            job: as its holder knows it.
            known: as for `record`.
            decide: what the outcome changes.
            lease: for jobs that follow and are due.
            proof: whether the effect is stored even when the lease was lost.

        Returns:
            What was stored; None when nothing was, because the lease was lost.
        """

    async def retry(self, job: Job, known: Task | None, decide: Decision) -> Committed | None:
        """Let a job wait for its next attempt; None, and nothing is done, when the lease was lost.

        When a job of the same key waits already, this one goes away instead.

        Args:
            job: with the `run_at`, `attempts` and `in_doubt` that it shall have, and its old lease.
            known: as for `record`.
            decide: what that changes.
        """

    async def put(self, jobs: Sequence[Job]) -> None:
        """Store jobs that no task or update causes, as waiting ones; a waiting one of the same key stays."""

    async def hold(self, queue: str, lane: str, at: datetime, until: datetime) -> None:
        """Let nothing of this lane run before this time.

        When another lane of the queue was told to wait within `core.jobs.limits.SOON`, the whole queue waits:
        until the earlier of the two ends.
        """

    async def holds(self, queue: str, at: datetime) -> Mapping[str, datetime]:
        """Until when each lane of this queue is held; the empty name stands for the whole queue."""

    async def break_leases(self, at: datetime) -> int:
        """End all leases, for a process that has the database for itself; returns how many there were."""

    async def next_due(self, at: datetime) -> datetime | None:
        """The earliest time at which something can be claimed or has to be given up."""

    async def waiting(self, queue: str) -> Mapping[str, int]:
        """How many jobs of each service wait in this queue."""


class InboxStore(Protocol):
    """Updates and what they did, each exactly once."""

    async def receive(
        self, update_id: int, lookup: Lookup | None, decide: UpdateDecision, *, lease: Lease
    ) -> Committed | None:
        """Store an update together with its effect, in one transaction.

        `decide` gets the tasks that `lookup` finds; nobody else changes them meanwhile.

        Returns:
            What was stored, or None when this update was received before: then nothing is done.
        """

    async def quarantine(self, update_id: int | None, reason: str, raw: bytes) -> None:
        """Keep an update that cannot be read aside, with the reason; a second time does nothing."""


class ChatStore(Protocol):
    """What Telegram has said about chats. Every method is one transaction; all raise `StorageUnavailable`."""

    async def chat_notes(self, chats: Collection[ChatId] | None) -> Sequence[ChatNote]:
        """The notes about these chats, or about all."""

    async def keep_chat_unreachable(self, chat: ChatId, until: datetime, failure: Failure) -> None:
        """Telegram cannot reach this chat."""

    async def forget_chat_unreachable(self, chat: ChatId) -> None:
        """It may be reachable again."""

    async def move_chat(self, chat: ChatId, to: int) -> None:
        """This group has become that supergroup; its jobs move to the supergroup's lane."""


class HeartbeatStore(Protocol):
    """The row that all processes of one bot share. Raises `StorageUnavailable`."""

    async def beat(self, entry: Entry) -> tuple[Presence, Outage | None]:
        """Read the row (None: there is none yet), let `entry` decide what it becomes, and store that.

        An outage that `entry` tells is followed as by `reprompt`. All of it is one transaction, and nobody
        else changes the row meanwhile; `entry` is pure.
        """

    async def reprompt(self, outage: Outage) -> int:
        """Store a `reprompt` job for each question that stands in a chat; returns how many.

        One whose last step was to be asked again is left out: its message asks for another tap as it stands.
        """


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


class Messenger(Protocol):
    """Telegram, as far as tasks need it.

    Every method raises `NotDelivered`, `Rejected`, `Migrated` or `DeliveryUnknown`.
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


class Notifier(Protocol):
    """Carries hints between whoever changes tasks and whoever waits, in all processes.

    The row is the truth: a hint only says "look now", and losing one costs time, never an answer.
    """

    @property
    def trouble(self) -> str | None:
        """Why the hints of other processes do not arrive, in a sentence; None when they do."""

    @property
    def dropped(self) -> int:
        """How many hints were never sent to other processes, since the start."""

    def hint(self, task_ids: Iterable[str]) -> None:
        """Say that these tasks may have changed. Never fails, never blocks; may get lost."""

    def subscribe(self, wake: Callable[[Iterable[str]], None]) -> None:
        """Call this with the ids of every hint, in the serving loop."""

    async def missed(self) -> None:
        """Return as soon as hints may have been missed, or `trouble` has begun: look at the rows now.

        One caller at a time.
        """

    async def run(self) -> None:
        """Carry hints for as long as the process lives; return at once when that takes no work."""


class Run(Protocol):
    """One attempt at a job, as its handler sees it.

    Attributes:
        job: what is to be done.
        task: the task that it is about, as its row told last; None when its subject is no task.
    """

    job: Job
    task: Task | None

    async def record(self, decide: Decision) -> Task:
        """Store a step in the middle of the job; returns the task as it now stands.

        Raises:
            LeaseLost: somebody else has the job; what the step changes was stored all the same.
        """

    async def turn(self) -> None:
        """Wait until the job's lane may have one more call."""

    def moved(self, lane: str) -> None:
        """The job's lane has another name from now on, in the database, too."""


class Kind(Protocol):
    """How one kind of job is done. One file per kind in `core.jobs.kinds`."""

    @property
    def name(self) -> str:
        """As the job's row has it."""

    @property
    def retry(self) -> RetryPolicy:
        """When it is tried again."""

    async def run(self, run: Run) -> Outcome:
        """Do it once, and say what came of it."""

    def claimed(self, job: Job, at: datetime) -> Decision:
        """What taking the job changes. Pure; `job` is as it was, with the lease of whoever had it before."""

    def waits(self, job: Job, why: Failure | None, at: datetime) -> Decision:
        """What it changes that the job waits until `job.run_at`. Pure."""

    def repeats(self, task: Task | None) -> bool:
        """Whether it may be done again when nobody knows whether it was done."""

    def give_up(self, job: Job, why: Failure, at: datetime) -> Decision:
        """What becomes of its subject when the job is not tried again. Pure."""
