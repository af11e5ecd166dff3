"""Fixtures of the acceptance tests: one server for each module, and a fresh set of people for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator

import pytest
import pytest_asyncio

from tests.acceptance.gateway import Gate, Service, opened
from tests.acceptance.pairs import Pair, migrated_database, servers


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def module_gate(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gate]:
    """The server of this module."""
    async with opened(tmp_path_factory.mktemp("server")) as gate:
        yield gate


@pytest_asyncio.fixture(loop_scope="module")
async def gate(module_gate: Gate) -> AsyncIterator[Gate]:
    """The server of this module; at the end of each test nobody waits."""
    yield module_gate
    await module_gate.end_test()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def module_pair(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Pair]:
    """The two servers of this module."""
    async with servers(tmp_path_factory.mktemp("pair"), 2, await migrated_database()) as (here, there):
        yield Pair(here, there)


@pytest_asyncio.fixture(loop_scope="module")
async def pair(module_pair: Pair) -> AsyncIterator[Pair]:
    """The two servers; at the end of each test nobody waits at either."""
    yield module_pair
    await module_pair.end_test()


@pytest.fixture
def service(gate: Gate) -> Service:
    """A service that may do everything, everywhere."""
    return gate.service()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the end of the server's log under a failed test."""
    report = yield
    gate = getattr(item, "funcargs", {}).get("gate")
    if report.failed and isinstance(gate, Gate):
        report.sections.append(("server log", gate.server.log_tail))
    return report
