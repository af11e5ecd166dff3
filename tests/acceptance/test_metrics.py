"""`GET /metrics`: what happens is counted, for whoever may look, whichever process is asked."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

import pytest
import pytest_asyncio
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from tests import postgres
from tests.acceptance.contract import Response
from tests.acceptance.gateway import (
    BOT_TOKEN,
    JWT_SECRET,
    Gate,
    derived_webhook_secret,
    message,
    opened,
    question,
)
from tests.acceptance.pairs import Pair, migrated_database, servers
from tests.acceptance.policies import POLICY
from tests.acceptance.updates import person_of, press_update, private_chat
from tests.docs.pages import Page, rows

REFERENCE = Page("docs/reference/metrics.md")

in_module_loop = pytest.mark.asyncio(loop_scope="module")

METRICS_TOKEN = "canary-metrics-token-0123456789-abcdefghij"
WITH_TOKEN = {"Authorization": f"Bearer {METRICS_TOKEN}"}

Figures: TypeAlias = Mapping[tuple[str, frozenset[tuple[str, str]]], float]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def module_gate(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gate]:
    """The server of this module, which knows a scraper."""
    async with opened(tmp_path_factory.mktemp("server"), settings={"METRICS_TOKEN": METRICS_TOKEN}) as gate:
        yield gate
        assert METRICS_TOKEN not in gate.server.log


def parsed(response: Response) -> Figures:
    """Every sample of an exposition; `process` is left out where there is one process only."""
    assert response.status == 200, response.told()
    assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(response.body.decode())
        for sample in family.samples
    }


async def scraped(gate: Gate) -> Figures:
    return parsed(await gate.request("GET", "/metrics", headers=WITH_TOKEN))


def total(figures: Figures, name: str, **labels: str) -> float:
    """The sum of all samples with this name and these labels."""
    wanted = set(labels.items())
    return sum(value for (found, has), value in figures.items() if found == name and wanted <= has)


def label_values(figures: Figures, label: str, name: str = "") -> set[str]:
    """The values that a label has."""
    return {
        value
        for found, labels in figures
        for key, value in labels
        if key == label and (not name or found == name)
    }


async def until(gate: Gate, enough: Callable[[Figures], bool], within: float = 30) -> Figures:
    """Scrape until this is true of the figures."""
    async with asyncio.timeout(within):
        while not enough(figures := await scraped(gate)):  # noqa: ASYNC110 - another process cannot set an Event here
            await asyncio.sleep(0.05)
    return figures


async def moved(gate: Gate, do: Callable[[], Awaitable[object]], name: str, **labels: str) -> float:
    """By how much a figure is higher after something was done."""
    before = total(await scraped(gate), name, **labels)
    await do()
    return total(await scraped(gate), name, **labels) - before


# Who may look


@in_module_loop
async def test_a_scraper_with_the_token_of_the_settings_may_look(gate: Gate) -> None:
    assert total(await scraped(gate), "telegate_database_up") == 1
    assert (await gate.request("HEAD", "/metrics", headers=WITH_TOKEN)).status == 200


@in_module_loop
async def test_a_service_may_look_when_a_role_names_the_endpoint(gate: Gate) -> None:
    service = gate.service()
    assert total(parsed(await service.get("/metrics")), "telegate_database_up") == 1
    (await service.with_roles("reader").get("/metrics")).problem("forbidden")


@in_module_loop
@pytest.mark.parametrize(
    "given",
    [
        "",
        "Bearer",
        f"Bearer {METRICS_TOKEN}x",
        f"Bearer {METRICS_TOKEN[:-1]}",
        f"Basic {METRICS_TOKEN}",
        "Bearer ü",
    ],
)
async def test_nobody_else_may_look(gate: Gate, given: str) -> None:
    headers = {"Authorization": given} if given else {}
    (await gate.request("GET", "/metrics", headers=headers)).problem("unauthenticated")


@in_module_loop
async def test_the_scraper_s_token_opens_nothing_else(gate: Gate) -> None:
    for method, path in (
        ("GET", "/v1/me"),
        ("GET", "/v1/tasks"),
        ("POST", "/v1/sweep"),
        ("POST", "/v1/messages"),
    ):
        (await gate.request(method, path, headers=WITH_TOKEN)).problem("unauthenticated")
    (await gate.request("POST", "/metrics", headers=WITH_TOKEN)).problem("method_not_allowed")


# What is counted


@in_module_loop
async def test_a_message_and_an_answered_question_move_the_figures(gate: Gate) -> None:
    service, ada = gate.service(), gate.person()
    before = await scraped(gate)
    (await service.send(message(ada))).task(200)
    await gate.next_message(ada)
    asking = service.asking(question(ada))
    asked = await gate.next_message(ada)
    open_before = total(before, "telegate_tasks", state="asked")
    await until(
        gate,
        lambda now: (
            (total(now, "telegate_waiters"), total(now, "telegate_tasks", state="asked"))
            == (1, open_before + 1)
        ),
    )
    await ada.taps(asked, "Yes")
    (await asking).task(200)
    after = await until(gate, lambda now: total(now, "telegate_waiters") == 0)

    def by(name: str, **labels: str) -> float:
        return total(after, name, **labels) - total(before, name, **labels)

    count = "telegate_http_request_seconds_count"
    assert by(count, endpoint="POST /v1/messages", status="200") == 1
    assert by(count, endpoint="POST /v1/questions", status="200") == 1
    assert by(count, endpoint="POST /telegram/webhook", status="200") == 1
    assert by("telegate_updates_total", effect="taken") == by("telegate_update_seconds_count") == 1
    assert by("telegate_tasks_finished_total", kind="message", state="sent") == 1
    assert by("telegate_tasks_finished_total", kind="question", state="answered") == 1
    assert by("telegate_telegram_call_seconds_count", method="sendMessage", outcome="done") == 2
    assert by("telegate_telegram_call_seconds_sum", method="sendMessage") > 0
    assert by("telegate_database_transactions_total", access="write") >= 5
    assert by("telegate_database_group_seconds_count", access="write") >= 3
    assert by("telegate_tasks", state="asked") == 0
    assert total(after, "telegate_http_connections") >= 1


@in_module_loop
async def test_what_is_told_is_what_the_reference_lists(gate: Gate) -> None:
    service, ada = gate.service(), gate.person()
    asking = service.asking(question(ada))
    await ada.taps(await gate.next_message(ada), "Yes")
    (await asking).task(200)
    await until(gate, lambda now: total(now, "telegate_webhook_ok") == 1)
    body = (await gate.request("GET", "/metrics", headers=WITH_TOKEN)).body.decode()
    told = {
        name: (kind, frozenset(labels - {"process", "le"}), "process" in labels)
        for name, kind, labels in described(body)
    }
    listed = {
        name.strip("`"): (kind, frozenset(re.findall(r"\w+", labels)), heading == "Of each process")
        for heading in ("Of each process", "Of all together")
        for name, kind, labels, _ in rows(REFERENCE.section(heading))
        if name.startswith("`")
    }
    assert told == listed


def described(body: str) -> Iterator[tuple[str, str, set[str]]]:
    """Each metric's name, type, and the labels of its samples."""
    for family in text_string_to_metric_families(body):
        name = family.name + ("_total" if family.type == "counter" else "")
        yield name, family.type, {label for sample in family.samples for label in sample.labels}


@in_module_loop
async def test_an_update_that_comes_again_is_counted_as_a_duplicate(gate: Gate) -> None:
    service, ada = gate.service(), gate.person()
    await service.asked(question(ada))
    asked = await gate.next_message(ada)
    update = press_update(person_of(ada), private_chat(ada), asked.id, asked.buttons[0].data)
    assert (await gate.webhook(update)).status == 200

    async def twice_more() -> None:
        assert [(await gate.webhook(update)).status for _ in range(2)] == [200, 200]

    assert await moved(gate, twice_more, "telegate_updates_total", effect="duplicate") == 2


@in_module_loop
async def test_an_update_that_was_put_aside_raises_the_alarm_s_counter(gate: Gate) -> None:
    async def poison() -> None:
        assert (await gate.webhook(b'{"update_id": 77000001, "message": {"message_id": null}}')).status == 200
        assert (await gate.webhook(b"no JSON at all")).status == 200

    assert await moved(gate, poison, "telegate_updates_total", effect="quarantined") == 2


@in_module_loop
async def test_a_path_that_does_not_exist_is_one_label(gate: Gate) -> None:
    async def guess() -> None:
        for path in ("/nowhere-1", "/nowhere-2", "/v1/tasks/1/2/3"):
            (await gate.request("GET", path)).problem("not_found")
        (await gate.request("PUT", "/v1/messages")).problem("method_not_allowed")

    name = "telegate_http_request_seconds_count"
    assert await moved(gate, guess, name, endpoint="unknown") == 4
    endpoints = label_values(await scraped(gate), "endpoint")
    assert not [endpoint for endpoint in endpoints if "nowhere" in endpoint or "PUT" in endpoint]


@in_module_loop
async def test_a_client_that_goes_before_its_answer_is_counted(gate: Gate) -> None:
    service, ada = gate.service(), gate.person()
    asking = service.asking(question(ada))
    await gate.next_message(ada)
    await gate.until_waiting(1)
    asking.cancel()
    await until(
        gate,
        lambda now: (
            total(now, "telegate_http_request_seconds_count", endpoint="POST /v1/questions", status="gone")
            == 1
        ),
    )


@in_module_loop
async def test_a_pause_that_telegram_asks_for_is_counted(gate: Gate) -> None:
    service, ada = gate.service(), gate.person()
    before = await scraped(gate)
    gate.sandbox.fault("too_many_requests", method="sendMessage", chat=ada.id, retry_after=1)
    (await service.send(message(ada), prefer="wait=20")).task(200)
    after = await scraped(gate)
    for name, labels in (
        ("telegate_telegram_pauses_total", {}),
        ("telegate_telegram_call_seconds_count", {"method": "sendMessage", "outcome": "too_many"}),
    ):
        assert total(after, name, **labels) - total(before, name, **labels) == 1


@in_module_loop
async def test_open_metrics_is_spoken_with_whoever_asks_for_it(gate: Gate) -> None:
    accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
    response = await gate.request("GET", "/metrics", headers={**WITH_TOKEN, "Accept": accept})
    assert response.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    parse = openmetrics.text_string_to_metric_families
    families = {family.name for family in parse(response.body.decode())}  # type: ignore[no-untyped-call]  # it brings no types
    assert {"telegate_updates", "telegate_http_request_seconds"} <= families


@in_module_loop
async def test_no_figure_holds_a_secret_or_somebody_s_id(gate: Gate) -> None:
    service, ada = gate.service(), gate.person()
    body = question(ada, metadata={"note": "canary-of-a-note"})
    task = await service.asked(body | {"text": "canary-of-a-text"})
    for header in (f"Bearer {JWT_SECRET}", f"Bearer {BOT_TOKEN}", f"Bearer {METRICS_TOKEN}"):
        await gate.request("GET", f"/v1/tasks/{BOT_TOKEN}", headers={"Authorization": header})
    told = (await gate.request("GET", "/metrics", headers=WITH_TOKEN)).body.decode()
    secrets = (
        BOT_TOKEN.partition(":")[2],
        JWT_SECRET,
        METRICS_TOKEN,
        derived_webhook_secret(),
        service.token,
    )
    # A duration may by chance have the digits of an id.
    names_and_labels = re.sub(r"(?m) \S+$", "", told)
    assert 'endpoint="GET /v1/tasks/{id}"' in names_and_labels
    for canary in (*secrets, "canary", task["id"], str(ada.id), service.name):
        assert canary not in names_and_labels


# What is wrong with the surroundings


async def test_a_refused_policy_is_a_metric(tmp_path: Path) -> None:
    async with opened(tmp_path, settings={"METRICS_TOKEN": METRICS_TOKEN}) as gate:
        assert total(await scraped(gate), "telegate_policy_refused") == 0
        (tmp_path / "permissions.yaml").write_text("version: 1\nservices: 5\n")
        await until(gate, lambda now: total(now, "telegate_policy_refused") == 1)
        (tmp_path / "permissions.yaml").write_text(POLICY)
        await until(gate, lambda now: total(now, "telegate_policy_refused") == 0)


async def test_a_stolen_webhook_is_a_metric(tmp_path: Path) -> None:
    async with opened(tmp_path, settings={"METRICS_TOKEN": METRICS_TOKEN}) as gate:
        await until(gate, lambda now: total(now, "telegate_webhook_ok") == 1)
        url = f"{gate.sandbox.api_url}/bot{BOT_TOKEN}/setWebhook"
        async with gate.session.post(url, data={"url": "https://canary-thief.example/hook"}) as response:
            assert (await response.json())["result"] is True
        # The server looks every minute; as soon as it starts, it looks at once.
        await gate.server.reload()
        stolen = await until(gate, lambda now: total(now, "telegate_webhook_trouble", trouble="stolen") == 1)
        assert total(stolen, "telegate_webhook_trouble") == 1
        assert total(stolen, "telegate_webhook_ok") == 0
        assert label_values(stolen, "trouble") >= {"stolen", "failing", "silent"}
        assert not [labels for _, labels in stolen if "canary" in str(labels)]


async def test_a_database_that_is_down_is_told_of_with_everything_else(tmp_path: Path) -> None:
    settings = {"METRICS_TOKEN": METRICS_TOKEN, "DATABASE_URL": await migrated_database()}
    async with opened(tmp_path, settings=settings) as gate:
        service = gate.service()
        before = await scraped(gate)
        assert total(before, "telegate_database_up") == 1
        [name] = label_values(before, "process")
        postgres.server().stop("immediate")
        try:
            (await service.send(message(gate.person()))).problem("storage_unavailable")
            down = await scraped(gate)
            assert total(down, "telegate_database_up") == 0
            count = "telegate_http_request_seconds_count"
            assert total(down, count, endpoint="POST /v1/messages", status="503") == 1
            assert not label_values(down, "state", "telegate_tasks")
            # A series of its own: nobody knows how much of it the others will be able to tell.
            assert label_values(down, "process") == {f"{name}/alone"}
        finally:
            postgres.server().start()
        await gate.server.until_answered("/readyz", 200)
        again = await scraped(gate)
        assert total(again, "telegate_database_up") == 1
        assert label_values(again, "process") == {name}


# Several processes


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Pair]:
    """Two servers on one PostgreSQL."""
    folder, database = tmp_path_factory.mktemp("pair"), await migrated_database()
    async with servers(folder, 2, database, METRICS_TOKEN=METRICS_TOKEN) as (here, there):
        yield Pair(here, there)


@in_module_loop
async def test_whichever_server_is_asked_tells_the_figures_of_both(pair: Pair) -> None:
    for gate in (pair.here, pair.there):
        (await gate.service().send(message(gate.person()))).task(200)
        # Asked itself, it tells what is newest; that is kept for the other one, too.
        await scraped(gate)
    for gate in (pair.here, pair.there):
        figures = await scraped(gate)
        assert len(label_values(figures, "process")) == total(figures, "telegate_processes") == 2
        name, endpoint = "telegate_http_request_seconds_count", "POST /v1/messages"
        assert [
            total(figures, name, endpoint=endpoint, status="200", process=process)
            for process in label_values(figures, "process")
        ] == [1, 1]
        once = [labels for found, labels in figures if found == "telegate_database_up"]
        assert once == [frozenset()]
        assert len([1 for found, _ in figures if found == "telegate_webhook_ok"]) <= 1


async def test_the_processes_of_one_server_are_told_whichever_of_them_answers(tmp_path: Path) -> None:
    own = {"METRICS_TOKEN": METRICS_TOKEN, "DATABASE_URL": await migrated_database(), "WEB_CONCURRENCY": "2"}
    async with opened(tmp_path, settings=own) as gate:
        figures = await until(gate, lambda now: total(now, "telegate_processes") == 2)
        assert len(label_values(figures, "process")) == 2
        numbers = {name.split("-")[-2] for name in label_values(figures, "process")}
        assert numbers == {str(number) for number in gate.server.workers}


@in_module_loop
async def test_no_counter_ever_goes_back_when_now_this_one_is_asked_and_now_that(pair: Pair) -> None:
    highest: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    for number in range(12):
        gate = pair.at(number)
        await gate.request("GET", "/v1/nowhere")
        for series, value in (await scraped(gate)).items():
            if series[0].endswith(("_total", "_count", "_bucket")):
                assert value >= highest.get(series, 0), series
                highest[series] = value


async def test_what_a_server_counted_last_is_told_after_its_end(tmp_path: Path) -> None:
    database = await migrated_database()
    async with servers(tmp_path, 2, database, METRICS_TOKEN=METRICS_TOKEN) as (here, there):
        (await there.service().send(message(there.person()))).task(200)
        await there.server.stop()
        last = await scraped(here)
        name = "telegate_http_request_seconds_count"
        assert total(last, name, endpoint="POST /v1/messages", status="200") == 1
