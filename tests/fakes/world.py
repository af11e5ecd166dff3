"""A world for gateways: one Telegram, one database, one clock, and processes that come and go.

world = World()
gateway = world.start()
task = await gateway.ask("Deploy?", wait=0)
await gateway.settled()
await gateway.press("Deploy", by=ADA)
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from core.inbox.feedback import Feedback
from core.inbox.inbox import Inbox
from core.jobs.alarm import Alarm
from core.jobs.chats import ChatBook
from core.jobs.kinds.delete import DeleteMessage
from core.jobs.kinds.edit import EditMessage
from core.jobs.kinds.expire import Expire
from core.jobs.kinds.finalize import Finalize
from core.jobs.kinds.purge import Purge
from core.jobs.kinds.reprompt import Reprompt
from core.jobs.kinds.send import Send
from core.jobs.limits import Backlog, Holds, Limits, RateLimiter
from core.jobs.runner import Runner
from core.jobs.scheduler import Scheduler
from core.model.identity import ButtonKey, GatewayIdentity
from core.model.job import TELEGRAM, TIMERS, Job
from core.model.lookup import Idempotency
from core.model.message import Edit, Message
from core.model.person import Person
from core.model.question import UNNAMED, Option, Question, Respondents, TextInput
from core.model.task import Task
from core.model.update import ButtonPressed, Carrier, CommandReceived, TextReceived
from core.policy.policy import CommandRule, PersonRole, Policy, Principal, ServiceGrant, ServiceRole
from core.ports import Kind
from core.services.factory import TaskFactory
from core.services.messages import MessageService
from core.services.questions import QuestionService
from core.services.tasks import Submission, TaskService
from core.waiting.room import WaitingRoom
from tests.fakes.clock import HandClock
from tests.fakes.formatter import PlainFormatter
from tests.fakes.messenger import ScriptedMessenger, Shown
from tests.fakes.notifier import PromptNotifier
from tests.fakes.store import MemoryStore

LONGEST_SEND: Final = 60.0
"""Seconds of the loop's time after which `settled` gives up."""

BOT: Final = 42
ADA: Final = Person(815, "Ada L.", "ada")
BEN: Final = Person(816, "Ben B.")
EVE: Final = Person(666, "Eve", "eve")
GROUP: Final = -1001234567890
CHANNEL: Final = "@announcements"

DEPLOY: Final = Option("deploy", "Deploy")
CANCEL: Final = Option("cancel", "Cancel")
YES_NO: Final = (DEPLOY, CANCEL)

KEYS: Final = (
    ButtonKey(1, b"an older key, thirty-two bytes.."),
    ButtonKey(2, b"the newest key, thirty-two byte."),
)

POLICY: Final = Policy.build(
    service_roles=[
        ServiceRole(
            "writer",
            frozenset(
                {
                    "POST /v1/messages",
                    "PATCH /v1/messages/{id}",
                    "DELETE /v1/messages/{id}",
                    "POST /v1/questions",
                    "DELETE /v1/tasks/{id}",
                }
            ),
            frozenset({"*"}),
        ),
        ServiceRole("narrow", frozenset({"POST /v1/messages", "POST /v1/questions"}), frozenset({ADA.id})),
    ],
    services=[
        ServiceGrant("ci", frozenset({"writer", "narrow"})),
        ServiceGrant("billing", frozenset({"writer"})),
    ],
    person_roles=[PersonRole("operator", frozenset({"deploy"})), PersonRole("nobody")],
    commands=[CommandRule("deploy", "ci", "Deploys", "<environment>"), CommandRule("status", "ci")],
    chats={"ops": GROUP, "ada": ADA.id},
    people={ADA.id: frozenset({"operator"})},
)

CI: Final = Principal("ci", frozenset({"writer"}), "jti-of-ci")
NARROW_CI: Final = Principal("ci", frozenset({"narrow"}), "jti-of-ci")
BILLING: Final = Principal("billing", frozenset({"writer"}), "jti-of-billing")


def key(name: str, fingerprint: str = "same body", route: str = "POST /v1/questions") -> Idempotency:
    """An `Idempotency-Key` of the service `ci`."""
    return Idempotency("ci", route, name, fingerprint)


@dataclass(slots=True)
class World:
    """Everything that outlives a process.

    Attributes:
        policy: what gateways of this world see as the policy; may be replaced.
        kinds: further kinds of jobs that its processes know.
    """

    clock: HandClock = field(default_factory=HandClock)
    store: MemoryStore = field(init=False)
    messenger: ScriptedMessenger = field(default_factory=ScriptedMessenger)
    formatter: PlainFormatter = field(default_factory=PlainFormatter)
    notifier: PromptNotifier = field(default_factory=PromptNotifier)
    policy: Policy = POLICY
    kinds: tuple[Kind, ...] = ()
    _ids: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    _updates: itertools.count[int] = field(default_factory=lambda: itertools.count(9001))
    _holders: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def __post_init__(self) -> None:
        self.store = MemoryStore(self.clock, BOT)

    def start(self, rate: RateLimiter | None = None) -> Gateway:
        """Another process of the same gateway.

        Args:
            rate: limits its calls to Telegram; None for no limit.
        """
        clock, store, room = self.clock, self.store, WaitingRoom()
        self.notifier.subscribe(room.wake)
        identity = GatewayIdentity(BOT, f"process-{next(self._holders)}", KEYS)
        chats = ChatBook(store, shared=True)
        limits = Limits(
            rate or RateLimiter(0, lambda: asyncio.get_running_loop().time()),
            Holds(store, TELEGRAM, clock, shared=True, jitter=lambda: 0.0),
            Backlog(0),
        )
        alarm = Alarm(clock)
        runner = Runner(
            store=store,
            kinds={kind.name: kind for kind in (*self._kinds(identity, chats), *self.kinds)},
            limits={TELEGRAM: limits},
            notifier=self.notifier,
            clock=clock,
            alarm=alarm,
            holder=identity.holder,
        )
        queues = (TELEGRAM, TIMERS, *sorted({kind.name for kind in self.kinds}))
        scheduler = Scheduler(store=store, runner=runner, alarm=alarm, clock=clock, queues=queues)
        factory = TaskFactory(identity, clock, lambda: f"{next(self._ids):026d}")
        tasks = TaskService(store=store, room=room, runner=runner, clock=clock)
        feedback = Feedback(
            messenger=self.messenger,
            limits=limits,
            background=runner.background,
            clock=clock,
            precedence=0,
        )
        return Gateway(self, room, runner, scheduler, limits, chats, identity, factory, tasks, feedback)

    def _kinds(self, identity: GatewayIdentity, chats: ChatBook) -> tuple[Kind, ...]:
        messenger, formatter, clock, store = self.messenger, self.formatter, self.clock, self.store
        return (
            Send(messenger=messenger, formatter=formatter, chats=chats, identity=identity, clock=clock),
            EditMessage(
                messenger=messenger,
                formatter=formatter,
                chats=chats,
                identity=identity,
                clock=clock,
                tasks=store,
            ),
            DeleteMessage(
                messenger=messenger,
                formatter=formatter,
                chats=chats,
                identity=identity,
                clock=clock,
                tasks=store,
            ),
            Finalize(messenger=messenger, formatter=formatter, identity=identity, precedence=0),
            Reprompt(messenger=messenger, formatter=formatter, identity=identity, clock=clock),
            Expire(clock=clock),
            Purge(tasks=store, clock=clock, keep=timedelta(days=30)),
        )

    def next_update(self) -> int:
        """An `update_id` that Telegram has not used yet."""
        return next(self._updates)


@dataclass(slots=True)
class Gateway:
    """One process: its core, and shorthands for what services and people do."""

    world: World
    room: WaitingRoom
    runner: Runner
    scheduler: Scheduler
    limits: Limits
    chats: ChatBook
    identity: GatewayIdentity
    factory: TaskFactory
    tasks: TaskService
    feedback: Feedback
    username: str | None = "TelegateBot"

    @property
    def questions(self) -> QuestionService:
        """The use case of questions."""
        return QuestionService(
            policy=lambda: self.world.policy,
            formatter=self.world.formatter,
            factory=self.factory,
            tasks=self.tasks,
        )

    @property
    def messages(self) -> MessageService:
        """The use case of messages."""
        return MessageService(
            policy=lambda: self.world.policy,
            formatter=self.world.formatter,
            factory=self.factory,
            tasks=self.tasks,
        )

    @property
    def inbox(self) -> Inbox:
        """The use case of updates."""
        return Inbox(
            store=self.world.store,
            policy=lambda: self.world.policy,
            factory=self.factory,
            runner=self.runner,
            feedback=self.feedback,
            chats=self.chats,
            formatter=self.world.formatter,
            identity=self.identity,
            clock=self.world.clock,
            username=lambda: self.username,
        )

    # What services do

    async def ask(
        self,
        text: str = "Deploy?",
        *,
        chat: int | str = ADA.id,
        options: tuple[Option, ...] = YES_NO,
        written: TextInput | None = None,
        respondents: Respondents | None = None,
        on_expiry: str | None = None,
        expires_in: int = 3600,
        wait: float = 0.0,
        idempotency: Idempotency | None = None,
    ) -> Task:
        """The service `ci` asks something."""
        question = Question(
            Message(text),
            respondents=UNNAMED if respondents is None else respondents,
            options=options,
            input=written,
            on_expiry=on_expiry,
        )
        submission = Submission(CI, wait, idempotency)
        return await self.questions.ask(question, submission, chat=chat, expires_in=expires_in)

    async def tell(
        self,
        text: str = "Hello",
        *,
        chat: int | str = ADA.id,
        expires_in: int = 3600,
        wait: float = 0.0,
        idempotency: Idempotency | None = None,
    ) -> Task:
        """The service `ci` says something."""
        submission = Submission(CI, wait, idempotency)
        return await self.messages.send(Message(text), submission, chat=chat, expires_in=expires_in)

    async def correct(self, message: Task, text: str, *, wait: float = 0.0) -> Task:
        """The service `ci` gives a message another text."""
        return await self.messages.edit(message.id, Edit(text), Submission(CI, wait))

    async def withdraw(self, question: Task) -> Task:
        """The service `ci` takes a question back."""
        return await self.tasks.cancel(question.id, CI, lambda _task: None)

    # What people do

    async def press(
        self,
        label: str,
        *,
        by: Person | None = ADA,
        under: Shown | None = None,
        chat: int | None = None,
        update_id: int | None = None,
    ) -> ButtonPressed:
        """Somebody presses a button, under the last message or another; returns the update."""
        shown = self.world.messenger.last if under is None else under
        data = next(button.data for button in shown.first_buttons if button.text == label)
        pressed = self.pressed(data or "", by=by, under=shown, chat=chat, update_id=update_id)
        await self.inbox.take(pressed)
        return pressed

    def pressed(
        self,
        data: str,
        *,
        by: Person | None = ADA,
        under: Shown | None = None,
        chat: int | None = None,
        update_id: int | None = None,
    ) -> ButtonPressed:
        """The update of a press with any data at all."""
        shown = self.world.messenger.last if under is None else under
        where = shown.chat if isinstance(shown.chat, int) else GROUP
        number = self.world.next_update() if update_id is None else update_id
        return ButtonPressed(
            number,
            f"press-{number}",
            by,
            where if chat is None else chat,
            shown.message_id,
            data,
            lambda: Carrier(BOT, tuple(button.data for button in shown.buttons if button.data)),
        )

    async def write(
        self,
        text: str,
        *,
        by: Person = ADA,
        chat: int | None = None,
        reply_to: int | None = None,
        replied_text: str | None = None,
    ) -> TextReceived:
        """Somebody writes something, in his or her own chat or another; returns the update."""
        where = by.id if chat is None else chat
        number = self.world.next_update()
        written = TextReceived(
            number,
            by,
            where,
            where == by.id,
            number + 50_000,
            text,
            reply_to=reply_to,
            replied_text=replied_text,
        )
        await self.inbox.take(written)
        return written

    async def command(
        self,
        name: str,
        *,
        by: Person = ADA,
        chat: int | None = None,
        text: str = "",
        addressed_to: str | None = None,
    ) -> CommandReceived:
        """Somebody sends a command; returns the update."""
        where = by.id if chat is None else chat
        number = self.world.next_update()
        sent = CommandReceived(
            number, by, where, where == by.id, number + 50_000, name, text, addressed_to=addressed_to
        )
        await self.inbox.take(sent)
        return sent

    # What a test needs

    def row(self, task: Task) -> Task:
        """The task as its row tells it now."""
        return self.world.store.tasks[task.id]

    def jobs_of(self, task: Task) -> list[Job]:
        """What still has to happen because of the task, oldest first."""
        return [job for job in self.world.store.jobs if job.subject == task.id]

    def is_closed(self, task: Task) -> bool:
        """Whether the task's message shows its outcome, and nothing is left to be done about that."""
        return "closed" in self.world.store.steps_of(task.id) and not self.jobs_of(task)

    def said(self) -> list[str]:
        """Every message that was asked to be sent, in order."""
        return [call.text for call in self.world.messenger.of("send")]

    async def settled(self) -> None:
        """Wait until nothing is being sent, edited or acknowledged any more."""
        while self.runner.background.running:
            _, late = await asyncio.wait(self.runner.background.running, timeout=LONGEST_SEND)
            assert not late, "Something is still being sent; a call that hangs has to be released first."

    async def pass_time(self, seconds: float) -> int:
        """Let time pass, do what has come due and let it end; returns how many things were due."""
        self.world.clock.advance(seconds)
        due = await self.scheduler.claim_due()
        await self.settled()
        return due

    async def sweep_room(self) -> None:
        """Look once for hints that got lost, as each process does every two seconds."""
        self.room.wake_unaware(await self.world.store.progress(self.room.task_ids))

    @asynccontextmanager
    async def scheduling(self) -> AsyncIterator[None]:
        """Let the scheduler run while the block lasts."""
        running = asyncio.create_task(self.scheduler.run())
        try:
            yield
            assert not running.done(), "The scheduler has stopped."
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await self.runner.stop(0)

    async def crash(self) -> None:
        """End as `kill -9` does: nothing more is sent or stored, and nobody is told."""
        running = list(self.runner.background.running)
        for work in running:
            work.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def until(true: Callable[[], bool], turns: int = 10_000) -> None:
    """Give the others turns until something is true.

    Raises:
        AssertionError: it did not become true in so many turns.
    """
    for _ in range(turns):
        if true():
            return
        await asyncio.sleep(0)
    raise AssertionError("It did not happen, though everybody had many turns.")


async def turns(number: int = 20) -> None:
    """Give everybody who is ready some turns, to show afterwards that something did not happen."""
    for _ in range(number):
        await asyncio.sleep(0)


async def ends(told: asyncio.Task[None]) -> bool:
    """Whether a task that was told to end does so, and as a cancelled one; if not, it is told again."""
    await turns()
    ended = told.cancelled()
    told.cancel()
    return ended
