"""What is followed elsewhere is remembered for as long as it was announced, and no longer."""

from __future__ import annotations

from core.ports import ANNOUNCED_FOR
from infra.wakers.followed import FollowedElsewhere


def test_what_was_announced_is_followed_until_that_is_over() -> None:
    elsewhere = FollowedElsewhere()
    elsewhere.heard(["tsk_1", "tsk_2"], 100.0)
    assert elsewhere.among(["tsk_2", "tsk_3"], 100.0) == ["tsk_2"]
    assert elsewhere.among(["tsk_2"], 100.0 + ANNOUNCED_FOR - 0.1) == ["tsk_2"]
    assert elsewhere.among(["tsk_2"], 100.0 + ANNOUNCED_FOR) == []


def test_what_is_announced_again_is_followed_for_longer() -> None:
    elsewhere = FollowedElsewhere()
    elsewhere.heard(["tsk_1"], 100.0)
    elsewhere.heard(["tsk_1"], 100.0 + ANNOUNCED_FOR / 2)
    assert elsewhere.among(["tsk_1"], 100.0 + ANNOUNCED_FOR) == ["tsk_1"]


def test_what_is_over_is_forgotten_with_the_next_announcements() -> None:
    elsewhere = FollowedElsewhere()
    for number in range(1000):
        elsewhere.heard([f"tsk_{number}"], float(number))
    assert len(elsewhere) <= 2 * ANNOUNCED_FOR + 1
