"""The sandbox: a Telegram double over HTTP with a chat page, for offline work and for tests.

It speaks the Bot API on its own port so exactly that a client cannot tell the difference: put
`sandbox.api_url` into `TELEGRAM_API_URL` and the gateway talks to it. People are either somebody in a
browser (`sandbox.page_url`), or a test:

    async with Sandbox.start(token="123456:TEST", time_scale=0.01) as sandbox:
        ada = sandbox.person(815)
        ...                                              # something calls sendMessage to chat 815
        question = await sandbox.next_message(ada)       # handed out once each, in order; never missed
        assert question.text == "Deploy?"
        press = await ada.taps(question, "Deploy")       # a callback_query goes to the webhook
        await press.answered()                           # until answerCallbackQuery came
        assert press.toast == "Thank you."
        await sandbox.wait_for(lambda: not question.buttons)   # looked at after every change; no polling
        sandbox.fault("too_many_requests", method="sendMessage", retry_after=3)
        assert [call.method for call in sandbox.calls] == ["sendMessage", "answerCallbackQuery"]

**The world of a first run.** The bot "Telegate Sandbox" (@telegate_sandbox_bot); Ada Lovelace (815, @ada)
and Grace Hopper (4711, @grace), who have started it; Linus (1337, no username), who never did; Mallory
(666), who blocked it; the supergroup "Ops" (-1001234567890) with Ada and Grace, with topics, among them
7 "Deploys". The bot is in privacy mode: in groups it sees commands and replies to its own messages.

**What people do** (`ScriptedPerson`, from `sandbox.person(id)`): `taps`, `double_taps`, `late` (a press
whose query has expired), `forges` (a press with any data), `says`, `edits`, `sends_file`,
`sends_location`, `starts`, `blocks`, `unblocks`. `sandbox.stranger()` is somebody the bot never met.
`sandbox.script(person, answer="Deploy")` answers by itself when a question with such a button arrives.

**What can be looked at**: `sandbox.calls` (every Bot API call with its outcome), `sandbox.truth` (what really
happened in the chats, whatever the caller was told), `sandbox.updates.attempts` (every POST to the webhook),
`message.history` (earlier texts), `press.toast`, `press.alert`.

**What can go wrong on request**: `sandbox.fault(kind, ...)`, see `infra.sandbox.faults.FaultKind`, and
`async with sandbox.down():`, in which connections are refused.

The same over HTTP, for a sandbox in another process: see `README.md` in this folder.

Differences from Telegram, on purpose: a webhook may be `http://` and on any port when its host is this
machine; `time_scale` shortens the waits between webhook retries; flood limits do not exist unless a fault
asks for them; nothing is kept when the sandbox ends.
"""

from __future__ import annotations

from infra.sandbox.calls import Call, CallLog
from infra.sandbox.faults import Fault, FaultKind
from infra.sandbox.handles import ChatView, Sandbox, ScriptedPerson
from infra.sandbox.scripts import Script
from infra.sandbox.updates import Attempt, Timing
from infra.sandbox.world import Button, Change, ChangeKind, Entity, Message, Press

__all__ = [
    "Attempt",
    "Button",
    "Call",
    "CallLog",
    "Change",
    "ChangeKind",
    "ChatView",
    "Entity",
    "Fault",
    "FaultKind",
    "Message",
    "Press",
    "Sandbox",
    "Script",
    "ScriptedPerson",
    "Timing",
]
