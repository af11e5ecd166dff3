"""What holds for every test: the order, what is measured, and that Hypothesis looks at no clock."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from coverage import Coverage
from hypothesis import HealthCheck, settings

# A busy machine proves nothing.
settings.register_profile("busy machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy machine")

_SLOWEST_FIRST: Final = (
    "nemesis/",
    "unit/jobs/test_state_machine.py",
    "acceptance/",
    "browser/",
    "docs/",
    "integration/",
)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest: at the end, two workers would wait for the third that began it last."""
    items.sort(key=_place)


def _place(item: pytest.Item) -> int:
    path = item.path.relative_to(Path(__file__).parent).as_posix()
    places = (place for place, start in enumerate(_SLOWEST_FIRST) if path.startswith(start))
    return next(places, len(_SLOWEST_FIRST))


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
