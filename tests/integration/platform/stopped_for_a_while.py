"""A process that is stopped for a second and a half, while an impatient watchdog looks at its loop."""

from __future__ import annotations

import asyncio
import os
import subprocess

from infra.observability.watchdog import LoopWatchdog


async def _main() -> None:
    with LoopWatchdog(limit=0.3, tick=0.05):
        await asyncio.sleep(0.2)
        waker = subprocess.Popen(  # noqa: ASYNC220 - it lives on while this process stands still
            ["/bin/sh", "-c", f"kill -STOP {os.getpid()}; sleep 1.5; kill -CONT {os.getpid()}"]
        )
        print("stopped", flush=True)  # noqa: T201 - the test reads it
        while waker.poll() is None:  # noqa: ASYNC110 - the process stands still in between
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.5)
        print("went-on", flush=True)  # noqa: T201 - the same


asyncio.run(_main())
