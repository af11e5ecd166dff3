"""The bodies of the API as models: checked whole at the door, then turned into the core's objects."""

from __future__ import annotations

import json
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from core.model.address import has_scheme, is_address
from core.model.message import Edit, Format, LinkButton, Message
from core.model.question import UNNAMED, Option, Question, Respondents, Style, TextInput
from core.model.visibility import shows_nothing

TEXT_LIMIT: Final = 32_768
INT64: Final = 2**63


def _storable(text: str) -> str:
    if "\0" in text:
        raise PydanticCustomError("nul_character", "The text contains a NUL character; leave it out.")
    return text


def _readable(text: str) -> str:
    if shows_nothing(text):
        raise PydanticCustomError("shows_nothing", "There is nothing to read in this; write something.")
    return _storable(text)


def _opens(address: str) -> str:
    if not has_scheme(address) or not is_address(address):
        raise PydanticCustomError(
            "not_opened",
            "Telegram opens no such address: write https://, http:// or tg://, then a host with a dot, "
            "with a port from 1 to 65535 or none, and no blanks.",
        )
    return address


def _later(planned: tuple[str | bool, ...]) -> BeforeValidator:
    """Refuse values of the contract by saying that this version does not have them: they are not wrong."""

    def check(value: object) -> object:
        if any(type(value) is type(each) and value == each for each in planned):
            written = {"value": json.dumps(value)}
            raise PydanticCustomError("not_built", "This version has no {value} here yet.", written)
        return value

    return BeforeValidator(check)


STORABLE: Final = AfterValidator(_storable)
"""Text that every database can keep; it stands behind the length, so that this is told first."""
READABLE: Final = AfterValidator(_readable)
"""The same, of which a person sees something: on a button without a label, nobody would know what it does."""
Id = Annotated[int, Field(gt=-INT64, lt=INT64)]
PositiveId = Annotated[int, Field(gt=0, lt=INT64)]
ChatName = Annotated[
    Id | Annotated[str, Field(min_length=1, max_length=64), STORABLE],
    Field(description="A chat's id, `@channel`, or an alias of permissions.yaml.", examples=["ops", 815]),
]
Text = Annotated[
    str,
    Field(
        min_length=1,
        max_length=TEXT_LIMIT,
        description="What to say. Longer than Telegram's 4,096 characters becomes several messages.",
    ),
    STORABLE,
]
Metadata = Annotated[
    dict[
        Annotated[str, Field(min_length=1, max_length=40), STORABLE],
        Annotated[str, Field(max_length=500), STORABLE],
    ],
    Field(max_length=16, description="Up to 16 pairs of strings, returned as given."),
]


class Body(BaseModel):
    """A JSON object in which every field is known."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True, frozen=True)

    not_built: ClassVar[frozenset[str]] = frozenset()
    """Pointers to fields of the contract that this version refuses by name, rather than as unknown ones."""


class LinkButtonBody(Body):
    """A button that opens an address."""

    text: Annotated[str, Field(min_length=1, max_length=64), READABLE]
    url: Annotated[
        str, Field(max_length=2048, description="An http, https, tg or ton address."), AfterValidator(_opens)
    ]


LinkRows = Annotated[
    list[Annotated[list[LinkButtonBody], Field(min_length=1, max_length=8)]],
    Field(max_length=20, description="Rows of link buttons, at most 8 in a row."),
]


class SayingBody(Body):
    """What a message and a question have in common."""

    not_built: ClassVar[frozenset[str]] = frozenset({"/attachments", "/callback"})

    chat: ChatName
    text: Text
    format: Annotated[Format, Field(description="How `text` is written.")] = Format.PLAIN
    topic: Annotated[PositiveId | None, Field(description="A forum topic.")] = None
    reply_to: Annotated[PositiveId | None, Field(description="The Telegram message to reply to.")] = None
    silent: Annotated[bool, Field(description="Comes without a sound.")] = False
    protect: Annotated[bool, Field(description="Cannot be forwarded or saved.")] = False
    preview: Annotated[bool, Field(description="Links get a preview.")] = False
    on_unknown: Annotated[
        Literal["report", "resend"],
        Field(
            description="What to do when nobody knows whether Telegram has sent it: say so, or send it "
            "again, so that it may arrive twice. A question is always sent again: only one answer can count."
        ),
    ] = "report"
    metadata: Metadata = {}

    def saying(self, buttons: tuple[tuple[LinkButton, ...], ...] = ()) -> Message:
        """What a person reads."""
        return Message(
            text=self.text,
            format=self.format,
            reply_to=self.reply_to,
            buttons=buttons,
            silent=self.silent,
            protect=self.protect,
            preview=self.preview,
            resend=self.on_unknown == "resend",
        )


class MessageBody(SayingBody):
    """`POST /v1/messages`: something to say."""

    buttons: LinkRows = []
    expires_in: Annotated[int, Field(ge=5, le=86_400, description="Seconds after which it fails unsent.")] = (
        3600
    )

    def message(self) -> Message:
        """What is said."""
        return self.saying(_link_rows(self.buttons))


class EditBody(Body):
    """`PATCH /v1/messages/{id}`: what the message says from now on."""

    text: Text
    format: Format = Format.PLAIN
    buttons: LinkRows = []

    def edit(self) -> Edit:
        """What it says from now on."""
        return Edit(text=self.text, format=self.format, buttons=_link_rows(self.buttons))


class OptionBody(Body):
    """One button of a question."""

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$", description="What you get as `choice`.")]
    label: Annotated[str, Field(min_length=1, max_length=64, description="What the person reads."), READABLE]
    style: Style | None = None
    reason: Annotated[bool, _later((True,)), Field(json_schema_extra={"const": False})] = False


class InputBody(Body):
    """A written answer."""

    type: Annotated[
        Literal["text"], _later(("number", "integer", "date", "email", "pattern", "file", "location"))
    ]
    placeholder: Annotated[str, Field(min_length=1, max_length=64), READABLE] | None = None


class RespondentsBody(Body):
    """Who may answer."""

    people: Annotated[list[PositiveId], Field(max_length=1000)] = []
    roles: Annotated[
        list[Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,31}$")]], Field(max_length=100)
    ] = []
    anyone: bool = False


class OnExpiryBody(Body):
    """The answer when nobody answers."""

    choice: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$", description="The id of an option.")]


class QuestionBody(SayingBody):
    """`POST /v1/questions`: something to ask; the answer is the response."""

    not_built: ClassVar[frozenset[str]] = SayingBody.not_built | {
        *("/exclude", "/quorum", "/reminders", "/escalate"),
        *("/input/min", "/input/max", "/input/pattern"),
    }

    options: Annotated[list[OptionBody], Field(max_length=50)] = []
    input: InputBody | None = None
    respondents: Annotated[
        RespondentsBody | None,
        Field(description="Who may answer. In a private chat that person; in a group it is required."),
    ] = None
    on_expiry: OnExpiryBody | None = None
    expires_in: Annotated[int, Field(ge=5, le=2_592_000, description="Seconds until it is over.")] = 3600

    def question(self) -> Question:
        """What is asked."""
        given = self.respondents
        return Question(
            message=self.saying(),
            respondents=UNNAMED
            if given is None
            else Respondents(frozenset(given.people), frozenset(given.roles), given.anyone),
            options=tuple(Option(option.id, option.label, option.style) for option in self.options),
            input=None if self.input is None else TextInput(self.input.placeholder),
            on_expiry=None if self.on_expiry is None else self.on_expiry.choice,
        )


class EnqueueBody(Body):
    """`POST /enqueue_command`: the earlier interface; `arguments` is the body of the endpoint it names."""

    command: Annotated[str, Field(min_length=1, max_length=64, examples=["message", "question"])]
    arguments: dict[str, Any]


def _link_rows(rows: list[list[LinkButtonBody]]) -> tuple[tuple[LinkButton, ...], ...]:
    return tuple(tuple(LinkButton(button.text, button.url) for button in row) for row in rows)
