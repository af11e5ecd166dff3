"""Messages: what is said, and what may be done to it afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Format(StrEnum):
    """How the text of a message is written."""

    PLAIN = "plain"
    MARKDOWN = "markdown"
    HTML = "html"


@dataclass(frozen=True, slots=True)
class LinkButton:
    """A button that opens an address."""

    text: str
    url: str


@dataclass(frozen=True, slots=True)
class Message:
    """Something that is said.

    Attributes:
        text: as the service wrote it, in `format`; 1 to 32,768 characters.
        reply_to: the Telegram message id that this answers, or None.
        buttons: rows of link buttons.
        silent: whether it comes without a sound.
        protect: whether forwarding and saving are off.
        preview: whether links in it get a preview.
        reply_required: whether it fails when what `reply_to` names is gone.
        resend: whether it is sent again when nobody knows whether it arrived; then it may arrive twice.
    """

    text: str
    format: Format = Format.PLAIN
    reply_to: int | None = None
    buttons: tuple[tuple[LinkButton, ...], ...] = ()
    silent: bool = False
    protect: bool = False
    preview: bool = False
    reply_required: bool = True
    resend: bool = False


@dataclass(frozen=True, slots=True)
class Edit:
    """New text and buttons for a message that was sent."""

    text: str
    format: Format = Format.PLAIN
    buttons: tuple[tuple[LinkButton, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Deletion:
    """A message that was sent is taken away."""
