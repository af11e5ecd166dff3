"""The waiting room: the only holder of Futures. A Future only says "look now"; the row is the truth."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from core.model.task import Progress


class Seat:
    """One waiter's place; it must be taken before the row is read, so that no hint falls between.

    Attributes:
        seen: how many steps the task had made when the waiter read its row last; None before that.
        steps_matter: whether every step is waited for, and not the end alone.
    """

    __slots__ = ("_future", "_room", "left", "reminder", "seen", "steps_matter", "task_id")

    def __init__(self, room: WaitingRoom, task_id: str, *, steps_matter: bool) -> None:
        self._room = room
        self._future: asyncio.Future[None] | None = None
        self.task_id = task_id
        self.steps_matter = steps_matter
        self.left = False
        self.reminder: float | None = None
        self.seen: int | None = None

    @property
    def is_in_closed_room(self) -> bool:
        """Whether nobody is to wait here any more."""
        return self._room.closed

    def wake(self) -> None:
        """Let the waiter look at its row, now or as soon as it starts to wait."""
        future = self._renewed()
        if not future.done():
            future.set_result(None)

    async def hinted(self, deadline: float) -> bool:
        """Wait for a hint.

        Args:
            deadline: when to give up, in the loop's time (seconds).

        Returns:
            Whether it is worth waiting on: False when the time is up or the room has closed.
        """
        future = self._renewed()
        self._room.remind(self, deadline)
        await future
        self._future = None
        return not (self.left or self._room.closed or asyncio.get_running_loop().time() >= deadline)

    def _renewed(self) -> asyncio.Future[None]:
        if self._future is None:
            self._future = asyncio.get_running_loop().create_future()
            if self._room.closed:
                self._future.set_result(None)
        return self._future


class WaitingRoom:
    """Who waits for which task. Costs a seat per waiter: no asyncio.Task, no timer, no query of its own."""

    def __init__(self) -> None:
        self._seats: dict[str, set[Seat]] = {}
        self._taken = 0
        self._deadlines: list[tuple[float, int, Seat]] = []
        self._order = itertools.count()
        self._timer: asyncio.TimerHandle | None = None
        self.closed = False

    def __len__(self) -> int:
        return self._taken

    @property
    def task_ids(self) -> Sequence[str]:
        """The tasks that somebody is waiting for."""
        return list(self._seats)

    @contextmanager
    def seat(self, task_id: str, *, steps_matter: bool = False) -> Iterator[Seat]:
        """Take a seat; it is free again when the block ends, however it ends."""
        seat = Seat(self, task_id, steps_matter=steps_matter)
        self._seats.setdefault(task_id, set()).add(seat)
        self._taken += 1
        try:
            yield seat
        finally:
            seat.left = True
            self._leave(seat)

    def wake(self, task_ids: Iterable[str]) -> None:
        """Let everybody who waits for one of these tasks look at its row."""
        for task_id in task_ids:
            for seat in self._seats.get(task_id, ()):
                seat.wake()

    def wake_unaware(self, progress: Mapping[str, Progress]) -> None:
        """Let those look who wait for what has happened already, and were not told."""
        for task_id, (steps, final) in progress.items():
            for seat in self._seats.get(task_id, ()):
                if final or (seat.steps_matter and seat.seen != steps):
                    seat.wake()

    def close(self) -> None:
        """Let everybody look a last time, and nobody wait any more."""
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
        self.wake(self.task_ids)

    def remind(self, seat: Seat, deadline: float) -> None:
        """Wake a seat at its deadline (the loop's time), with one timer for the whole room."""
        if seat.reminder == deadline:
            return
        seat.reminder = deadline
        earliest = self._deadlines[0][0] if self._deadlines else None
        heapq.heappush(self._deadlines, (deadline, next(self._order), seat))
        if earliest is None or deadline < earliest:
            self._set_timer()

    def _leave(self, seat: Seat) -> None:
        seats = self._seats[seat.task_id]
        seats.discard(seat)
        self._taken -= 1
        if not seats:
            del self._seats[seat.task_id]
        if len(self._deadlines) > max(64, 2 * self._taken):
            # Waiters that left early leave their reminders behind; drop those once they are the most.
            self._deadlines = [entry for entry in self._deadlines if not entry[2].left]
            heapq.heapify(self._deadlines)

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        if self._deadlines and not self.closed:
            self._timer = asyncio.get_running_loop().call_at(self._deadlines[0][0], self._ring)

    def _ring(self) -> None:
        now = asyncio.get_running_loop().time()
        while self._deadlines and (self._deadlines[0][0] <= now or self._deadlines[0][2].left):
            deadline, _, seat = heapq.heappop(self._deadlines)
            if not seat.left and seat.reminder == deadline:
                seat.reminder = None
                seat.wake()
        self._set_timer()
