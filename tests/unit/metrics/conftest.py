"""An ordinary loop: an exposition is written in a thread, and a leaping loop would not wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], object]]:
    return {"ordinary": asyncio.new_event_loop}
