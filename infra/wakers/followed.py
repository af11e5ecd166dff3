"""What is followed at other processes, as far as they have announced it lately."""

from __future__ import annotations

from collections.abc import Iterable

from core.ports import ANNOUNCED_FOR


class FollowedElsewhere:
    """Remembers announcements until they are over. Times are seconds of one clock that nobody sets."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}
        self._tidy_at = 0.0

    def __len__(self) -> int:
        return len(self._until)

    def heard(self, task_ids: Iterable[str], now: float) -> None:
        """Another process has announced these tasks."""
        self._until.update(dict.fromkeys(task_ids, now + ANNOUNCED_FOR))
        if now >= self._tidy_at:
            self._tidy_at = now + ANNOUNCED_FOR
            self._until = {task_id: until for task_id, until in self._until.items() if until > now}

    def among(self, task_ids: Iterable[str], now: float) -> list[str]:
        """Those of these tasks that are followed elsewhere."""
        return [task_id for task_id in task_ids if self._until.get(task_id, now) > now]
