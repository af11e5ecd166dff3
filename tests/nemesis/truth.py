"""The truth: the Telegram double, kept outside the tortured processes, and what it really saw and did."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field

from infra.sandbox import Call as SandboxCall
from infra.sandbox import Change, ChangeKind, Fault, Sandbox, ScriptedPerson
from infra.sandbox.world import Message
from tests.acceptance.gateway import BOT_TOKEN, UPDATES, derived_webhook_secret
from tests.nemesis.facts import Call, Deed, Post, Standing
from tests.nemesis.plan import MARKER, PEOPLE, STRANGER, Plan

SLOWNESS = 0.2
"""Seconds that Telegram takes for a message, so that torments meet sends on their way."""

_KEPT = 5_000_000
_RETRY_AFTER = re.compile(r"retry after (\d+)")
_RETRY_SCALE = 0.05
_DEEDS = frozenset({ChangeKind.SENT, ChangeKind.EDITED, ChangeKind.DELETED})


@dataclass(slots=True, eq=False)
class Telegram:
    """A running double with everybody in it."""

    sandbox: Sandbox
    persons: dict[int, ScriptedPerson]
    _slowness: Fault | None = field(default=None, repr=False)

    @classmethod
    @contextlib.asynccontextmanager
    async def started(cls, plan: Plan) -> AsyncIterator[Telegram]:
        """Run it while the block runs."""
        async with Sandbox.start(token=BOT_TOKEN, time_scale=_RETRY_SCALE, kept=_KEPT) as sandbox:
            persons = {
                number: sandbox.add_person(number, "Person", "abcdefghijklmnopqrstuvwxyz"[number % 26])
                for number in (*PEOPLE, STRANGER)
            }
            for chat in plan.chats:
                if chat.id < 0:
                    sandbox.add_group(chat.id, "Group", [persons[member] for member in chat.members])
            telegram = cls(sandbox, persons)
            telegram.add()
            yield telegram

    async def point_webhook_at(self, address: str) -> None:
        """What `telegate webhook set` does, by hand."""
        import aiohttp

        form = {
            "url": f"{address}/telegram/webhook",
            "secret_token": derived_webhook_secret(),
            "allowed_updates": json.dumps(UPDATES),
        }
        async with aiohttp.ClientSession() as session:
            url = f"{self.sandbox.api_url}/bot{BOT_TOKEN}/setWebhook"
            async with session.post(url, data=form) as response:
                assert (await response.json())["result"] is True

    def add(self, fault: Fault | None = None) -> None:
        """Let a fault hold, in front of the slowness: the first fault that fits a call is played."""
        if self._slowness is not None:
            self.sandbox.faults.lift(self._slowness.number)
        if fault is not None:
            self.sandbox.faults.add(fault)
        self._slowness = self.sandbox.fault("slow", method="sendMessage", times=None, seconds=SLOWNESS)

    async def until_quiet(self, within: float) -> bool:
        """Wait until the webhook has taken every update; whether it has."""
        with contextlib.suppress(TimeoutError):
            await self.sandbox.wait_for(lambda: self.sandbox.updates.pending == 0, within, "the last update")
            return True
        return False

    # What it saw

    def calls(self) -> tuple[Call, ...]:
        """Every Bot API call."""
        return tuple(map(_call, self.sandbox.calls))

    def deeds(self) -> tuple[Deed, ...]:
        """What the bot really did in the chats."""
        bot = self.sandbox.world.bot
        return tuple(
            _deed(change, change.message)
            for change in self.sandbox.world.truth
            if change.kind in _DEEDS and change.message is not None and change.message.sender is bot
        )

    def posts(self) -> tuple[Post, ...]:
        """Every attempt to post an update."""
        return tuple(Post(each.update_id, each.at, each.status) for each in self.sandbox.updates.attempts)

    def standing(self) -> tuple[Standing, ...]:
        """Every message of a task as it stands in its chat now."""
        return tuple(self._standing())

    def _standing(self) -> Iterator[Standing]:
        for chat in self.sandbox.world.chats.values():
            for message in chat.messages.values():
                marker = marker_in(message.text)
                if message.sender is self.sandbox.world.bot and marker is not None:
                    yield Standing(chat.id, message.id, marker, bool(message.buttons))


def marker_in(text: str) -> str | None:
    """The task that a text belongs to."""
    found = MARKER.search(text)
    return found[0] if found else None


def _call(seen: SandboxCall) -> Call:
    reply = seen.parameters.get("reply_parameters") or {}
    flood = _RETRY_AFTER.search(seen.outcome) if seen.status == 429 else None
    return Call(
        number=seen.number,
        at=seen.at,
        method=seen.method,
        chat=seen.chat if isinstance(seen.chat, int) else None,
        marker=marker_in(seen.text("text")),
        # A slow answer is the right one; everything else without a status is none.
        status=200 if seen.outcome == "slow" else seen.status,
        retry_after=int(flood[1]) if flood else 0,
        reply_to=reply.get("message_id") if isinstance(reply, dict) else None,
    )


def _deed(change: Change, message: Message) -> Deed:
    return Deed(
        kind=change.kind.value,
        at=change.at,
        chat=message.chat.id,
        message=message.id,
        marker=marker_in(change.text),
        reply_to=message.reply_to.id if message.reply_to else None,
    )


async def nap(seconds: float) -> None:
    """Let time pass; nothing at all for what is over."""
    if seconds > 0:
        await asyncio.sleep(seconds)
