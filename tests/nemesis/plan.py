"""The plan: a seed makes the whole schedule of tasks, answers and faults; pure, and shown by `--plan`."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import count, cycle, islice

PEOPLE = tuple(range(60_001, 60_013))
"""Everybody has started the bot."""

STRANGER = 60_099
"""A member of every group whom no question is for."""

MARKER = re.compile(r"\bn\d{6}\b")
"""What stands in the text of every task, so that the truth can be told apart by task."""

TASKS_A_SECOND = 12
ABANDONED = 0.05
"""The share of messages whose service asks once and never looks again."""

RESENT = 0.15
"""The share of messages that ask for `on_unknown: resend`."""

SECONDS_A_TORMENT = 4.0
"""What one torment of a server takes, with the new start and some time to breathe."""

SECONDS_A_TORMENT_IN_THE_LONG_RUN = 5.0
"""So that servers serve for most of it, and what is tortured is work that goes on."""

_LONG = 100
"""So many faults make a long run."""


class Kind(StrEnum):
    """What a service wants."""

    MESSAGE = "message"
    QUESTION = "question"
    EDIT = "edit"
    DELETION = "deletion"


class Database(StrEnum):
    """What the servers keep their rows in."""

    SQLITE = "sqlite"
    POSTGRESQL = "postgresql"

    @property
    def servers(self) -> int:
        """How many servers share it."""
        return 1 if self is Database.SQLITE else 2


class Torment(StrEnum):
    """What can be done to the world."""

    KILL = "kill"
    KILL_WORKER = "kill_worker"
    TERMINATE = "terminate"
    FREEZE = "freeze"
    DATABASE_LOCK = "database_lock"
    DATABASE_RESTART = "database_restart"
    DATABASE_CRASH = "database_crash"
    DATABASE_PAUSE = "database_pause"
    CONNECTIONS_KILLED = "connections_killed"
    FLOOD = "flood"
    ERROR = "error"
    RESET = "reset"
    HANG = "hang"
    NONSENSE = "nonsense"
    DOWN = "down"
    DUPLICATE_UPDATES = "duplicate_updates"
    REORDERED_UPDATES = "reordered_updates"


KILLS = (Torment.KILL, Torment.KILL_WORKER)
OF_SERVERS = frozenset({*KILLS, Torment.TERMINATE, Torment.FREEZE})
_OF_TELEGRAM = (
    Torment.FLOOD,
    Torment.ERROR,
    Torment.RESET,
    Torment.HANG,
    Torment.NONSENSE,
    Torment.DOWN,
    Torment.DUPLICATE_UPDATES,
    Torment.REORDERED_UPDATES,
)
_OF_DATABASE = {
    Database.SQLITE: (Torment.DATABASE_LOCK,),
    Database.POSTGRESQL: (
        Torment.DATABASE_RESTART,
        Torment.CONNECTIONS_KILLED,
        Torment.DATABASE_CRASH,
        Torment.DATABASE_PAUSE,
    ),
}
OF_DATABASE = frozenset(torment for torments in _OF_DATABASE.values() for torment in torments)
_MAY_BE_DONE = frozenset({Torment.ERROR, Torment.RESET, Torment.HANG})
_METHODS = (None, "sendMessage", "editMessageText", "answerCallbackQuery")


@dataclass(frozen=True, slots=True)
class PlannedChat:
    """A private chat or a group, with everybody who can press there."""

    id: int
    members: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PlannedPress:
    """Somebody answers a question.

    Attributes:
        delay: seconds after the question was seen.
        choice: the option's id; empty for an answer in words.
    """

    delay: float
    person: int
    choice: str


@dataclass(frozen=True, slots=True)
class PlannedTask:
    """One operation that a service asks for.

    Attributes:
        at: seconds after the beginning.
        of: number of the message that an edit or a deletion is about.
        wait: what the service prefers to be held, in seconds.
        copies: how many requests with the same key run side by side.
        vanishes: after how many seconds the first attempts of each copy hang up.
        abandoned: whether the service asks once and never looks again.
        resends: whether a message may be sent again when nobody knows whether it arrived.
        respondents: who may answer; nobody for what is no question.
    """

    number: int
    kind: Kind
    chat: int
    at: float
    expires_in: int
    wait: int
    copies: int = 1
    vanishes: tuple[float, ...] = ()
    abandoned: bool = False
    resends: bool = False
    of: int | None = None
    respondents: tuple[int, ...] = ()
    presses: tuple[PlannedPress, ...] = ()
    on_expiry: str | None = None

    @property
    def marker(self) -> str:
        """Its name in texts, keys and reports."""
        return marker(self.number)

    @property
    def repeatable(self) -> bool:
        """Whether its send may be repeated after an unclear outcome."""
        return self.kind is Kind.QUESTION or self.resends

    @property
    def written(self) -> bool:
        """Whether it is answered in words."""
        return any(not press.choice for press in self.presses)


@dataclass(frozen=True, slots=True)
class PlannedCommand:
    """Somebody sends `/whoami` to the bot."""

    at: float
    person: int


@dataclass(frozen=True, slots=True)
class PlannedFault:
    """Something that goes wrong.

    Attributes:
        at: seconds after the beginning.
        seconds: how long it lasts; for a flood, Telegram's `retry_after`.
        server: which one, for what happens to servers.
        chat: in which chat Telegram fails; None for all.
        method: of the Bot API that fails; None for all.
        times: how many calls, or updates, it meets.
        effect: whether Telegram does the work all the same.
        status: of an error.
    """

    number: int
    torment: Torment
    at: float
    seconds: float = 0.0
    server: int = 0
    chat: int | None = None
    method: str | None = None
    times: int = 1
    effect: bool = False
    status: int = 500


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that is going to be done, in the order of time.

    Attributes:
        span: seconds in which tasks and faults begin.
    """

    seed: int
    database: Database
    span: float
    chats: tuple[PlannedChat, ...]
    tasks: tuple[PlannedTask, ...]
    commands: tuple[PlannedCommand, ...]
    faults: tuple[PlannedFault, ...]

    @property
    def servers(self) -> int:
        """How many servers there are."""
        return self.database.servers


def marker(number: int) -> str:
    """The marker of the task with this number."""
    return f"n{number:06}"


def make_plan(seed: int, tasks: int, faults: int, database: Database, kills: int | None = None) -> Plan:
    """The schedule that this seed makes.

    Args:
        seed: any number.
        tasks: how many services ask for.
        faults: how many go wrong, the kills among them.
        database: decides how many servers there are and what can befall the database.
        kills: how many of the faults are `kill -9`; None for one in four.
    """
    dice = random.Random(f"{seed}/{database}")  # noqa: S311 - a schedule, no secret
    kills = faults // 4 if kills is None else kills
    torments = _torments(dice, faults, kills, database)
    of_servers = sum(torment in OF_SERVERS for torment in torments)
    is_long = faults > _LONG
    breath = SECONDS_A_TORMENT_IN_THE_LONG_RUN if is_long else SECONDS_A_TORMENT
    span = max(4.0, tasks / TASKS_A_SECOND, of_servers * breath / database.servers)
    chats = _chats()
    return Plan(
        seed=seed,
        database=database,
        span=round(span, 3),
        chats=chats,
        tasks=tuple(_tasks(dice, tasks, span, chats)),
        commands=tuple(_commands(dice, tasks // 20 + 1, span)),
        faults=tuple(_faults(dice, torments, span, chats, long=is_long)),
    )


def _chats() -> tuple[PlannedChat, ...]:
    private = [PlannedChat(person, (person,)) for person in PEOPLE[:6]]
    groups = [
        PlannedChat(-1_003_000_000_001 - number, (*PEOPLE[3 * number : 3 * number + 3], STRANGER))
        for number in range(4)
    ]
    return (*private, *groups)


# Tasks


def _tasks(
    dice: random.Random, how_many: int, span: float, chats: Sequence[PlannedChat]
) -> Iterator[PlannedTask]:
    times = sorted(round(dice.uniform(0, span), 3) for _ in range(how_many))
    correctable: list[PlannedTask] = []
    for number, at in enumerate(times):
        task = _task(dice, number, at, dice.choice(chats), correctable)
        if task.kind is Kind.MESSAGE and not task.abandoned:
            correctable.append(task)
        yield _mannered(dice, task)


def _task(
    dice: random.Random, number: int, at: float, chat: PlannedChat, correctable: list[PlannedTask]
) -> PlannedTask:
    kind = dice.choices(list(Kind), (55, 30, 10, 5))[0]
    if kind is Kind.QUESTION:
        return _question(dice, number, at, chat)
    if kind is Kind.MESSAGE or not correctable:
        return PlannedTask(
            number=number,
            kind=Kind.MESSAGE,
            chat=chat.id,
            at=at,
            expires_in=90,
            wait=dice.randint(1, 5),
            abandoned=dice.random() < ABANDONED,
            resends=dice.random() < RESENT,
        )
    about = correctable.pop(dice.randrange(len(correctable)))
    return PlannedTask(number, kind, about.chat, at, 3600, dice.randint(1, 5), of=about.number)


def _question(dice: random.Random, number: int, at: float, chat: PlannedChat) -> PlannedTask:
    respondents = chat.members[:1] if len(chat.members) == 1 else chat.members[: dice.randint(1, 2)]
    presses = tuple(_presses(dice, chat, respondents))
    return PlannedTask(
        number=number,
        kind=Kind.QUESTION,
        chat=chat.id,
        at=at,
        expires_in=60 if presses else dice.randint(6, 14),
        wait=dice.randint(1, 8),
        respondents=respondents,
        presses=presses,
        on_expiry=dice.choice(("no", None)),
    )


def _mannered(dice: random.Random, task: PlannedTask) -> PlannedTask:
    """How the service behaves: some hang up, some send the same request several times at once."""
    copies = dice.randint(2, 4) if dice.random() < 0.08 else 1
    hang_ups = dice.randint(1, 2) if dice.random() < 0.2 else 0
    return replace(
        task, copies=copies, vanishes=tuple(round(dice.uniform(0.005, 0.5), 3) for _ in range(hang_ups))
    )


def _presses(dice: random.Random, chat: PlannedChat, respondents: Sequence[int]) -> Iterator[PlannedPress]:
    """Nobody, one, everybody at once, a stranger first, twice, or in words."""
    if dice.random() < 0.15:
        return
    if len(chat.members) > 1 and dice.random() < 0.3:
        yield PlannedPress(round(dice.uniform(0, 0.5), 3), STRANGER, "yes")
    written = dice.random() < 0.2
    for person in respondents:
        delay = round(dice.uniform(0, 2), 3)
        for again in range(1 + (dice.random() < 0.3)):
            choice = "" if written else dice.choice(("yes", "no"))
            yield PlannedPress(delay + again * 0.05, person, choice)


def _commands(dice: random.Random, how_many: int, span: float) -> Iterator[PlannedCommand]:
    for at in sorted(round(dice.uniform(0, span), 3) for _ in range(how_many)):
        yield PlannedCommand(at, dice.choice(PEOPLE))


# Faults


def _torments(dice: random.Random, faults: int, kills: int, database: Database) -> list[Torment]:
    """So many kills, and the others in equal shares."""
    others = [Torment.TERMINATE, Torment.FREEZE, *_OF_DATABASE[database], *_OF_TELEGRAM]
    dice.shuffle(others)
    torments = [*islice(cycle(KILLS), kills), *islice(cycle(others), faults - kills)]
    dice.shuffle(torments)
    return torments


def _faults(
    dice: random.Random, torments: Sequence[Torment], span: float, chats: Sequence[PlannedChat], *, long: bool
) -> Iterator[PlannedFault]:
    times = sorted(round(dice.uniform(0.05, 0.9) * span, 3) for _ in torments)
    servers = count()
    for number, (at, torment) in enumerate(zip(times, torments, strict=True)):
        frozen_long = long and torment is Torment.FREEZE and dice.random() < 0.05
        yield PlannedFault(
            number=number,
            torment=torment,
            at=at,
            seconds=45.0 if frozen_long else float(_seconds(dice, torment)),
            server=next(servers) if torment in OF_SERVERS else 0,
            chat=dice.choice(chats).id if torment in {Torment.FLOOD, Torment.HANG} else None,
            method=dice.choice(_METHODS) if torment in {Torment.ERROR, Torment.RESET} else None,
            times=dice.randint(1, 3),
            effect=torment in _MAY_BE_DONE and dice.random() < 0.5,
            status=dice.choice((500, 502, 504)),
        )


def _seconds(dice: random.Random, torment: Torment) -> float:
    if torment is Torment.FLOOD:
        return dice.randint(2, 5)
    return round(dice.uniform(0.5, 3), 3)
