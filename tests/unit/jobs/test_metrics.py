"""The runner counts each task once, by its kind and its end."""

from __future__ import annotations

from core.model.transition import TaskState
from tests.fakes.world import Gateway


def finished(gateway: Gateway) -> dict[tuple[str, ...], int]:
    return {labels: count for labels, count in gateway.runner.finished.items() if count}


async def test_each_task_counts_once_by_its_end(gateway: Gateway) -> None:
    await gateway.tell("hello")
    await gateway.ask("Deploy?")
    await gateway.settled()
    assert finished(gateway) == {("message", "sent"): 1}
    await gateway.press("Deploy")
    await gateway.press("Deploy")
    await gateway.settled()
    assert finished(gateway) == {("message", "sent"): 1, ("question", "answered"): 1}


async def test_an_end_that_never_came_is_counted_as_none_so_that_the_first_one_shows(
    gateway: Gateway,
) -> None:
    counted = dict(gateway.runner.finished.items())
    assert set(counted.values()) == {0}
    assert {kind for kind, state in counted if state == TaskState.UNKNOWN} == {
        "message",
        "question",
        "edit",
        "deletion",
    }
    assert ("message", "answered") not in counted
