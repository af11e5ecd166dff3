"""Commands: who is meant, who is refused, and what is said."""

from __future__ import annotations

import pytest

from core.inbox.commands import decide_command, is_refused
from core.model.message import Message
from core.model.person import Person
from core.presentation import phrases
from core.services.factory import jobs_of
from tests.fakes.world import ADA, EVE, GROUP, POLICY
from tests.unit.inbox.samples import command, draft


@pytest.mark.parametrize(
    ("name", "by", "words", "refused"),
    [
        ("start", EVE, phrases.welcome(EVE.name), False),
        ("help", EVE, phrases.help_text(()), False),
        ("whoami", EVE, phrases.who_you_are(EVE.id, GROUP), False),
        ("deploy", ADA, phrases.not_yet("deploy"), False),
        ("deploy", EVE, phrases.not_allowed("deploy"), True),
        ("dance", EVE, phrases.UNKNOWN_COMMAND, False),
    ],
)
def test_every_command_is_replied_to(name: str, by: Person, words: str, refused: bool) -> None:
    sent = command(name, by=by, chat=GROUP)
    effect = decide_command(sent, POLICY, draft(sent))
    (reply,) = effect.tasks
    assert reply.content == Message(words, reply_to=sent.message_id, reply_required=False)
    assert effect.jobs == jobs_of(reply)
    assert is_refused(sent, POLICY) is refused
