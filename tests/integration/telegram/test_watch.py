"""The webhook watch, against the sandbox: it tells, it mends when asked to, and it gives up."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from core.cluster.heartbeat import Heartbeat
from core.cluster.leader import Leadership
from core.cluster.outage import Outages
from core.jobs.alarm import Alarm
from core.model.errors import Rejected
from core.model.part import Button, FormattedText, Part
from core.model.retry import RetryPolicy
from core.model.update import Ignored
from infra.config.secret import Secret
from infra.config.settings import Settings
from infra.sandbox import Call, Sandbox, Timing
from infra.telegram.client import TelegramClient
from infra.telegram.webhook.heal import Healer
from infra.telegram.webhook.register import Registration, patiently
from infra.telegram.webhook.state import PATH
from infra.telegram.webhook.watch import WebhookWatch
from tests.fakes.clock import HandClock
from tests.fakes.heartbeat import MemoryHeartbeats
from tests.integration.telegram.conftest import ClientAt
from tests.integration.telegram.misbehaving import TOKEN, refusal, serve

THIEF = "https://elsewhere.example/canary-path"
SECRET = Secret("canary-secret-of-the-webhook")
PRESSES_KEPT = 0.3
STOLEN = "The webhook points somewhere else. Run: telegate webhook set"


@dataclass
class Post:
    """Where Telegram posts to; it counts what arrives."""

    url: str = ""
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    parsers: list[Callable[[bytes], object]] = field(default_factory=list)

    async def take(self, request: web.Request) -> web.Response:
        raw = await request.read()
        for parse in self.parsers:
            parse(raw)
        self.arrived.set()
        return web.Response()


@dataclass
class Stage:
    """A sandbox, a post, and the row that the processes share which watch it."""

    sandbox: Sandbox
    post: Post
    client: TelegramClient
    clock: HandClock
    store: MemoryHeartbeats

    async def watch(self, *, healing: bool = False, holder: str = "one") -> WebhookWatch:
        """A process that watches; the first one leads."""
        leadership = Leadership(holder=holder)
        outages = Outages(store=self.store, alarm=Alarm(self.clock))
        heartbeat = Heartbeat(store=self.store, clock=self.clock, leadership=leadership, outages=outages)
        await heartbeat.beat()
        self.post.parsers.append(heartbeat.observed(lambda _raw: Ignored(1, "nothing")))
        return WebhookWatch(
            client=self.client,
            url=self.post.url,
            heartbeat=heartbeat,
            leadership=leadership,
            outages=outages,
            clock=self.clock,
            healer=Healer(lambda: self.registration.set(self.client)) if healing else None,
            look_every=0.02,
            look_again=RetryPolicy(first=0.01, longest=0.01),
        )

    @property
    def registration(self) -> Registration:
        return Registration(self.post.url, SECRET, None)

    async def steal(self) -> None:
        # Telegram, and so the sandbox, takes one of these calls in a while only.
        await patiently(lambda: self.client.webhook_set(THIEF, Secret("another")))

    async def give_back(self) -> None:
        await self.registration.set(self.client)

    def calls(self, method: str = "setWebhook") -> list[Call]:
        return self.sandbox.calls.of(method)


@pytest.fixture
async def stage(client_at: ClientAt) -> AsyncIterator[Stage]:
    post = Post()
    app = web.Application()
    app.router.add_post(PATH, post.take)
    timing = Timing(scale=0.0005, presses_kept=PRESSES_KEPT)
    async with TestServer(app) as server, Sandbox.start(token=TOKEN, timing=timing) as sandbox:
        post.url = str(server.make_url(PATH))
        client = await client_at(sandbox.api_url)
        stage = Stage(
            sandbox, post, client, HandClock(datetime.now(UTC) - timedelta(seconds=5)), MemoryHeartbeats()
        )
        await stage.give_back()
        yield stage


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """What the log says about the webhook, and that no secret is in it."""
    caplog.set_level(logging.INFO)

    def told() -> list[str]:
        assert "canary" not in caplog.text.lower()
        return [
            record.getMessage()
            for record in caplog.records
            if str(getattr(record, "action", "")).startswith("webhook")
        ]

    return told


Lines = Callable[[], list[str]]


async def test_a_stolen_webhook_is_told_once_and_so_is_that_it_is_well_again(
    stage: Stage, lines: Lines
) -> None:
    watch = await stage.watch()
    assert watch.webhook == "Telegram has not told yet."
    await watch.look()
    assert (watch.telegram, watch.webhook, watch.counters.state, lines()) == ("ok", "ok", "ok", [])
    await stage.steal()
    await watch.look()
    assert (watch.webhook, lines()) == (STOLEN, [])
    for _ in range(3):
        await watch.look()
    assert (watch.telegram, watch.webhook, watch.counters.state) == ("ok", STOLEN, "stolen")
    told = [f"Something is wrong with the webhook. {STOLEN} It points to elsewhere.example."]
    assert lines() == told
    await stage.client.webhook_delete()
    await watch.look()
    await watch.look()
    told.append("Something is wrong with the webhook. No webhook is set. Run: telegate webhook set")
    assert (watch.counters.state, lines()) == ("unset", told)
    await stage.give_back()
    await watch.look()
    assert (watch.webhook, lines()) == ("ok", [*told, "The webhook is well again."])
    assert len(stage.calls()) == 3


async def test_a_delivery_that_fails_is_told_in_telegram_s_words_until_one_succeeds(
    stage: Stage, lines: Lines
) -> None:
    watch = await stage.watch()
    address, stage.post.url = stage.post.url, "http://127.0.0.1:9" + PATH
    watch = await stage.watch()
    await stage.give_back()
    await stage.sandbox.person(815).says(None, "hello")
    await stage.sandbox.wait_for(lambda: stage.sandbox.updates.attempts)
    await watch.look()
    await watch.look()
    advice = "Check that the address is reached from outside."
    words = f"Telegram could lately not deliver: Connection refused. {advice}"
    assert (watch.webhook, watch.counters.state, watch.counters.pending) == (words, "failing", 1)
    assert lines() == [f"Something is wrong with the webhook. {words}"]
    stage.post.url = address
    watch._diagnosis.url = address
    await stage.give_back()
    await asyncio.wait_for(stage.post.arrived.wait(), 10)
    await watch.look()
    assert watch.webhook == "ok"


async def test_a_tap_that_telegram_gave_up_ends_as_an_outage_and_the_error_is_not_told_for_ever(
    stage: Stage,
) -> None:
    stage.post.url = "http://127.0.0.1:9" + PATH
    watch = await stage.watch()
    await stage.give_back()
    ada = stage.sandbox.person(815)
    message = await stage.client.send(ada.id, None, _a_button())
    await ada.taps(stage.sandbox.chat(ada.id).place.messages[message], "Yes")
    await stage.sandbox.wait_for(lambda: stage.sandbox.updates.attempts)
    stage.clock.advance(60)
    await watch.look()
    assert watch.counters.pending == 1
    await _until(lambda: stage.sandbox.updates.pending == 0)
    await watch.look()
    assert (watch.counters.pending, watch.counters.state, stage.store.reprompted) == (0, "failing", [])
    stage.clock.advance(301)
    await watch.look()
    assert watch.webhook == "ok"
    assert [round((outage.ended - outage.began).total_seconds()) for outage in stage.store.reprompted] == [
        361
    ]


async def test_a_telegram_that_brings_nothing_and_tells_no_error_is_noticed(
    stage: Stage, lines: Lines
) -> None:
    watch = await stage.watch()
    with stage.sandbox.fault("hold_updates", times=None):
        await stage.sandbox.person(815).says(None, "hello")
        for seconds in (0, 60, 60):
            stage.clock.advance(seconds)
            await watch.look()
            assert watch.webhook == "ok"
        stage.clock.advance(5)
        await watch.look()
        await watch.look()
        assert watch.counters.state == "silent"
        assert lines()[0].startswith("Something is wrong with the webhook. Updates wait at Telegram")
    await asyncio.wait_for(stage.post.arrived.wait(), 10)
    await watch.look()
    assert (watch.webhook, lines()[1:]) == ("ok", ["The webhook is well again."])
    assert len(stage.store.reprompted) == 1


async def test_what_is_wrong_for_a_moment_only_wakes_nobody(stage: Stage, lines: Lines) -> None:
    watch = await stage.watch()
    await stage.client.webhook_delete()
    await watch.look()
    assert watch.webhook == "No webhook is set. Run: telegate webhook set"
    await stage.give_back()
    await watch.look()
    await stage.steal()
    await watch.look()
    await stage.give_back()
    await watch.look()
    assert (watch.webhook, lines()) == ("ok", [])


async def test_an_outage_that_the_database_did_not_take_is_stored_by_a_later_look(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    watch = await stage.watch()
    await watch.look()
    await stage.steal()
    stage.clock.advance(60)
    await watch.look()
    stage.clock.advance(61)
    await stage.give_back()
    stage.store.down = True
    await watch.look()
    await watch.look()
    assert stage.store.reprompted == []
    stage.store.down = False
    await watch.look()
    await watch.look()
    assert len(stage.store.reprompted) == 1
    assert [record.action for record in caplog.records] == ["disarm_failed", "disarmed"]  # type: ignore[attr-defined]


async def test_a_telegram_that_does_not_answer_is_told_and_counted(stage: Stage) -> None:
    watch = await stage.watch()
    await watch.look()
    async with stage.sandbox.down():
        await watch.look()
    assert watch.telegram.startswith("Telegram cannot be reached.")
    assert watch.webhook == "ok"
    assert (watch.counters.looks, watch.counters.failed_looks) == (2, 1)


# One process for all


async def test_only_the_leader_asks_and_the_others_know_what_it_found(stage: Stage) -> None:
    first, second = await stage.watch(), await stage.watch(holder="two")
    processes = [first.heartbeat, second.heartbeat]
    running = [asyncio.create_task(watch.run(_short_sleep)) for watch in (first, second)]
    await stage.steal()
    await _until(lambda: first.webhook == STOLEN)
    for heartbeat in processes:
        await heartbeat.beat()
    assert (second.webhook, second.counters.looks) == (STOLEN, 0)
    running[0].cancel()
    await processes[0].leave()
    beating = asyncio.create_task(processes[1].run())
    await _until(lambda: second.counters.looks > 0)
    await stage.give_back()
    await _until(lambda: second.webhook == "ok")
    for task in (*running, beating):
        task.cancel()
    await asyncio.gather(*running, beating, return_exceptions=True)


async def test_it_looks_more_often_while_something_is_wrong(stage: Stage) -> None:
    watch = await stage.watch()
    asked: asyncio.Queue[float] = asyncio.Queue()

    async def sleep(seconds: float) -> None:
        await asked.put(seconds)
        await asyncio.sleep(0.01)

    running = asyncio.create_task(watch.run(sleep))
    assert await asyncio.wait_for(asked.get(), 10) == 0.02
    await stage.steal()
    async with asyncio.timeout(10):
        while await asked.get() != 0.01:
            pass
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


# Healing


async def test_a_stolen_webhook_is_set_again_when_asked_to(stage: Stage, lines: Lines) -> None:
    watch = await stage.watch(healing=True)
    await watch.look()
    await stage.steal()
    await watch.look()
    await watch.look()
    assert watch.webhook == "ok"
    assert stage.sandbox.updates.webhook is not None
    assert stage.sandbox.updates.webhook.url == stage.post.url
    call = stage.calls()[-1]
    assert call.parameters["secret_token"] == SECRET.reveal()
    assert "callback_query" in str(call.parameters["allowed_updates"])
    assert all("drop_pending_updates" not in each.parameters for each in stage.calls())
    assert lines()[0].startswith("The webhook was set again, because something was wrong with it: ")
    assert watch.healer is not None
    assert watch.healer.times == 1


async def test_a_failing_webhook_is_set_again_only_after_two_minutes(stage: Stage) -> None:
    stage.post.url = "http://127.0.0.1:9" + PATH
    watch = await stage.watch(healing=True)
    await stage.give_back()
    await stage.sandbox.person(815).says(None, "hello")
    await stage.sandbox.wait_for(lambda: stage.sandbox.updates.attempts)
    before = len(stage.calls())
    for seconds in (0, 60, 59):
        stage.clock.advance(seconds)
        await watch.look()
        assert (watch.counters.state, len(stage.calls())) == ("failing", before)
    stage.clock.advance(1)
    await watch.look()
    assert len(stage.calls()) == before + 1


async def test_two_who_fight_for_a_webhook_come_to_an_end(stage: Stage, lines: Lines) -> None:
    watch = await stage.watch(healing=True)
    await watch.look()
    before = len(stage.calls())
    for _ in range(6):
        await stage.steal()
        for seconds in (0, 5, 60):
            stage.clock.advance(seconds)
            await watch.look()
    assert watch.healer is not None
    assert (watch.healer.times, watch.healer.given_up) == (3, True)
    assert len(stage.calls()) == before + 6 + 3
    assert "has set it 3 times in a row and no longer does" in watch.webhook
    assert len([line for line in lines() if "no longer does" in line]) == 1
    # Ten good minutes after somebody has mended it, it would help again.
    await stage.give_back()
    for _ in range(11):
        await watch.look()
        stage.clock.advance(60)
    await stage.steal()
    await watch.look()
    assert watch.healer.times == 4


async def test_it_is_set_at_most_once_a_minute(stage: Stage) -> None:
    watch = await stage.watch(healing=True)
    assert watch.healer is not None
    for seconds in (0, 5, 50, 4.9):
        await stage.steal()
        stage.clock.advance(seconds)
        await watch.look()
        assert watch.healer.times == 1
    stage.clock.advance(0.1)
    await watch.look()
    assert watch.healer.times == 2


async def test_a_telegram_that_refuses_the_webhook_is_not_asked_for_ever(stage: Stage, lines: Lines) -> None:
    watch = await stage.watch(healing=True)
    await stage.steal()
    words = "bad webhook: Failed to resolve host"
    with stage.sandbox.fault(
        "error", method="setWebhook", times=None, status=400, description=words
    ) as fault:
        for _ in range(9):
            await watch.look()
            stage.clock.advance(60)
        assert fault.hits == 3
    assert len([line for line in lines() if line.startswith("The webhook could not be set again.")]) == 3
    assert "no longer does" in watch.webhook


async def test_a_telegram_that_is_away_is_asked_again_every_minute(stage: Stage) -> None:
    watch = await stage.watch(healing=True)
    await stage.steal()
    with stage.sandbox.fault("too_many_requests", method="setWebhook", times=None, retry_after=99) as fault:
        for _ in range(9):
            await watch.look()
            stage.clock.advance(30)
        assert fault.hits == 5
    assert watch.healer is not None
    assert not watch.healer.given_up
    stage.clock.advance(60)
    await watch.look()
    assert watch.healer.times == 1


async def test_a_certificate_that_cannot_be_read_is_told_and_nothing_is_set(
    stage: Stage, lines: Lines, tmp_path: Path
) -> None:
    watch = await stage.watch(healing=True)
    missing = replace(stage.registration, certificate=tmp_path / "missing.pem")
    watch.healer = Healer(lambda: missing.set(stage.client))
    await stage.steal()
    before = len(stage.calls())
    await watch.look()
    assert len(stage.calls()) == before
    assert "TLS_CERT_FILE names" in lines()[0]


async def test_a_self_signed_certificate_goes_along(client_at: ClientAt, self_signed: Path) -> None:
    async with serve(refusal(400, "Bad Request: enough seen")) as server:
        client = await client_at(server.url)
        healer = Healer(lambda: Registration("https://127.0.0.1:8443/x", SECRET, self_signed).set(client))
        with pytest.raises(Rejected):
            await healer.register()
        assert b"-----BEGIN CERTIFICATE-----" in server.requests[0].body


@pytest.mark.parametrize(
    ("given", "heals"),
    [
        ({"WEBHOOK_HEAL": "1", "PUBLIC_URL": "https://bot.example.com"}, True),
        ({"WEBHOOK_HEAL": "1"}, False),
        ({"PUBLIC_URL": "https://bot.example.com"}, False),
        ({"WEBHOOK_HEAL": "1", "PUBLIC_URL": "http://127.0.0.1:8080"}, False),
    ],
)
async def test_it_heals_only_when_asked_to_and_where_telegram_could_post(
    given: dict[str, str], heals: bool, client_at: ClientAt, lines: Lines
) -> None:
    settings = Settings.from_environment(
        {"BOT_TOKEN": TOKEN, "JWT_SECRET": "canary-jwt-secret-0123456789abcdef", **given}, None
    )
    healer = Healer.of(settings, await client_at("http://127.0.0.1:9"))
    assert (healer is not None) is heals
    told = lines()
    assert len(told) == (given.get("PUBLIC_URL", "").startswith("http://"))
    assert all("https addresses only" in line for line in told)


def _a_button() -> Part:
    return Part(FormattedText("Deploy?"), keyboard=((Button("Yes", data="y"),),))


async def _short_sleep(_seconds: float) -> None:
    await asyncio.sleep(0.01)


async def _until(true: Callable[[], bool]) -> None:
    """Wait for what changes without an event: time at the sandbox, another process's look."""
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110 - nobody could set an event for all of these
            await asyncio.sleep(0.01)
