"""A task is followed as a stream of events: each change as it comes, up to the end, across every gap."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from pathlib import Path

import pytest

from tests.acceptance import gateway
from tests.acceptance.contract import Json
from tests.acceptance.gateway import Gate, Service, application, message, opened, question
from tests.acceptance.policies import POLICY
from tests.acceptance.streams import Stream, following, told_in_full

pytestmark = pytest.mark.asyncio(loop_scope="module")

HINTS_TRAVEL = application() == "infra.app:create_app"
UNKNOWN = "tsk_01K3ZQ8T7M9V5B2N4C6D8F0G1H"


async def raw(gate: Gate, said: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection of its own that has sent this."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(gate.server.settings["PORT"]))
    writer.write(said.encode())
    return reader, writer


def asking_for_events(service: Service, task_id: str, version: str = "1.1", *more: str) -> str:
    lines = (
        f"GET /v1/tasks/{task_id}/events HTTP/{version}",
        "Host: 127.0.0.1",
        f"Authorization: Bearer {service.token}",
        *more,
    )
    return "\r\n".join((*lines, "", ""))


# What comes


async def test_a_question_is_followed_from_the_queue_to_its_answer(gate: Gate, service: Service) -> None:
    ada = gate.person()
    async with contextlib.AsyncExitStack() as outage:
        await outage.enter_async_context(gate.sandbox.down())
        created = (await service.ask(question(ada), prefer="respond-async")).task(202)
        await service.until(created["id"], "queued")
        async with following(service, created["id"]) as stream:
            assert await stream.state() == "queued"
            await outage.aclose()
            # Another try may have failed meanwhile; each of them is told.
            assert set(await stream.until("asked")) <= {"queued", "sending", "asked"}
            await ada.taps(await gate.next_message(ada), "Yes")
            event = await stream.next()
            assert event is not None
            assert (event.task["state"], event.task["answer"]["choice"]) == ("answered", "yes")
            assert event.task == await service.task(created["id"])
            await stream.ended()


async def test_the_answer_to_a_stream_says_what_it_is(gate: Gate, service: Service) -> None:
    task = await service.asked(question(gate.person()))
    async with following(service, task["id"]) as stream:
        headers = stream.response.headers
        assert stream.response.status == 200
        assert headers["Content-Type"] == "text/event-stream"
        assert headers["Cache-Control"] == "no-store"
        assert headers["X-Accel-Buffering"] == "no"
        event = await stream.next()
        assert event is not None
        assert event.task == task
        [retry] = stream.retries
        assert 1000 <= retry <= 3000


async def test_a_task_that_is_final_already_is_one_event(gate: Gate, service: Service) -> None:
    sent = (await service.send(message(gate.person()))).task(200)
    assert await told_in_full(service, sent["id"]) == [sent]


async def test_a_task_that_failed_ends_its_stream_and_says_why(gate: Gate, service: Service) -> None:
    failed = (await service.send(message(1337))).problem("recipient_unreachable")["task"]
    assert await told_in_full(service, failed["id"]) == [failed]


@pytest.mark.skipif(not HINTS_TRAVEL, reason="Here no hint arrives, on purpose.")
async def test_every_change_comes_by_a_hint_and_not_by_the_look_every_two_seconds(
    gate: Gate, service: Service
) -> None:
    times: list[float] = []
    for _ in range(5):
        ada = gate.person()
        task = await service.asked(question(ada))
        asked = await gate.next_message(ada)
        async with following(service, task["id"]) as stream:
            assert await stream.state() == "asked"
            await ada.taps(asked, "Yes")
            began = time.monotonic()
            assert await stream.state() == "answered"
            times.append(time.monotonic() - began)
    assert min(times) < 0.5


@pytest.mark.skipif(not HINTS_TRAVEL, reason="Here no hint arrives, on purpose.")
async def test_the_steps_before_the_end_come_by_hints_too(gate: Gate, service: Service) -> None:
    times: list[float] = []
    for _ in range(5):
        ada = gate.person()
        answer = gate.sandbox.fault("drip", method="sendMessage", chat=ada.id, seconds=60)
        created = (await service.ask(question(ada), prefer="respond-async")).task(202)
        async with following(service, created["id"]) as stream:
            assert await stream.state() == "sending"
            await gate.next_message(ada)
            began = time.monotonic()
            answer.lift()
            while await stream.state() != "asked":
                pass
            times.append(time.monotonic() - began)
    assert min(times) < 0.5


async def test_what_changes_nothing_that_a_service_sees_is_no_event(gate: Gate, service: Service) -> None:
    ada, mallory = gate.person(), gate.person()
    group = gate.group(ada, mallory)
    task = await service.asked(question(group, respondents={"people": [ada.id]}))
    asked = await gate.next_message(group)
    async with following(service, task["id"]) as stream:
        assert await stream.state() == "asked"
        press = await mallory.taps(asked, "Yes")
        await press.answered()
        await ada.taps(asked, "No")
        # The refused tap is a step in the history, and no change of the task.
        assert await stream.state() == "answered"
        await stream.ended()


async def test_fifty_follow_one_task_and_all_are_told_the_same(gate: Gate, service: Service) -> None:
    ada = gate.person()
    task = await service.asked(question(ada))

    async def follow() -> list[Json]:
        return await told_in_full(service, task["id"])

    followers = [asyncio.create_task(follow()) for _ in range(50)]
    await gate.until_waiting(50)
    await ada.taps(await gate.next_message(ada), "Yes")
    told = await asyncio.gather(*followers)
    assert all(one == told[0] for one in told)
    assert [each["state"] for each in told[0]] == ["asked", "answered"]


# Coming back


async def test_a_client_that_comes_back_is_told_what_it_has_missed_and_nothing_twice(
    gate: Gate, service: Service
) -> None:
    ada = gate.person()
    task = await service.asked(question(ada))
    asked = await gate.next_message(ada)
    async with following(service, task["id"]) as stream:
        assert await stream.state() == "asked"
    async with following(service, task["id"], stream.last_id) as again:
        assert again.response.status == 200
        await gate.until_waiting(1)
        await ada.taps(asked, "Yes")
        assert await again.state() == "answered"
        await again.ended()
    async with following(service, task["id"], stream.last_id) as late:
        assert await late.state() == "answered"
        await late.ended()


async def test_whoever_has_the_last_event_is_told_to_stop(gate: Gate, service: Service) -> None:
    ada = gate.person()
    task = await service.asked(question(ada))
    asked = await gate.next_message(ada)
    async with following(service, task["id"]) as stream:
        await gate.until_waiting(1)
        await ada.taps(asked, "Yes")
        await stream.until("answered")
    # The message is edited to show the answer: one more step, and nothing that a service would see.
    await gate.until_edited(asked)
    async with following(service, task["id"], stream.last_id) as again:
        assert again.response.status == 204
        assert await again.response.read() == b""


@pytest.mark.parametrize("last_id", ["", "0", "-", "7", "999999-0000000000000000", "x" * 300, "é", "-1-1"])
async def test_an_event_that_never_was_is_answered_with_the_task_as_it_is(
    gate: Gate, service: Service, last_id: str
) -> None:
    sent = (await service.send(message(gate.person()))).task(200)
    async with following(service, sent["id"], last_id) as stream:
        event = await stream.next()
        assert event is not None
        assert event.task == sent
        await stream.ended()


async def test_what_happened_while_nobody_looked_comes_as_one_event(gate: Gate, service: Service) -> None:
    ada = gate.person()
    answer = gate.sandbox.fault("drip", method="sendMessage", chat=ada.id, seconds=60)
    created = (await service.ask(question(ada), prefer="respond-async")).task(202)
    async with following(service, created["id"]) as stream:
        assert await stream.state() == "sending"
    asked = await gate.next_message(ada)
    answer.lift()
    await service.until(created["id"], "asked")
    await ada.taps(asked, "Yes")
    await service.until(created["id"], "answered")
    async with following(service, created["id"], stream.last_id) as again:
        assert await again.state() == "answered"
        await again.ended()


# Who may


@pytest.mark.parametrize("last_id", [None, "1-0000000000000000"])
async def test_another_service_s_task_is_not_found_exactly_as_one_that_does_not_exist(
    gate: Gate, service: Service, last_id: str | None
) -> None:
    task, stranger = await service.asked(question(gate.person())), gate.service()
    headers = {} if last_id is None else {"Last-Event-ID": last_id}
    words = set()
    for task_id in (task["id"], UNKNOWN):
        told = await stranger.get(f"/v1/tasks/{task_id}/events", headers=headers)
        words.add(told.problem("not_found")["detail"].replace(task_id, "ID"))
    assert len(words) == 1


async def test_a_role_that_does_not_name_the_endpoint_may_not_follow(gate: Gate, service: Service) -> None:
    task = await service.asked(question(gate.person()))
    path = f"/v1/tasks/{task['id']}/events"
    (await service.with_roles("reader").get(path)).problem("forbidden")
    (await gate.request("GET", path)).problem("unauthenticated")
    (await service.call("POST", path, {})).problem("method_not_allowed")


async def test_head_tells_the_same_and_does_not_go_on(gate: Gate, service: Service) -> None:
    task = await service.asked(question(gate.person()))
    async with following(service, task["id"], method="HEAD") as stream:
        assert (stream.response.status, stream.response.headers["Content-Type"]) == (200, "text/event-stream")
        assert await stream.response.read() == b""
    assert (await service.call("HEAD", f"/v1/tasks/{task['id']}/events")).status == 200
    async with following(service, UNKNOWN, method="HEAD") as stream:
        assert stream.response.status == 404


@pytest.mark.parametrize("more", [(), ("Connection: keep-alive",)])
async def test_a_client_of_http_1_0_reads_to_the_end_of_the_connection(
    gate: Gate, service: Service, more: tuple[str, ...]
) -> None:
    sent = (await service.send(message(gate.person()))).task(200)
    reader, writer = await raw(gate, asking_for_events(service, sent["id"], "1.0", *more))
    async with asyncio.timeout(20):
        head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
    writer.close()
    assert head.startswith("HTTP/1.0 200")
    assert "chunked" not in head
    data = next(line for line in body.splitlines() if line.startswith("data: "))
    assert json.loads(data.removeprefix("data: ")) == sent


# Whoever goes away


async def test_a_client_that_goes_away_frees_its_seat(gate: Gate, service: Service) -> None:
    ada = gate.person()
    task = await service.asked(question(ada))
    crowd = [await raw(gate, asking_for_events(service, task["id"])) for _ in range(50)]
    await gate.until_waiting(50)
    for number, (_, writer) in enumerate(crowd):
        writer.transport.abort() if number % 2 else writer.close()
    await gate.until_waiting(0)
    assert "A client left its stream of events." in gate.server.log


async def test_a_stream_has_one_line_in_the_log_with_its_whole_duration(gate: Gate, service: Service) -> None:
    ada = gate.person()
    task = await service.asked(question(ada))
    async with following(service, task["id"]) as stream:
        request_id = stream.response.headers["X-Request-Id"]
        await gate.until_waiting(1)
        began = time.monotonic()
        await asyncio.wait_for(stream.until("asked"), 20)
        await ada.taps(await gate.next_message(ada), "Yes")
        await stream.until("answered")
        await stream.ended()
        held = time.monotonic() - began
    line = await gate.line_about(request_id)
    assert line["status"] == 200
    assert line["duration_ms"] >= held * 1000 - 50
    assert service.token not in gate.server.log


# Servers of their own


async def test_an_idle_stream_gives_signs_of_life_and_ends_when_the_token_does_not_count_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway, "application", lambda _: "tests.acceptance.lively:create_app")
    async with opened(tmp_path) as gate:
        service, ada = gate.service(), gate.person()
        task = await service.asked(question(ada))
        now = int(time.time())
        token = gate.token(service.name, "everything", iat=now - 60, exp=now - 24)
        passing = Service(gate, service.name, token)
        revoked = Service(gate, service.name, gate.token(service.name, "everything", jti="to-be-revoked"))
        async with (
            following(service, task["id"]) as stream,
            following(passing, task["id"]) as short,
            following(revoked, task["id"]) as doomed,
        ):
            for each in (stream, short, doomed):
                assert await each.state() == "asked"
            for _ in range(3):
                await stream.comment()
            # Its `exp` is over for 24 s, and 30 s are tolerated, as everywhere.
            await short.ended()
            assert short.comments > 0
            _revoke(tmp_path / "permissions.yaml", service.name, "to-be-revoked")
            await doomed.ended()
            await ada.taps(await gate.next_message(ada), "Yes")
            assert await stream.state() == "answered"
            await stream.ended()
        (await passing.get(f"/v1/tasks/{task['id']}/events")).problem("unauthenticated")
        await gate.end_test()


def _revoke(file: Path, service: str, jti: str) -> None:
    line = f"  {service}: {{roles: [everything, approver, asker-of-ada, reader]}}"
    assert line in POLICY
    file.write_text(POLICY.replace(line, line[:-1] + f", revoked: [{jti}]}}"))


async def test_a_role_that_loses_the_endpoint_loses_its_streams(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway, "application", lambda _: "tests.acceptance.lively:create_app")
    async with opened(tmp_path) as gate:
        service = gate.service()
        task = await service.asked(question(gate.person()))
        async with following(service, task["id"]) as stream:
            assert await stream.state() == "asked"
            (tmp_path / "permissions.yaml").write_text(
                POLICY.replace("      - GET /v1/tasks/{id}/events\n", "")
            )
            await stream.ended()
        (await service.get(f"/v1/tasks/{task['id']}/events")).problem("forbidden")
        await gate.end_test()


async def test_sigterm_ends_two_hundred_streams_at_once_and_the_next_process_goes_on(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path, settings={"SHUTDOWN_GRACE": "60"}) as gate:
        service, ada = gate.service(), gate.person()
        task = await service.asked(question(ada))
        asked = await gate.next_message(ada)
        async with contextlib.AsyncExitStack() as stack:
            streams: list[Stream] = [
                await stack.enter_async_context(following(service, task["id"])) for _ in range(200)
            ]
            for stream in streams:
                assert await stream.state() == "asked"
            began = time.monotonic()
            ending = asyncio.create_task(gate.server.terminate())
            for stream in streams:
                await stream.ended()
            # Not the platform's patience of 60 s ends them, nor the wait of a third of it.
            assert time.monotonic() - began < 10
            assert await ending == 0
        await ada.taps(asked, "Yes")
        await gate.server.start()
        for stream in streams:
            async with following(service, task["id"], stream.last_id) as again:
                assert await again.state() == "answered"
                await again.ended()
        assert gate.sends(ada) == 1
        await gate.end_test()


async def test_a_reader_that_takes_nothing_does_not_keep_a_server_from_ending(tmp_path: Path) -> None:
    async with opened(tmp_path, settings={"SHUTDOWN_GRACE": "60"}) as gate:
        service = gate.service()
        task = await service.asked(question(gate.person()))
        deaf = socket.socket()
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        deaf.settimeout(0)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(deaf, ("127.0.0.1", int(gate.server.settings["PORT"])))
        await loop.sock_sendall(deaf, asking_for_events(service, task["id"]).encode())
        await gate.until_waiting(1)
        began = time.monotonic()
        assert await gate.server.terminate() == 0
        assert time.monotonic() - began < 10
        deaf.close()


async def test_what_is_sent_behind_the_request_does_not_end_the_stream(gate: Gate, service: Service) -> None:
    ada = gate.person()
    task = await service.asked(question(ada))
    reader, writer = await raw(gate, asking_for_events(service, task["id"]) + "GET /healthz HT")
    await gate.until_waiting(1)
    await ada.taps(await gate.next_message(ada), "Yes")
    async with asyncio.timeout(20):
        said = (await reader.read()).decode()
    writer.close()
    assert '"state":"answered"' in said
    assert said.endswith("0\r\n\r\n")
