"""Draining: how a process that is told to stop lets go of what waits in it."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from core.cluster.heartbeat import Heartbeat
from core.jobs.runner import Runner
from core.waiting.room import WaitingRoom
from infra.config.permissions.file import PolicyFile

STOP_GRACE: Final = 1.5
"""Seconds that calls to Telegram get to end when the process is told to stop."""


async def drain(
    policy: PolicyFile, room: WaitingRoom, runner: Runner, heartbeat: Heartbeat, _app: web.Application
) -> None:
    """Begin no more jobs, and let every waiting request answer now: with its answer, or with 202."""
    # What was revoked just now is not answered: a SIGHUP ends this process and means the new rules.
    policy.check_for_change()
    runner.background.stopping = True
    heartbeat.is_serving = False
    room.close()
