"""What is wrong with the webhook: one look alone does not tell, and neither does an old error."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.cluster.outage import OUTAGE
from core.model.cluster import Outage
from infra.telegram.webhook.diagnosis import Diagnosis, TroubleKind, delivery_error
from infra.telegram.webhook.state import HANDLED_UPDATES, WebhookState
from tests.fakes.clock import START

URL = "https://bot.example.com/telegram/webhook"
WELL = WebhookState(URL, 0, allowed_updates=HANDLED_UPDATES)
WAITING = replace(WELL, pending=2)
STOLEN = replace(WELL, url="https://elsewhere.example/123:token")


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def failing(seconds: float, pending: int = 1) -> WebhookState:
    return replace(WELL, pending=pending, last_error="Connection refused", last_error_at=at(seconds))


def kind(diagnosis: Diagnosis) -> str:
    return "ok" if diagnosis.trouble is None else diagnosis.trouble.kind.value


@pytest.fixture
def diagnosis() -> Diagnosis:
    return Diagnosis(URL, START)


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (WELL, "ok"),
        (replace(WELL, allowed_updates=()), "ok"),
        (replace(WELL, allowed_updates=(*HANDLED_UPDATES, "poll")), "ok"),
        (WAITING, "ok"),
        (replace(WELL, url=""), "unset"),
        (STOLEN, "stolen"),
        (replace(WELL, allowed_updates=("message",)), "partial"),
        (failing(-10), "failing"),
        (failing(-301), "ok"),
        (failing(-10, pending=0), "ok"),
    ],
)
def test_one_look_tells_what_it_can(diagnosis: Diagnosis, state: WebhookState, expected: str) -> None:
    diagnosis.look(state, START, None)
    assert kind(diagnosis) == expected
    if diagnosis.trouble is not None:
        assert diagnosis.trouble.words.endswith(("Run: telegate webhook set", "reached from outside."))


def test_where_it_went_is_told_by_the_host_alone(diagnosis: Diagnosis) -> None:
    diagnosis.look(STOLEN, START, None)
    assert diagnosis.trouble is not None
    assert diagnosis.trouble.host == "elsewhere.example"


def test_who_does_not_know_where_it_should_point_calls_nothing_stolen() -> None:
    diagnosis = Diagnosis(None, START)
    diagnosis.look(STOLEN, START, None)
    assert diagnosis.trouble is None


def test_updates_that_wait_for_long_while_none_arrives_and_no_error_is_told_are_a_silence(
    diagnosis: Diagnosis,
) -> None:
    for seconds in (0, 60, 120):
        diagnosis.look(WAITING, at(seconds), None)
        assert kind(diagnosis) == "ok"
    diagnosis.look(WAITING, at(121), None)
    assert kind(diagnosis) == "silent"
    assert diagnosis.look(WAITING, at(126), at(125)) == Outage(START, at(125))
    assert kind(diagnosis) == "ok"


def test_an_idle_night_and_then_an_update_on_its_way_are_no_silence(diagnosis: Diagnosis) -> None:
    diagnosis.look(WELL, at(0), at(-5))
    diagnosis.look(WAITING, at(36_000), at(-5))
    assert kind(diagnosis) == "ok"


def test_updates_that_wait_while_others_arrive_are_no_silence(diagnosis: Diagnosis) -> None:
    for minute in range(10):
        diagnosis.look(WAITING, at(60 * minute), at(60 * minute - 1))
        assert kind(diagnosis) == "ok"


def test_a_dropped_update_ends_no_failure_but_one_that_arrives_does(diagnosis: Diagnosis) -> None:
    diagnosis.look(failing(0), at(5), None)
    diagnosis.look(failing(0, pending=0), at(100), None)
    assert kind(diagnosis) == "failing"
    diagnosis.look(failing(0, pending=0), at(105), at(103))
    assert kind(diagnosis) == "ok"
    diagnosis.look(failing(0, pending=0), at(110), at(103))
    assert kind(diagnosis) == "ok"


def test_a_failure_of_which_nothing_more_is_heard_ends_after_five_minutes(diagnosis: Diagnosis) -> None:
    diagnosis.look(failing(1), at(5), None)
    diagnosis.look(failing(1, pending=0), at(301), None)
    assert kind(diagnosis) == "failing"
    assert diagnosis.look(failing(1, pending=0), at(302), None) == Outage(START, at(302))
    assert kind(diagnosis) == "ok"


def test_a_trouble_is_dated_from_its_first_look(diagnosis: Diagnosis) -> None:
    diagnosis.look(STOLEN, at(60), None)
    diagnosis.look(failing(64), at(65), None)
    assert diagnosis.since == at(60)
    diagnosis.look(WELL, at(70), None)
    assert diagnosis.since is None


# Outages


def test_a_long_theft_is_an_outage_when_it_is_over(diagnosis: Diagnosis) -> None:
    assert diagnosis.look(WELL, at(60), None) is None
    assert diagnosis.look(STOLEN, at(120), None) is None
    assert diagnosis.look(STOLEN, at(175), None) is None
    assert diagnosis.look(WELL, at(181), None) == Outage(at(60), at(181))
    assert diagnosis.look(WELL, at(241), None) is None


def test_a_short_theft_is_none(diagnosis: Diagnosis) -> None:
    diagnosis.look(WELL, at(60), None)
    diagnosis.look(STOLEN, at(120), None)
    assert diagnosis.look(WELL, at(125), None) is None


def test_the_first_update_that_arrives_ends_an_outage(diagnosis: Diagnosis) -> None:
    diagnosis.look(WELL, at(0), at(-9))
    diagnosis.look(failing(30), at(60), at(-9))
    diagnosis.look(failing(150), at(155), at(-9))
    # One chat's updates still wait for Telegram's next try; the others' arrive.
    assert diagnosis.look(failing(150), at(200), at(198)) == Outage(at(0), at(198))
    assert diagnosis.look(failing(150), at(330), at(198)) is None


def test_an_update_of_which_another_process_tells_late_does_not_cover_up_an_outage(
    diagnosis: Diagnosis,
) -> None:
    diagnosis.look(WELL, at(60), None)
    diagnosis.look(STOLEN, at(120), None)
    diagnosis.look(STOLEN, at(125), at(59))
    assert diagnosis.look(WELL, at(181), at(59)) == Outage(at(60), at(181))


def test_a_failure_from_before_the_start_is_no_outage_of_this_process(diagnosis: Diagnosis) -> None:
    for seconds in (1, 60, 130):
        assert diagnosis.look(failing(-1), at(seconds), None) is None
        assert kind(diagnosis) == "failing"
    assert diagnosis.look(WELL, at(140), at(139)) is None


LOOKS = st.lists(
    st.tuples(
        st.floats(1, 90),
        st.sampled_from(["well", "waiting", "stolen", "unset", "failing", "dropped"]),
        st.booleans(),
    ),
    max_size=30,
)


@given(LOOKS)
def test_an_outage_is_long_holds_no_arrival_and_is_told_once(looks: list[tuple[float, str, bool]]) -> None:
    diagnosis = Diagnosis(URL, START)
    now, arrivals, ended = 0.0, [START], START
    for pause, what, arrives in looks:
        now += pause
        if arrives:
            arrivals.append(at(now - 0.5))
        state = {
            "well": WELL,
            "waiting": WAITING,
            "stolen": STOLEN,
            "unset": replace(WELL, url=""),
            "failing": failing(now - 0.1),
            "dropped": failing(now - 0.1, pending=0),
        }[what]
        outage = diagnosis.look(state, at(now), arrivals[-1] if len(arrivals) > 1 else None)
        if what == "well":
            assert diagnosis.trouble is None
        if outage is not None:
            assert outage.ended - outage.began > OUTAGE
            assert not [arrival for arrival in arrivals if outage.began < arrival < outage.ended]
            assert outage.began >= ended
            ended = outage.ended


@given(LOOKS)
def test_silence_is_only_told_when_updates_wait_and_none_came_for_two_minutes(
    looks: list[tuple[float, str, bool]],
) -> None:
    diagnosis = Diagnosis(URL, START)
    now, last = 0.0, 0.0
    for pause, what, arrives in looks:
        now += pause
        last = now if arrives else last
        state = WAITING if what in {"waiting", "failing"} else WELL
        diagnosis.look(state, at(now), at(last) if last else None)
        if kind(diagnosis) == TroubleKind.SILENT.value:
            assert state.pending
            assert now - last > 120


@pytest.mark.parametrize(
    ("told", "advice"),
    [
        ("Wrong response from the webhook: 401 Unauthorized", "Run: telegate webhook set"),
        ("Wrong response from the webhook: 403 Forbidden", "set TRUSTED_PROXIES to"),
        ("Connection timed out", "Check that the address is reached from outside."),
        (None, "It does not say why. Check that"),
    ],
)
def test_what_telegram_says_of_failed_deliveries_comes_with_what_to_do(told: str | None, advice: str) -> None:
    assert advice in delivery_error(told)
