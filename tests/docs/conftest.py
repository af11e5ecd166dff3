"""The `telegate dev` that the commands of the pages talk to, one for each file of tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.docs.trial import Trial, running


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    """A gateway with its sandbox."""
    with running(tmp_path_factory.mktemp("trial") / "checkout") as started:
        yield started
