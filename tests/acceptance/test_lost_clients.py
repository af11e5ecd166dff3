"""Services that go away while they wait: their seat is free at once, and their question stays."""

from __future__ import annotations

import pytest

from tests.acceptance.gateway import Gate, Service, question

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_client_that_goes_away_frees_its_seat_and_the_question_stays(
    gate: Gate, service: Service
) -> None:
    ada = gate.person()
    asking = service.asking(question(ada), key="gone-away")
    asked = await gate.next_message(ada)
    await gate.until_waiting(1)
    asking.cancel()
    await gate.until_waiting(0)
    again = service.asking(question(ada), key="gone-away")
    await gate.until_waiting(1)
    await ada.taps(asked, "Yes")
    assert (await again).task(200)["answer"]["choice"] == "yes"
    assert gate.sends(ada) == 1


async def test_hundred_clients_that_go_away_leave_nothing_behind(gate: Gate, service: Service) -> None:
    ada = gate.person()
    task = await service.asked(question(ada))
    waiting = [gate.begin(service.get(f"/v1/tasks/{task['id']}", prefer="wait=25")) for _ in range(100)]
    await gate.until_waiting(100)
    for call in waiting[:-1]:
        call.cancel()
    await gate.until_waiting(1)
    await ada.taps(await gate.next_message(ada), "Yes")
    assert (await waiting[-1]).task(200)["answer"]["choice"] == "yes"
