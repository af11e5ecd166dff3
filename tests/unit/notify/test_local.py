"""Hints inside one process."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest

from infra.notify.local import LocalNotifier


def test_a_hint_reaches_every_subscriber_with_every_id() -> None:
    heard: list[tuple[str, list[str]]] = []

    def subscribe(name: str) -> None:
        def hear(ids: Iterable[str]) -> None:
            heard.append((name, list(ids)))

        notifier.subscribe(hear)

    notifier = LocalNotifier()
    notifier.hint(["tsk_0"])
    subscribe("one")
    subscribe("other")
    notifier.hint(task_id for task_id in ("tsk_1", "tsk_2"))
    assert heard == [("one", ["tsk_1", "tsk_2"]), ("other", ["tsk_1", "tsk_2"])]


async def test_nothing_is_ever_missed() -> None:
    notifier = LocalNotifier()
    notifier.hint(["tsk_0"])
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(notifier.missed(), 3600)
    assert (notifier.trouble, notifier.dropped) == (None, 0)
