"""Questions: what is asked, and who may answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from core.model.answer import Answer
from core.model.message import Message
from core.model.person import Person


class Style(StrEnum):
    """The colour of an option's button (Bot API 9.4)."""

    PRIMARY = "primary"
    SUCCESS = "success"
    DANGER = "danger"


@dataclass(frozen=True, slots=True)
class Option:
    """One button of a question; its id is what the service gets as `choice`."""

    id: str
    label: str
    style: Style | None = None


@dataclass(frozen=True, slots=True)
class TextInput:
    """The answer is written by the person, in a message that replies to the question.

    Attributes:
        placeholder: what kind of answer is meant, shown under the question, 1 to 64 characters, or None.
            (Telegram's own reply field would show it too, but makes a message that can never be edited.)
    """

    placeholder: str | None = None


@dataclass(frozen=True, slots=True)
class Respondents:
    """Who may answer a question.

    Attributes:
        people: Telegram user ids.
        roles: person roles of the policy; whoever has one when answering counts.
        anyone: said in words, since an empty list never means everybody.
    """

    people: frozenset[int] = frozenset()
    roles: frozenset[str] = frozenset()
    anyone: bool = False

    def include(self, person: int, roles_of: Callable[[int], frozenset[str]]) -> bool:
        """Whether this person may answer; `roles_of` tells a person's roles now."""
        return self.anyone or person in self.people or bool(self.roles & roles_of(person))


UNNAMED: Final = Respondents()
"""The service has not said who may answer; this very object, and not any that equals it."""


@dataclass(frozen=True, slots=True)
class Question:
    """Something that is asked.

    Attributes:
        message: what the person reads (without buttons of its own).
        options: the buttons, at most 50.
        input: a written answer, or None when only buttons count.
        on_expiry: the option id that counts when nobody answers, or None.
    """

    message: Message
    respondents: Respondents = UNNAMED
    options: tuple[Option, ...] = ()
    input: TextInput | None = None
    on_expiry: str | None = None

    def option(self, option_id: str) -> Option:
        """The option of this id.

        Raises:
            KeyError: the question has none; its body was checked, so this is a bug.
        """
        for option in self.options:
            if option.id == option_id:
                return option
        raise KeyError(option_id)

    def answer_by_option(self, index: int, by: Person, at: datetime) -> Answer | None:
        """The answer that pressing the button at `index` gives; None when there is no such button."""
        if not 0 <= index < len(self.options):
            return None
        option = self.options[index]
        return Answer(at=at, by=by, choice=option.id, label=option.label)

    def answer_by_text(self, text: str, by: Person, at: datetime) -> Answer:
        """The answer that a written message gives."""
        return Answer(at=at, by=by, text=text, value=text)

    def answer_on_expiry(self, at: datetime) -> Answer | None:
        """The answer that counts when nobody answered, or None."""
        if self.on_expiry is None:
            return None
        option = self.option(self.on_expiry)
        return Answer(at=at, choice=option.id, label=option.label)
