"""One family of errors, each with the stable `code` that services see.

The HTTP status of each code is told in one table, `handlers/problems.py`; the
meaning of each code is told in `docs/reference/errors.md`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from core.model.failure import Failure

if TYPE_CHECKING:
    from core.model.task import Task


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """What is wrong with one field of a body.

    Attributes:
        pointer: where, as a JSON Pointer (RFC 6901), for example `/options/0/label`.
        detail: what is wrong and what to do, one sentence.
    """

    pointer: str
    detail: str


class TelegateError(Exception):
    """Something that a service, a person or an operator has to be told.

    Args:
        detail: what happened and what to do about it, for a reader who does not know the code.
        retry_after: seconds after which the same request may succeed, or None.
        task: the task as it stands, when one exists.
    """

    code: ClassVar[str] = "internal"

    def __init__(self, detail: str, *, retry_after: float | None = None, task: Task | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after = retry_after
        self.task = task


class Malformed(TelegateError):
    """The request cannot be read: not JSON, or a header without sense."""

    code = "malformed"


class Unauthenticated(TelegateError):
    """No token, or one that does not count.

    Attributes:
        reason: `expired` or `invalid`; never more, so that a guesser learns nothing.
    """

    code = "unauthenticated"

    def __init__(self, detail: str, *, reason: str = "invalid") -> None:
        super().__init__(detail)
        self.reason = reason


class Forbidden(TelegateError):
    """No effective role of this service names the endpoint."""

    code = "forbidden"


class ChatForbidden(TelegateError):
    """No effective role of this service names both the endpoint and the chat."""

    code = "chat_forbidden"


class TlsRequired(TelegateError):
    """Plain HTTP from anywhere but loopback."""

    code = "tls_required"


class NotFound(TelegateError):
    """Nothing of this name, or nothing of this name for this service."""

    code = "not_found"


class MethodNotAllowed(TelegateError):
    """The path exists, the method does not.

    Attributes:
        allowed: the methods that the path has.
    """

    code = "method_not_allowed"

    def __init__(self, detail: str, *, allowed: Sequence[str]) -> None:
        super().__init__(detail)
        self.allowed = tuple(sorted(allowed))


class AlreadyFinal(TelegateError):
    """The task has ended; what was asked for can no longer be done."""

    code = "already_final"


class TooLarge(TelegateError):
    """The body, or a header, is over its limit."""

    code = "too_large"


class UnsupportedMediaType(TelegateError):
    """The body is not JSON, or is compressed."""

    code = "unsupported_media_type"


class Invalid(TelegateError):
    """The body can be read, but fields do not validate.

    Attributes:
        problems: the wrong fields, in the order of the body.
        more: how many there are beyond these.
    """

    code = "invalid"

    def __init__(self, detail: str, *, problems: Sequence[FieldProblem] = (), more: int = 0) -> None:
        super().__init__(detail)
        self.problems = tuple(problems)
        self.more = more

    @classmethod
    def field(cls, pointer: str, detail: str) -> Invalid:
        """An `Invalid` with one wrong field."""
        return cls("One field does not validate.", problems=[FieldProblem(pointer, detail)])


class Problems:
    """Gathers what is wrong with a body, so that all of it is told at once."""

    def __init__(self) -> None:
        self._found: list[FieldProblem] = []

    @contextmanager
    def gathering(self) -> Iterator[None]:
        """Keep what is found wrong in this block, and go on behind it."""
        try:
            yield
        except Invalid as error:
            self._found.extend(error.problems)

    def add(self, problems: Iterable[FieldProblem]) -> None:
        """Keep these, too."""
        self._found.extend(problems)

    def refuse_any(self, detail: str) -> None:
        """Raise `Invalid` with everything that was found; do nothing when nothing was."""
        if self._found:
            raise Invalid(detail, problems=self._found)


class IdempotencyMismatch(TelegateError):
    """The `Idempotency-Key` was used before with another body."""

    code = "idempotency_mismatch"


class TelegramRejected(TelegateError):
    """Telegram said no, and would say so again."""

    code = "telegram_rejected"


class RecipientUnreachable(TelegramRejected):
    """The chat is gone, or the person blocked the bot or never pressed Start."""

    code = "recipient_unreachable"


class RateLimited(TelegateError):
    """This service has used up its own limit."""

    code = "rate_limited"


class NotBuilt(TelegateError):
    """Part of the contract, but not of this version."""

    code = "not_built"


class TelegramUnavailable(TelegateError):
    """Telegram cannot be reached, and nothing was done."""

    code = "telegram_unavailable"


class StorageUnavailable(TelegateError):
    """The database cannot be reached, and nothing was done."""

    code = "storage_unavailable"


class Overloaded(TelegateError):
    """More work than fits; nothing was done."""

    code = "overloaded"


class OutcomeUnknown(TelegateError):
    """The request was written to Telegram and no answer came: it may or may not have been done."""

    code = "outcome_unknown"


class NotDelivered(TelegramUnavailable):
    """Telegram was certainly not asked (DNS, connect, TLS), or said "later" (429); try again.

    Args:
        detail: what happened.
        retry_after: Telegram's own wait in seconds, when it named one.
        error_code: Telegram's number, when it answered.
        description: Telegram's words, when it answered.
    """

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


class Rejected(TelegramRejected):
    """Telegram said no, and would say so again.

    Attributes:
        failure: with Telegram's number and words, its code `telegram_rejected` or `recipient_unreachable`.
    """

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.detail)
        self.failure = failure


class Migrated(TelegramRejected):
    """Nothing was done: this group has become a supergroup, and has to be called by its new id.

    Attributes:
        chat: the supergroup's id.
    """

    def __init__(self, chat: int) -> None:
        super().__init__("This group has become a supergroup with another id.")
        self.chat = chat


class DeliveryUnknown(OutcomeUnknown):
    """Bytes were written and no usable answer came: it may or may not have been done."""

    @property
    def failure(self) -> Failure:
        """The same, as a task keeps it."""
        return Failure(self.code, self.detail)


class LeaseLost(Exception):
    """Another process has the job now; whoever had it stops working on it."""
