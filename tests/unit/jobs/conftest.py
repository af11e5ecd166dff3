"""A world whose Telegram messages are short."""

from __future__ import annotations

import pytest

from tests.fakes.formatter import PlainFormatter
from tests.fakes.world import World


@pytest.fixture
def short_messages(world: World) -> World:
    """Telegram messages of ten characters, so that a text soon needs several."""
    world.formatter = PlainFormatter(limit=10, room=0)
    return world
