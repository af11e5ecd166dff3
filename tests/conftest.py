"""What holds for every test: Hypothesis measures no time, because a busy machine proves nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from coverage import Coverage
from hypothesis import HealthCheck, settings

settings.register_profile("busy machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy machine")


@pytest.fixture(autouse=True)
def _properties_are_not_measured(request: pytest.FixtureRequest) -> Iterator[None]:
    """Thousands of generated cases go the ways that examples go, too; measuring them doubles their time."""
    coverage = Coverage.current() if request.node.get_closest_marker("hypothesis") else None
    if coverage is None:
        yield
        return
    coverage.stop()
    yield
    coverage.start()
