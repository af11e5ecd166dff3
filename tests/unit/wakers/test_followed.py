"""What is followed elsewhere is remembered for as long as it was announced, and no longer."""

from __future__ import annotations

from core.ports import ANNOUNCED_FOR
from infra.notify.followed import REMEMBERED, FollowedElsewhere


def test_what_was_announced_is_followed_until_that_is_over() -> None:
    elsewhere = FollowedElsewhere()
    assert elsewhere.heard(["tsk_1", "tsk_2"], 100.0) == []
    assert elsewhere.stepped(["tsk_2", "tsk_3"], 100.0) == ["tsk_2"]
    assert elsewhere.stepped(["tsk_2"], 100.0 + ANNOUNCED_FOR - 0.1) == ["tsk_2"]
    assert elsewhere.stepped(["tsk_2"], 100.0 + ANNOUNCED_FOR) == []


def test_what_is_announced_again_is_followed_for_longer() -> None:
    elsewhere = FollowedElsewhere()
    elsewhere.heard(["tsk_1"], 100.0)
    elsewhere.heard(["tsk_1"], 100.0 + ANNOUNCED_FOR / 2)
    assert elsewhere.stepped(["tsk_1"], 100.0 + ANNOUNCED_FOR) == ["tsk_1"]


def test_a_step_that_an_announcement_came_too_late_for_is_told_once_with_it() -> None:
    elsewhere = FollowedElsewhere()
    assert elsewhere.stepped(["tsk_1", "tsk_2"], 100.0) == []
    assert elsewhere.stepped(["tsk_3"], 100.0 + REMEMBERED) == []
    assert elsewhere.heard(["tsk_1", "tsk_3", "tsk_4"], 100.0 + REMEMBERED) == ["tsk_1", "tsk_3"]
    assert elsewhere.heard(["tsk_1", "tsk_3"], 100.0 + REMEMBERED) == []


def test_a_step_of_long_ago_is_told_to_nobody() -> None:
    elsewhere = FollowedElsewhere()
    elsewhere.stepped(["tsk_1"], 100.0)
    elsewhere.stepped(["tsk_2"], 100.0 + REMEMBERED)
    elsewhere.stepped(["tsk_3"], 100.0 + 2 * REMEMBERED)
    assert elsewhere.heard(["tsk_1", "tsk_2"], 100.0 + 2 * REMEMBERED) == ["tsk_2"]


def test_what_is_over_is_forgotten() -> None:
    elsewhere = FollowedElsewhere()
    for number in range(1000):
        elsewhere.heard([f"tsk_{number}"], float(number))
        elsewhere.stepped([f"tsk_other_{number}"], float(number))
    assert len(elsewhere) <= 2 * (ANNOUNCED_FOR + REMEMBERED) + 2
