"""Several servers on one PostgreSQL: whoever asks, waits, taps or repeats may be connected to any of them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from infra.config.postgres_address import PostgresAddress
from tests import postgres
from tests.acceptance.contract import Json, Response
from tests.acceptance.gateway import (
    Gate,
    NoResponse,
    Service,
    application,
    message,
    question,
)
from tests.acceptance.pairs import Pair, migrated_database, same_service, servers, told, until_hints
from tests.acceptance.updates import group_chat, person_of, press_update, private_chat
from tests.integration.notify.processes import TransactionPooler

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_what_a_person_taps_at_one_server_is_the_response_of_the_other(pair: Pair) -> None:
    service, ada = pair.here.service(), pair.here.person()
    asking = service.asking(question(ada))
    asked = await pair.here.next_message(ada)
    await pair.here.until_waiting(1)
    await ada.taps(asked, "Yes")
    task = (await asking).task(200)
    assert (task["answer"]["choice"], task["answer"]["by"]["id"]) == ("yes", ada.id)
    await pair.here.until_edited(asked)
    assert asked.buttons == []


@pytest.mark.skipif(application() != "infra.app:create_app", reason="Here no hint arrives, on purpose.")
async def test_a_hint_and_not_the_look_every_two_seconds_brings_the_answer_over(pair: Pair) -> None:
    service, people = pair.here.service(), [pair.here.person() for _ in range(10)]
    answered = []
    for person in people:
        asking = service.asking(question(person))
        asked = await pair.here.next_message(person)
        await pair.here.until_waiting(1)
        await person.taps(asked, "Yes")
        answered.append((await asking).task(200)["id"])
    # A look may happen to come in the instant between a commit and its hint, but not nearly each time.
    # Its line may be written after the answer, when a look happened to be quicker.
    await pair.here.sandbox.wait_for(lambda: set(answered) <= told(pair.here, "hints_received"))
    assert len(told(pair.here, "sweep_found") & set(answered)) <= len(answered) / 2


async def test_fifty_posts_with_one_key_at_two_servers_are_one_question_and_fifty_equal_answers(
    pair: Pair,
) -> None:
    services, ada = same_service(pair), pair.here.person()
    posts = [services[number % 2].asking(question(ada), key="deploy-1234") for number in range(50)]
    asked = await pair.here.next_message(ada)
    await pair.until_waiting(50)
    assert await pair.here.waiters() == 25
    await ada.taps(asked, "No")
    answers = [(await post).task(200) for post in posts]
    assert all(answer == answers[0] for answer in answers)
    assert answers[0]["answer"]["choice"] == "no"
    assert pair.here.sends(ada) == 1


async def test_fifty_messages_with_one_key_at_two_servers_are_one_message(pair: Pair) -> None:
    services, ada = same_service(pair), pair.here.person()
    posts = await asyncio.gather(*(services[number % 2].send(message(ada), key="k") for number in range(50)))
    tasks = [post.task(200) for post in posts]
    assert all(task == tasks[0] for task in tasks)
    assert pair.here.sends(ada) == 1


async def test_of_many_taps_at_both_servers_the_first_wins_and_everybody_sees_the_same(
    pair: Pair,
) -> None:
    (here, there), people = same_service(pair), [pair.here.person() for _ in range(30)]
    group = pair.here.group(*people)
    respondents = {"people": [person.id for person in people]}
    asking = here.asking(question(group, respondents=respondents))
    asked = await pair.here.next_message(group)
    await pair.here.until_waiting(1)
    data = [button.data for button in asked.buttons]
    taps = [
        pair.at(number).webhook(
            press_update(person_of(person), group_chat(group), asked.id, data[number // 2 % 2])
        )
        for number, person in enumerate(people)
    ]
    assert {response.status for response in await asyncio.gather(*taps)} == {200}
    task = (await asking).task(200)
    assert len(task["answers"]) == 1
    assert await there.task(task["id"]) == await here.task(task["id"]) == task


async def test_an_update_that_comes_to_both_servers_has_one_effect(pair: Pair) -> None:
    service, ada = pair.here.service(), pair.here.person()
    asking = service.asking(question(ada))
    asked = await pair.here.next_message(ada)
    pressed = press_update(person_of(ada), private_chat(ada), asked.id, asked.button("Yes").data)
    taps = await asyncio.gather(*(pair.at(number).webhook(pressed) for number in range(20)))
    assert {response.status for response in taps} == {200}
    assert len((await asking).task(200)["answers"]) == 1


async def test_a_cancellation_at_one_server_ends_the_wait_at_the_other(pair: Pair) -> None:
    (here, there), ada = same_service(pair), pair.here.person()
    asking = here.asking(question(ada), key="k")
    await pair.here.next_message(ada)
    await pair.here.until_waiting(1)
    listed: Json = (await there.get("/v1/tasks")).document["items"]
    assert (await there.call("DELETE", f"/v1/tasks/{listed[0]['id']}")).task(200)["state"] == "cancelled"
    assert (await asking).task(200)["state"] == "cancelled"


async def test_each_server_says_how_it_does_and_that_it_is_not_alone(pair: Pair) -> None:
    for gate in (pair.here, pair.there):
        checks = (await gate.request("GET", "/readyz")).document["checks"]
        assert (checks["database"], checks["hints"]) == ("ok", "ok")


async def test_a_question_of_a_killed_server_goes_on_at_the_other(tmp_path: Path) -> None:
    async with servers(tmp_path, 2, await migrated_database()) as (here, there):
        service, ada = here.service(), here.person()
        elsewhere = Service(there, service.name, there.token(service.name, "everything"))
        asking = service.asking(question(ada), key="k")
        asked = await here.next_message(ada)
        await here.until_waiting(1)
        await here.server.kill()
        with pytest.raises(NoResponse):
            await asking
        again = elsewhere.asking(question(ada), key="k")
        await there.until_waiting(1)
        await ada.taps(asked, "Yes")
        assert (await again).task(200)["answer"]["choice"] == "yes"
        assert there.sends(ada) == 1


async def test_when_the_database_restarts_waiting_requests_stay_and_get_their_answers(
    tmp_path: Path,
) -> None:
    async with servers(tmp_path, 2, await migrated_database()) as (here, there):
        pair, people = Pair(here, there), [here.person() for _ in range(20)]
        service, elsewhere = same_service(pair)
        waiting = [(service, elsewhere)[n % 2].asking(question(who)) for n, who in enumerate(people)]
        asked = [await here.next_message(person) for person in people]
        await pair.until_waiting(20)
        postgres.server().stop()
        taps = [await person.taps(shown, "Yes") for person, shown in zip(people[:5], asked[:5], strict=True)]
        postgres.server().start()
        taps += [await person.taps(shown, "Yes") for person, shown in zip(people[5:], asked[5:], strict=True)]
        responses: list[Response] = [await each for each in waiting]
        assert {response.task(200)["answer"]["choice"] for response in responses} == {"yes"}
        assert [here.sends(person) for person in people] == [1] * len(taps)


@pytest.mark.slow
async def test_when_a_pooler_begins_to_keep_hints_back_the_servers_say_so_and_go_on(
    tmp_path: Path,
) -> None:
    name = PostgresAddress.parse(await migrated_database()).place.partition(" ")[0]
    async with TransactionPooler(postgres.server().port) as pooler:
        pooler.keeps_back = False
        url = postgres.server().tcp_url(name, port=pooler.port) + "?sslmode=disable"
        async with servers(tmp_path, 2, url) as (here, there):
            pooler.keeps_back = True
            # An echo each 10 s that may take 5 s, and twice more 5 s with pauses of up to 2 s.
            said = await until_hints(here, lambda said: "polling every" in said, within=60)
            assert "A connection pooler in transaction mode would explain it" in said
            assert (await here.request("GET", "/readyz")).document["ready"] is True
            service, ada = here.service(), here.person()
            asking = service.asking(question(ada))
            asked = await here.next_message(ada)
            await here.until_waiting(1)
            await ada.taps(asked, "Yes")
            task = (await asking).task(200)
            assert task["answer"]["choice"] == "yes"
            assert task["id"] in told(here, "sweep_found") - told(here, "hints_received")
            pooler.keeps_back = False
            for gate in (here, there):
                await until_hints(gate, lambda said: said == "ok", within=60)


async def test_two_processes_of_one_server_are_as_one(tmp_path: Path) -> None:
    async with servers(tmp_path, 1, await migrated_database(), WEB_CONCURRENCY="2") as (gate,):
        service, ada = gate.service(), gate.person()
        posts = [service.asking(question(ada), key="k")]
        asked = await gate.next_message(ada)
        async with asyncio.timeout(20):
            # The system hands each connection to the one process or the other, not always fairly.
            while not await both_hold_some(gate, len(posts)):
                posts += [service.asking(question(ada), key="k") for _ in range(10)]
        await ada.taps(asked, "Yes")
        answers = [(await post).task(200) for post in posts]
        assert all(answer == answers[0] for answer in answers)
        assert gate.sends(ada) == 1


async def both_hold_some(gate: Gate, waiting: int) -> bool:
    """Whether all these requests wait, some in each process. An odd number is never halved evenly."""
    assert waiting % 2
    held: set[int] = set()
    for _ in range(10):
        response = await gate.request("GET", "/readyz", headers={"Connection": "close"})
        held.add(response.document["waiters"])
    return len(held) == 2 and sum(held) == waiting
