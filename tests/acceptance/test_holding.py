"""How long a request is held: `Prefer`, its limits, and what comes when the time is over."""

from __future__ import annotations

import asyncio

import pytest

from tests.acceptance.contract import Json
from tests.acceptance.gateway import Gate, Service, message, opened, question

pytestmark = pytest.mark.asyncio(loop_scope="module")


def applied(value: str | None) -> dict[str, str]:
    """What `Preference-Applied` says, by name."""
    pairs = (entry.strip().partition("=") for entry in (value or "").split(",") if entry.strip())
    return {name: number for name, _, number in pairs}


async def test_when_the_time_is_over_the_task_is_found_at_its_location(gate: Gate, service: Service) -> None:
    ada = gate.person()
    first = await service.ask(question(ada), prefer="wait=1", key="k")
    task = await service.until(first.task(202)["id"], "asked")
    response = await service.ask(question(ada), prefer="wait=1", key="k")
    assert response.task(202) == task
    assert first.headers["Location"] == f"/v1/tasks/{task['id']}"
    assert response.headers["Location"] == f"/v1/tasks/{task['id']}"
    assert int(response.headers["Retry-After"]) >= 0
    assert applied(response.headers["Preference-Applied"]) == {"wait": "1"}
    again = gate.begin(service.get(response.headers["Location"], prefer="wait=20"))
    await gate.until_waiting(1)
    await ada.taps(await gate.next_message(ada), "Yes")
    answered = await again
    assert answered.task(200)["answer"]["choice"] == "yes"
    assert applied(answered.headers["Preference-Applied"]) == {"wait": "20"}
    assert gate.sends(ada) == 1


async def test_respond_async_answers_at_once(gate: Gate, service: Service) -> None:
    ada = gate.person()
    response = await service.ask(question(ada), prefer="respond-async")
    assert response.task(202)["state"] in {"queued", "sending", "asked"}
    assert "respond-async" in applied(response.headers["Preference-Applied"])
    asked = await gate.next_message(ada)
    assert asked.labels == ["Yes", "No"]


async def test_respond_async_holds_for_messages_too(gate: Gate, service: Service) -> None:
    ada = gate.person()
    task = (await service.send(message(ada), prefer="respond-async")).task(202)
    assert task["kind"] == "message"
    assert (await service.until(task["id"], "sent"))["message_ids"] == [(await gate.next_message(ada)).id]


async def test_a_get_without_prefer_answers_at_once_and_always_with_200(gate: Gate, service: Service) -> None:
    ada = gate.person()
    asked = await service.asked(question(ada))
    response = await service.get(f"/v1/tasks/{asked['id']}")
    assert response.task(200) == asked
    assert "Preference-Applied" not in response.headers


async def test_a_get_whose_wait_is_over_is_200_all_the_same(gate: Gate, service: Service) -> None:
    asked = await service.asked(question(gate.person()))
    response = await service.get(f"/v1/tasks/{asked['id']}", prefer="wait=1")
    assert response.task(200)["state"] == "asked"


async def test_a_get_of_a_final_task_does_not_wait(gate: Gate, service: Service) -> None:
    sent = (await service.send(message(gate.person()))).task(200)
    async with asyncio.timeout(10):
        assert (await service.get(f"/v1/tasks/{sent['id']}", prefer="wait=25")).task(200) == sent


async def test_many_requests_wait_for_one_task_and_all_get_the_same(gate: Gate, service: Service) -> None:
    ada = gate.person()
    asked = await service.asked(question(ada))
    waiting = [gate.begin(service.get(f"/v1/tasks/{asked['id']}", prefer="wait=20")) for _ in range(20)]
    await gate.until_waiting(20)
    await ada.taps(await gate.next_message(ada), "No")
    answers = [(await each).task(200) for each in waiting]
    assert all(answer == answers[0] for answer in answers)
    assert answers[0]["answer"]["choice"] == "no"


@pytest.mark.parametrize(
    "prefer", ["wait=20", "Wait=20", "wait = 20", 'wait="20"', "handling=lenient, wait=20"]
)
async def test_prefer_is_read_as_rfc_7240_says(gate: Gate, service: Service, prefer: str) -> None:
    response = await service.send(message(gate.person()), prefer=prefer)
    assert response.task(200)["state"] == "sent"
    assert applied(response.headers["Preference-Applied"])["wait"] == "20"


async def test_an_unknown_preference_is_ignored(gate: Gate, service: Service) -> None:
    response = await service.send(message(gate.person()), prefer="return=minimal")
    assert response.task(200)["state"] == "sent"


async def test_wait_zero_does_not_hold(gate: Gate, service: Service) -> None:
    async with asyncio.timeout(10):
        (await service.ask(question(gate.person()), prefer="wait=0")).task(202)


async def test_a_comma_within_quotes_separates_nothing(gate: Gate, service: Service) -> None:
    response = await service.send(message(gate.person()), prefer='foo="a,wait=0", wait=20')
    assert response.status == 200
    assert applied(response.headers["Preference-Applied"])["wait"] == "20"


async def test_a_wait_of_any_length_is_a_long_one(gate: Gate, service: Service) -> None:
    waits = [
        applied(
            (await service.send(message(gate.person()), prefer=f"wait={wait}")).headers["Preference-Applied"]
        )
        for wait in ("86400", "9" * 500)
    ]
    assert waits[0] == waits[1] != {}


@pytest.mark.parametrize(
    "prefer", ["wait", "wait=", "wait=soon", "wait=-1", "wait=1.5", "wait=1e3", "wait=٣"]
)
async def test_a_malformed_wait_is_refused_before_anything_is_done(
    gate: Gate, service: Service, prefer: str
) -> None:
    ada = gate.person()
    (await service.ask(question(ada), prefer=prefer)).problem("malformed")
    assert (await service.get("/v1/tasks?limit=1", prefer="")).status == 200
    assert gate.sends(ada) == 0


async def test_a_wait_over_the_maximum_is_shortened_and_the_response_says_so(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    async with opened(tmp_path_factory.mktemp("short"), settings={"MAX_WAIT_SECONDS": "1"}) as gate:
        service, ada = gate.service(), gate.person()
        for prefer in ("wait=600", "wait=999999999"):
            response = await service.ask(question(ada), prefer=prefer)
            response.task(202)
            assert applied(response.headers["Preference-Applied"]) == {"wait": "1"}
        (await service.ask(question(ada))).task(202)
        capabilities: Json = (await service.get("/v1/capabilities")).document
        assert 1 in capabilities.values()
        await gate.end_test()
