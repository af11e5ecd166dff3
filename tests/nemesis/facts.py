"""Facts: what was seen in a run, from every side. The checker reads nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.nemesis.plan import Torment

TOO_LATE = "already_final"
"""The code of a correction that is refused, since its message is not known to be in the chat."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer as it was told to somebody: what was chosen or written, and by whom (None: by nobody)."""

    choice: str | None = None
    text: str | None = None
    by: int | None = None


@dataclass(frozen=True, slots=True)
class Told:
    """A task as a response told it."""

    id: str
    state: str
    reply: Reply | None = None


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request of a service, and what came of it.

    Attributes:
        status: HTTP status; None when no response came.
        code: of a problem, or what broke the connection.
    """

    marker: str
    server: int
    method: str
    begun: float
    ended: float
    status: int | None = None
    code: str = ""
    told: Told | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """One Bot API call, as Telegram saw it.

    Attributes:
        status: HTTP status of the answer; None when there was no usable one.
        retry_after: seconds that a 429 asked for; 0 for every other answer.
        reply_to: the message that it replies to, or None.
    """

    number: int
    at: float
    method: str
    chat: int | None
    marker: str | None
    status: int | None
    retry_after: int = 0
    reply_to: int | None = None

    @property
    def done_or_unclear(self) -> bool:
        """Whether it may have been done: everything but a refusal."""
        return self.status is None or not 400 <= self.status < 500


@dataclass(frozen=True, slots=True)
class Deed:
    """What really happened in a chat: `sent`, `edited` or `deleted`, by the bot."""

    kind: str
    at: float
    chat: int
    message: int
    marker: str | None
    reply_to: int | None = None


@dataclass(frozen=True, slots=True)
class Act:
    """What a person did: `press`, `words` or `command`.

    Attributes:
        update: the id of the update that tells the bot.
        message: the message pressed or replied to; for a command, the person's own message.
    """

    kind: str
    update: int
    at: float
    person: int
    chat: int
    message: int
    marker: str | None = None
    said: str = ""


@dataclass(frozen=True, slots=True)
class Post:
    """One attempt to post an update to the webhook; the status is None when no answer came."""

    update: int
    at: float
    status: int | None


@dataclass(frozen=True, slots=True)
class Row:
    """A task as its row tells it in the end.

    Attributes:
        marker: None for what the gateway itself says.
        of: for an edit or a deletion, the id of the message's task.
        reply_to: the message that it replies to, or None.
    """

    id: str
    kind: str
    state: str
    chat: int
    created_at: float
    expires_at: float
    marker: str | None = None
    of: str | None = None
    message_ids: tuple[int, ...] = ()
    reply: Reply | None = None
    answers: int = 0
    reply_to: int | None = None
    closed: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """One line of a task's history."""

    task: str
    seq: int
    at: float
    what: str
    person: int | None = None
    update: int | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """A message of the bot as it stands in its chat in the end."""

    chat: int
    message: int
    marker: str
    has_buttons: bool


@dataclass(frozen=True, slots=True)
class Fault:
    """What was really done, and when."""

    torment: Torment
    begun: float
    ended: float
    server: int | None = None


@dataclass(frozen=True, slots=True)
class Uptime:
    """A stretch of time in which a server was ready."""

    server: int
    since: float
    until: float


@dataclass(frozen=True, slots=True)
class Mention:
    """A place in a log that has what no log may have.

    Attributes:
        what: in words, without the secret.
    """

    log: str
    what: str
    excerpt: str


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that was seen in a run. Times are Unix times in seconds.

    Attributes:
        ended: when everything was over and the servers were about to be stopped.
        gave_up: markers of tasks whose service never got a final answer, though it insisted.
        mishaps: what should not have happened to the servers, in words.
    """

    began: float
    ended: float
    exchanges: tuple[Exchange, ...] = ()
    calls: tuple[Call, ...] = ()
    deeds: tuple[Deed, ...] = ()
    acts: tuple[Act, ...] = ()
    posts: tuple[Post, ...] = ()
    rows: tuple[Row, ...] = ()
    steps: tuple[Step, ...] = ()
    standing: tuple[Standing, ...] = ()
    faults: tuple[Fault, ...] = ()
    uptimes: tuple[Uptime, ...] = ()
    mentions: tuple[Mention, ...] = ()
    gave_up: tuple[str, ...] = ()
    mishaps: tuple[str, ...] = field(default=())
