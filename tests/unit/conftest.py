"""A gateway over fakes, in a loop that leaps over idle time; at the end nobody may still be waiting."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping

import pytest

from tests.fakes.loop import LOOPS
from tests.fakes.world import Gateway, World


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], object]]:
    return LOOPS


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
async def gateway(world: World) -> AsyncIterator[Gateway]:
    gateway = world.start()
    yield gateway
    await gateway.runner.stop(0)
    assert len(gateway.room) == 0, "Somebody kept a seat in the waiting room."
