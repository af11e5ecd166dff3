"""A loop that leaps over idle time."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from tests.fakes.loop import LOOPS


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], object]]:
    return LOOPS
