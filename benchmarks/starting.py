"""How soon and how large: from the start to the first answer, and the memory of a process at rest."""

from __future__ import annotations

import statistics

from benchmarks import budgets
from benchmarks.machine import resident_bytes, wait_until_idle
from benchmarks.plan import Plan
from benchmarks.results import Budget, Finding, Row
from benchmarks.servers import Place, Server

_LIMIT = 30.0
_MIB = 1024 * 1024


def starting(place: Place, plan: Plan) -> Finding:
    """Starts in turns, on a database that is there already."""
    with place.gateway():
        """The first start makes the database, and Python's compiled files."""
    with place.bare():
        """The same."""
    ours, bare = [], []
    for _ in range(plan.starts):
        with place.bare() as server:
            bare.append(server.started_in)
        with place.gateway() as server:
            ours.append(server.started_in)
    ratio = statistics.median(one / two for one, two in zip(ours, bare, strict=True))
    judged = (Budget.at_most(budgets.START_TO_BARE, ratio, " × bare"),)
    rows = (
        Row("bare aiohttp: start → first 200", f"{statistics.median(bare):.2f} s", 1.0),
        Row("Telegate: start → first 200", f"{statistics.median(ours):.2f} s", ratio, judged),
    )
    return Finding("Starting", rows, (f"{plan.starts} starts each, in turns; /healthz is asked.",))


def memory(place: Place, plan: Plan) -> Finding:
    """The memory of one process that has started, has spoken with Telegram, and has nothing to do."""
    del plan
    with place.bare() as server:
        bare = _at_rest(server)
    with place.gateway() as server:
        server.wait_for_check("telegram")
        ours = _at_rest(server)
    judged = (Budget.at_most(budgets.MIB_AT_REST, ours, " MiB"),)
    rows = (
        Row("bare aiohttp: the serving process", f"{bare:.0f} MiB", 1.0),
        Row("Telegate: the serving process", f"{ours:.0f} MiB", ours / bare, judged),
    )
    return Finding("Memory at rest", rows, ("Shared pages are counted; gunicorn's other process is not.",))


def _at_rest(server: Server) -> float:
    wait_until_idle(server.worker, _LIMIT)
    return resident_bytes(server.worker) / _MIB
