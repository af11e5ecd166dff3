"""What is followed at other processes, as far as they have announced it lately."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from core.ports import ANNOUNCED_FOR

REMEMBERED: Final = 5.0
"""Seconds for which a step that nobody follows is remembered at least: an announcement may be on its way."""


class FollowedElsewhere:
    """Remembers announcements until they are over. Times are seconds of one clock that nobody sets."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}
        self._tidy_at = 0.0
        self._steps: dict[str, None] = {}
        self._older_steps: dict[str, None] = {}
        self._older_at = 0.0

    def __len__(self) -> int:
        return len(self._until) + len(self._steps) + len(self._older_steps)

    def stepped(self, task_ids: Iterable[str], now: float) -> list[str]:
        """These tasks have made a step here; returns those of them that are followed elsewhere."""
        if now >= self._older_at:
            self._older_at = now + REMEMBERED
            self._steps, self._older_steps = {}, self._steps
        followed = []
        for task_id in task_ids:
            if self._until.get(task_id, now) > now:
                followed.append(task_id)
            else:
                self._steps[task_id] = None
        return followed

    def heard(self, task_ids: Iterable[str], now: float) -> list[str]:
        """Another process has announced these tasks; returns those that made a step here just before."""
        missed = [each for each in task_ids if each in self._steps or each in self._older_steps]
        for task_id in missed:
            self._steps.pop(task_id, None)
            self._older_steps.pop(task_id, None)
        if now >= self._tidy_at:
            self._tidy_at = now + ANNOUNCED_FOR
            self._until = {task_id: until for task_id, until in self._until.items() if until > now}
        self._until.update(dict.fromkeys(task_ids, now + ANNOUNCED_FOR))
        return missed
