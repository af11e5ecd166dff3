"""The most telling acceptance tests once more, at servers where no hint ever arrives.

`make test-hintless` runs all of them so; these run every time.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.acceptance.gateway import Gate, Service, message
from tests.acceptance.test_following import (
    test_a_client_that_comes_back_is_told_what_it_has_missed_and_nothing_twice,
    test_a_question_is_followed_from_the_queue_to_its_answer,
)
from tests.acceptance.test_holding import (
    test_many_requests_wait_for_one_task_and_all_get_the_same,
    test_when_the_time_is_over_the_task_is_found_at_its_location,
)
from tests.acceptance.test_idempotency import (
    test_edits_and_deletions_have_keys_too,
    test_fifty_parallel_messages_with_one_key_are_one_message,
    test_fifty_parallel_posts_with_one_key_are_one_question_and_fifty_equal_answers,
)
from tests.acceptance.test_main_job import (
    test_a_second_person_is_told_who_was_first_and_the_answer_stays,
    test_of_many_taps_at_once_one_counts_and_all_others_are_told,
    test_the_message_then_shows_who_decided_what_and_when_and_has_no_buttons,
    test_the_tap_of_a_person_is_the_response_of_the_waiting_request,
)
from tests.acceptance.test_restart import (
    open_gate,
    test_a_question_survives_kill_minus_nine_and_is_not_asked_again,
    test_an_expiry_that_came_while_the_server_was_dead_is_made_up_for,
    test_sigterm_gives_every_waiting_request_its_location_and_the_next_process_goes_on,
)

# pytest collects a test wherever its name is.
__all__ = [
    "open_gate",
    "test_a_client_that_comes_back_is_told_what_it_has_missed_and_nothing_twice",
    "test_a_question_is_followed_from_the_queue_to_its_answer",
    "test_a_question_survives_kill_minus_nine_and_is_not_asked_again",
    "test_a_second_person_is_told_who_was_first_and_the_answer_stays",
    "test_an_expiry_that_came_while_the_server_was_dead_is_made_up_for",
    "test_edits_and_deletions_have_keys_too",
    "test_fifty_parallel_messages_with_one_key_are_one_message",
    "test_fifty_parallel_posts_with_one_key_are_one_question_and_fifty_equal_answers",
    "test_many_requests_wait_for_one_task_and_all_get_the_same",
    "test_of_many_taps_at_once_one_counts_and_all_others_are_told",
    "test_sigterm_gives_every_waiting_request_its_location_and_the_next_process_goes_on",
    "test_the_message_then_shows_who_decided_what_and_when_and_has_no_buttons",
    "test_the_tap_of_a_person_is_the_response_of_the_waiting_request",
    "test_when_the_time_is_over_the_task_is_found_at_its_location",
]

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module", autouse=True)
def no_hints() -> Iterator[None]:
    """Every server of this module drops every hint."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACCEPTANCE_HINTS", "dropped")
        yield


async def test_this_really_is_without_hints(gate: Gate, service: Service) -> None:
    """A send that nobody is hinted at is found by a look at what is waited for, and only so."""
    sent = (await service.send(message(gate.person()))).task(200)
    found = [line for line in gate.server.log.splitlines() if '"sweep_found"' in line]
    assert any(sent["id"] in line for line in found)
