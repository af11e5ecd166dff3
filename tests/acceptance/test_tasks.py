"""Tasks: looked up, listed, cancelled; and never seen by another service."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from tests.acceptance.contract import Json, Response, check_task
from tests.acceptance.gateway import Gate, Service, message, question

pytestmark = pytest.mark.asyncio(loop_scope="module")

MISSING = "tsk_01K3ZQ8T7M9V5B2N4C6D8F0G1H"


def ids(response: Response) -> list[str]:
    assert response.status == 200, response.told()
    assert set(response.document) == {"items", "next"}
    for task in response.document["items"]:
        check_task(task)
    return [task["id"] for task in response.document["items"]]


async def some(gate: Gate, service: Service, count: int) -> list[str]:
    """Messages to one new person, newest first."""
    ada = gate.person()
    made = [(await service.send(message(ada, f"No. {number}"))).task(200) for number in range(count)]
    return [task["id"] for task in reversed(made)]


async def test_a_list_is_newest_first_and_holds_whole_tasks(gate: Gate, service: Service) -> None:
    made = await some(gate, service, 3)
    response = await service.get("/v1/tasks")
    assert ids(response) == made
    assert response.document["next"] is None
    assert response.document["items"][0] == await service.task(made[0])


async def test_ids_sort_by_time(gate: Gate, service: Service) -> None:
    made = await some(gate, service, 5)
    assert sorted(made, reverse=True) == made


async def test_pages_follow_the_cursor_and_miss_nothing(gate: Gate, service: Service) -> None:
    made = await some(gate, service, 7)
    found: list[str] = []
    path: str | None = "/v1/tasks?limit=3"
    sizes = []
    while path is not None:
        page = await service.get(path)
        found += ids(page)
        sizes.append(len(page.document["items"]))
        cursor = page.document["next"]
        path = None if cursor is None else f"/v1/tasks?limit=3&cursor={quote(cursor)}"
    assert found == made
    assert sizes == [3, 3, 1]


async def test_a_page_that_ends_with_the_last_task_has_no_next(gate: Gate, service: Service) -> None:
    await some(gate, service, 2)
    assert (await service.get("/v1/tasks?limit=2")).document["next"] is None


async def test_a_task_made_meanwhile_does_not_move_the_pages(gate: Gate, service: Service) -> None:
    made = await some(gate, service, 4)
    first = await service.get("/v1/tasks?limit=2")
    await some(gate, service, 1)
    second = await service.get(f"/v1/tasks?limit=2&cursor={quote(first.document['next'])}")
    assert ids(first) + ids(second) == made


async def test_a_list_holds_fifty_unless_a_limit_says_otherwise(gate: Gate, service: Service) -> None:
    await some(gate, service, 52)
    first = await service.get("/v1/tasks")
    assert len(ids(first)) == 50
    assert first.document["next"] is not None
    assert len(ids(await service.get("/v1/tasks?limit=200"))) == 52


async def test_filters_narrow_the_list(gate: Gate, service: Service) -> None:
    ada, grace = gate.person(), gate.person()
    sent = (await service.send(message(ada))).task(200)
    asked = await service.asked(question(grace))
    failed = (await service.send(message(1337))).problem("recipient_unreachable")["task"]
    wanted = {
        "state=sent": [sent["id"]],
        "state=asked": [asked["id"]],
        "state=failed": [failed["id"]],
        "state=expired": [],
        "kind=question": [asked["id"]],
        "kind=message": [failed["id"], sent["id"]],
        "kind=message&state=sent": [sent["id"]],
        f"chat={ada.id}": [sent["id"]],
        f"chat={grace.id}&kind=question": [asked["id"]],
        "chat=ops": [],
        f"since={quote(asked['created_at'])}": [failed["id"], asked["id"]],
        "since=2001-01-01T00:00:00Z": [failed["id"], asked["id"], sent["id"]],
        "since=2001-01-01t00:00:00.123456789z": [failed["id"], asked["id"], sent["id"]],
        "since=2999-01-01T00:00:00Z": [],
    }
    for query, expected in wanted.items():
        assert ids(await service.get(f"/v1/tasks?{query}")) == expected, query


async def test_a_filter_by_alias_finds_the_chat(gate: Gate, service: Service) -> None:
    sent = (await service.send(message("ops"))).task(200)
    assert ids(await service.get("/v1/tasks?chat=ops")) == [sent["id"]]
    assert ids(await service.get("/v1/tasks?chat=-1001234567890")) == [sent["id"]]


BAD_QUERIES = [
    "limit=0",
    "limit=201",
    "limit=ten",
    "limit=-1",
    "limit=1.5",
    "limit=",
    "limit=5_0",
    "limit=%2B5",
    "limit=%205",
    "limit=%D9%A5",
    "cursor=nonsense",
    "cursor=tsk_IIIIIIIIIIIIIIIIIIIIIIIIII",
    "cursor=tsk_01m836fxf0em36snz0gk1dq6vp",
    "since=0001-01-01T00:00:00%2B23:59",
    "since=9999-12-31T23:59:59-23:59",
    "since=2026-W48-1T04:00:00Z",
    "since=20261123T040000Z",
    "since=2026-11-23T04Z",
    "since=2026-11-23T04:00:00,5Z",
    "cursor=",
    "cursor=%00",
    "state=done",
    "kind=mail",
    "chat=nowhere",
    "since=yesterday",
    "since=2026-13-01T00:00:00Z",
    "unknown=1",
    "limit=1&limit=2",
]


@pytest.mark.parametrize("query", BAD_QUERIES)
async def test_a_query_that_makes_no_sense_is_refused(gate: Gate, service: Service, query: str) -> None:
    response = await service.get(f"/v1/tasks?{query}")
    assert response.status in {400, 422}, response.told()
    assert response.document["code"] in {"malformed", "invalid"}


async def test_another_service_s_task_is_as_if_it_did_not_exist(gate: Gate, service: Service) -> None:
    asked = await service.asked(question(gate.person()))
    stranger = gate.service()
    for method in ("GET", "DELETE"):
        theirs = await stranger.call(method, f"/v1/tasks/{asked['id']}")
        missing = await stranger.call(method, f"/v1/tasks/{MISSING}")
        assert _without_names(theirs, asked["id"]) == _without_names(missing, MISSING)
    assert ids(await stranger.get("/v1/tasks")) == []
    assert (await service.task(asked["id"]))["state"] == "asked"


async def test_a_foreign_task_is_missing_for_a_waiting_request_too(gate: Gate, service: Service) -> None:
    asked = await service.asked(question(gate.person()))
    (await gate.service().get(f"/v1/tasks/{asked['id']}", prefer="wait=5")).problem("not_found")


@pytest.mark.parametrize("task_id", ["x", "tsk_", "tsk_" + "I" * 26, MISSING.lower(), "%00", "a%2fb", "é"])
async def test_an_id_that_is_none_is_not_found(gate: Gate, service: Service, task_id: str) -> None:
    (await service.get(f"/v1/tasks/{task_id}")).problem("not_found")
    (await service.call("DELETE", f"/v1/tasks/{task_id}")).problem("not_found")


async def test_only_an_open_question_can_be_cancelled_and_only_once(gate: Gate, service: Service) -> None:
    ada = gate.person()
    asked = await service.asked(question(ada))
    path = f"/v1/tasks/{asked['id']}"
    assert (await service.call("DELETE", path)).task(200)["state"] == "cancelled"
    problem = (await service.call("DELETE", path)).problem("already_final")
    assert problem["task"]["state"] == "cancelled"
    sent = (await service.send(message(ada))).task(200)
    problem = (await service.call("DELETE", f"/v1/tasks/{sent['id']}")).problem("already_final")
    assert problem["task"]["id"] == sent["id"]


async def test_an_answered_question_cannot_be_cancelled(gate: Gate, service: Service) -> None:
    ada = gate.person()
    asking = service.asking(question(ada))
    await ada.taps(await gate.next_message(ada), "Yes")
    task = (await asking).task(200)
    problem = (await service.call("DELETE", f"/v1/tasks/{task['id']}")).problem("already_final")
    assert problem["task"] == task


async def test_the_end_is_the_same_for_every_way_to_see_it(gate: Gate, service: Service) -> None:
    ada = gate.person()
    asking = service.asking(question(ada), key="k")
    await ada.taps(await gate.next_message(ada), "Yes")
    task: Json = (await asking).task(200)
    assert await service.task(task["id"]) == task
    assert (await service.get("/v1/tasks?limit=1")).document["items"] == [task]
    assert (await service.ask(question(ada), key="k")).task(200) == task


def _without_names(response: Response, task_id: str) -> Json:
    response.problem("not_found")
    text = response.body.decode().replace(task_id, "…")
    return {
        "body": text.replace(response.headers["X-Request-Id"], "…"),
        "headers": sorted(set(response.headers) - {"Date"}),
        "length": len(text) - len(response.headers["X-Request-Id"]),
    }
