"""An outage of hints: what is told of it, and how often."""

from __future__ import annotations

import pytest

from infra.notify.outage import FAILURES_UNTIL_TROUBLE, Outage


def well() -> Outage:
    outage = Outage()
    outage.ended(0)
    return outage


def test_before_hints_have_travelled_for_the_first_time_nobody_relies_on_them(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    outage = Outage()
    assert outage.trouble == "Hints have not yet travelled between the processes."
    outage.ended(0)
    assert outage.trouble is None
    assert caplog.messages == []


def test_one_failure_is_told_and_is_no_trouble_yet(caplog: pytest.LogCaptureFixture) -> None:
    outage = well()
    assert outage.failed("The line was cut.", 0) is False
    assert outage.trouble is None
    assert caplog.messages == ["Hints do not travel between the processes. The line was cut."]


def test_the_third_failure_in_a_row_is_trouble_with_the_newest_reason(
    caplog: pytest.LogCaptureFixture,
) -> None:
    outage = well()
    reasons = ["The line was cut.", "It is still cut.", "Nobody mends it.", "It rains."]
    assert [outage.failed(reason, 0) for reason in reasons] == [False, False, True, False]
    assert outage.trouble == (
        "Hints do not travel between the processes, so each looks at the tasks it waits for every 0.5 s. "
        "It rains."
    )
    assert len(caplog.messages) == 2
    assert caplog.messages[1].endswith("Nobody mends it.")


def test_its_end_is_told_once_with_what_was_lost(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    outage = well()
    for failure in range(FAILURES_UNTIL_TROUBLE):
        outage.failed("The line was cut.", 100 + failure)
    outage.ended(107)
    assert (outage.failures, outage.trouble) == (0, None)
    assert caplog.messages[-1] == "Hints travel between the processes again. Not sent in the meantime: 7."
    before = len(caplog.messages)
    outage.ended(107)
    assert len(caplog.messages) == before


def test_the_next_outage_is_told_anew(caplog: pytest.LogCaptureFixture) -> None:
    outage = well()
    outage.failed("The line was cut.", 0)
    outage.ended(0)
    outage.failed("Cut again.", 0)
    assert [record.levelname for record in caplog.records if record.levelname == "WARNING"] == ["WARNING"] * 2
