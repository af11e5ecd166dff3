"""Nobody learns from how long a refusal takes: not the webhook's secret, not whether a task exists."""

from __future__ import annotations

import ast
import hmac
import random
import re
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer, make_mocked_request

from core.model.errors import Unauthenticated
from core.model.message import Message
from core.model.question import Option, Question
from core.policy.policy import Policy, Principal, ServiceGrant, ServiceRole
from core.policy.routes import ENDPOINTS
from core.services.tasks import Submission
from handlers.application import build_application
from handlers.keys import Services
from handlers.telegram import SECRET_HEADER, receive_update
from tests.fakes.store import MemoryStore
from tests.fakes.world import ADA, BILLING, CI
from tests.test_architecture import services

HOUSE = Path(__file__).parents[3]
SECRET = "s3cr3t-of-the-webhook-" + "x" * 234
"""As long as Telegram allows (Bot API, setWebhook), so that a leak would be largest."""
UNKNOWN = "tsk_01ARZ3NDEKTSV4RRFFQ69G5FAV"
WITH_AN_ID = [endpoint for endpoint in ENDPOINTS if "{id}" in endpoint]
BODIES = {"PATCH": {"text": "Another text"}, "POST": {"text": "A reply"}}

SAMPLES = 100_000
SIGNAL = 1_000
"""Nanoseconds: a difference of medians that says something."""


# The secret of the webhook


SECRETIVE = re.compile(r"secret|signature|\bmac\b|digest|token\b", re.IGNORECASE)


def comparisons() -> Iterator[str]:
    """Where the program compares two values of which one sounds secret, and neither is written there."""
    for package in ("core", "handlers", "infra"):
        for path in sorted((HOUSE / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Eq | ast.NotEq):
                    sides = (node.left, *node.comparators)
                    if not any(isinstance(side, ast.Constant) for side in sides):
                        yield f"{path.relative_to(HOUSE)}: {ast.unparse(node)}"


def test_no_secret_and_no_signature_is_compared_but_in_constant_time() -> None:
    compared = list(comparisons())
    assert len(compared) > 50
    assert [one for one in compared if SECRETIVE.search(one.partition(": ")[2])] == []


async def test_the_webhook_s_secret_is_compared_by_compare_digest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compared: list[bytes] = []
    really = hmac.compare_digest

    def compare(one: bytes, other: bytes) -> bool:
        compared.append(one)
        return really(one, other)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    knocking = Knocking()
    for given in (SECRET[:-1], "é" * 128, "x"):
        assert knocking.is_refused(given)
    assert compared == [SECRET[:-1].encode(), ("é" * 128).encode(), b"x"]


class Knocking:
    """Updates with a guessed secret, handed to the handler without a network in between."""

    def __init__(self) -> None:
        self._app = build_application(replace(services(), webhook_secret=SECRET.encode()))

    @cache  # noqa: B019 - there is one of these in a test, and few guesses
    def request(self, given: str) -> web.Request:
        headers = {SECRET_HEADER: given}
        return make_mocked_request("POST", "/telegram/webhook", headers=headers, app=self._app)

    def is_refused(self, given: str) -> bool:
        try:
            receive_update(self.request(given)).send(None)
        except Unauthenticated:
            return True
        return False

    def nanoseconds(self, given: str) -> int:
        """How long the refusal takes; making the request is not counted."""
        handling = receive_update(self.request(given))
        begun = time.perf_counter_ns()
        try:
            handling.send(None)
        except Unauthenticated:
            return time.perf_counter_ns() - begun
        raise AssertionError("It was let in.")


def wrong_at(place: int) -> str:
    return SECRET[:place] + "~" + SECRET[place + 1 :]


def medians(measure: Callable[[str], int], kinds: Sequence[str]) -> list[float]:
    """The median for each of these inputs, all tried equally often and in no order."""
    numbers = [number for number in range(len(kinds)) for _ in range(SAMPLES // len(kinds))]
    random.shuffle(numbers)
    times: list[list[int]] = [[] for _ in kinds]
    for number in numbers:
        times[number].append(measure(kinds[number]))
    return [statistics.median(each) for each in times]


def test_how_long_a_refusal_takes_does_not_tell_how_much_of_the_secret_was_right() -> None:
    kinds = [wrong_at(0), wrong_at(0), wrong_at(len(SECRET) // 2), wrong_at(len(SECRET) - 1)]
    control, *others = medians(Knocking().nanoseconds, kinds)
    assert max(abs(one - control) for one in others) < SIGNAL, (control, others)


def test_a_comparison_that_stops_at_the_first_difference_would_be_noticed() -> None:
    secret = SECRET.encode()

    def leaky(given: str) -> int:
        begun = time.perf_counter_ns()
        assert not all(one == other for one, other in zip(given.encode(), secret, strict=True))
        return time.perf_counter_ns() - begun

    first, last = medians(leaky, [wrong_at(0), wrong_at(len(SECRET) - 1)])
    assert last - first > SIGNAL


# The ids of tasks


EVERYTHING = ServiceRole("writer", frozenset(ENDPOINTS), frozenset({"*"}))
POLICY = Policy.build(
    service_roles=[EVERYTHING],
    services=[ServiceGrant(name, frozenset({"writer"})) for name in ("ci", "billing")],
)


async def two_tasks_of(principal: Principal, made: Services) -> tuple[str, str]:
    """A message and an open question, both on their way no more."""
    message = await made.messages.send(Message("Hello"), Submission(principal, 5.0), chat=ADA.id)
    options = (Option("yes", "Yes"), Option("no", "No"))
    asked = Question(Message("Deploy?"), options=options)
    question = await made.questions.ask(asked, Submission(principal), chat=ADA.id)
    await made.tasks.runner.background.stop(5.0)
    return message.id, question.id


def without_instance(text: str) -> str:
    """A problem without the id of its request, which is another one each time."""
    return re.sub(r'"instance": "[^"]*"', "", text)


@pytest.mark.parametrize("endpoint", WITH_AN_ID)
async def test_a_foreign_task_takes_the_same_way_as_one_that_does_not_exist(endpoint: str) -> None:
    made = replace(services(), authenticate=lambda _token: BILLING, policy=lambda: POLICY)
    store = made.tasks.store
    assert isinstance(store, MemoryStore)
    foreign = await two_tasks_of(CI, made)
    method, _, path = endpoint.partition(" ")
    told: set[tuple[int, str, frozenset[tuple[str, int]]]] = set()
    async with TestClient(TestServer(build_application(made))) as client:
        for task_id in (*foreign, UNKNOWN):
            store.calls.clear()
            response = await client.request(
                method,
                path.replace("{id}", task_id),
                json=BODIES.get(method),
                headers={"Authorization": "Bearer billing", "Prefer": "wait=1"},
            )
            words = without_instance(await response.text()).replace(task_id, "ID")
            told.add((response.status, words, frozenset(store.calls.items())))
    [(status, _, calls)] = told
    assert (status, calls) in {(404, frozenset({("find", 1)})), (501, frozenset())}
