"""What is taken back reaches requests that have begun: they end as a new one would; what they made stays."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path

import jwt
import pytest

from infra.config.permissions.keys import new_pair
from tests.acceptance.contract import Response
from tests.acceptance.gateway import Service, message, opened, question
from tests.acceptance.policies import POLICY

LIMIT = 8.0
"""Seconds: the five that a change of the policy takes, and those of a busy machine."""

PRIVATE, PUBLIC = new_pair()
_INDENTED = "".join(f"        {line}\n" for line in PUBLIC.splitlines())
KEYED = f"  keyed:\n    roles: [everything]\n    keys:\n    - kid: keyed-1\n      public_key: |\n{_INDENTED}"
BASE = POLICY.replace("  revoked: {", f"{KEYED}  revoked: {{")


def _line(service: str) -> str:
    line = f"  {service}: {{roles: [everything, approver, asker-of-ada, reader]}}"
    assert line in BASE
    return line


def _without(service: str) -> str:
    return BASE.replace(f"{_line(service)}\n", "")


def _revoking(service: str) -> str:
    line = _line(service)
    return BASE.replace(line, line[:-1] + ", revoked: [stolen]}")


def _too_early(service: str) -> str:
    line = _line(service)
    return BASE.replace(line, line[:-1] + ", not_before: 2999-01-01T00:00:00Z}")


def _with_a_key_instead(service: str) -> str:
    line = _line(service)
    key = json.dumps(new_pair()[1])
    return BASE.replace(line, line[:-1] + f", keys: [{{kid: other, public_key: {key}}}]}}")


def _without_the_roles(service: str) -> str:
    return BASE.replace(_line(service), f"  {service}: {{roles: [reader]}}")


def _without_the_chats(service: str) -> str:
    del service
    return BASE.replace('    chats: ["*"]\n', "    chats: [ops]\n")


TAKEN_BACK: dict[str, tuple[Callable[[str], str], str]] = {
    "its token is revoked": (_revoking, "unauthenticated"),
    "all tokens up to then are revoked": (_too_early, "unauthenticated"),
    "its service is gone": (_without, "unauthenticated"),
    "its service has a key instead of the shared secret": (_with_a_key_instead, "unauthenticated"),
    "its role is taken away": (_without_the_roles, "forbidden"),
    "its role no longer names the chat": (_without_the_chats, "chat_forbidden"),
}


def _write(folder: Path, text: str) -> None:
    fresh = folder / "fresh.yaml"
    fresh.write_text(text)
    fresh.replace(folder / "permissions.yaml")


async def _until(ask: Callable[[], Awaitable[Response]], status: int) -> Response:
    """Ask until the server, which looks at its policy every five seconds, answers so."""
    async with asyncio.timeout(30):
        while (response := await ask()).status != status:  # noqa: ASYNC110 - nobody tells when it has looked
            await asyncio.sleep(0.1)
        return response


async def _ended(request: asyncio.Task[Response], code: str, since: float) -> None:
    async with asyncio.timeout(LIMIT):
        (await request).problem(code)
    assert time.monotonic() - since < LIMIT


@pytest.mark.parametrize("name", TAKEN_BACK)
async def test_held_requests_end_within_five_seconds_and_the_question_stays_open_when(
    name: str, tmp_path: Path
) -> None:
    changed, code = TAKEN_BACK[name]
    async with opened(tmp_path) as gate:
        _write(tmp_path, BASE)
        service, other, ada, grace = gate.service(), gate.service(), gate.person(), gate.person()
        doomed = Service(gate, service.name, gate.token(service.name, "everything", jti="stolen"))
        spared = code != "chat_forbidden"
        asking = doomed.asking(question(ada), key="k")
        asked = await gate.next_message(ada)
        task_id = (await doomed.until_listed("state=asked", lambda found: len(found) == 1))[0]["id"]
        body = {"command": "question", "arguments": question(ada)}
        held = [
            asking,
            gate.begin(doomed.get(f"/v1/tasks/{task_id}", prefer="wait=25")),
            gate.begin(doomed.call("POST", "/enqueue_command", body)),
        ]
        await gate.next_message(ada)
        waiting = other.asking(question(grace if spared else "ops", respondents={"people": [grace.id]}))
        await gate.until_waiting(4)
        began = time.monotonic()
        _write(tmp_path, changed(service.name))
        for request in held:
            await _ended(request, code, began)
        assert await gate.waiters() == 1
        await ada.taps(asked, "Yes")
        _write(tmp_path, BASE)

        await _until(lambda: doomed.get(f"/v1/tasks/{task_id}"), 200)
        task = await doomed.until(task_id, "answered")
        assert task["answer"]["choice"] == "yes"
        if spared:
            await grace.taps(await gate.next_message(grace), "Yes")
            assert (await waiting).task(200)["state"] == "answered"
        else:
            waiting.cancel()
        await gate.end_test()


async def test_a_slow_body_of_a_revoked_token_is_refused_before_it_ends(tmp_path: Path) -> None:
    async with opened(tmp_path) as gate:
        _write(tmp_path, BASE)
        service = gate.service()
        token = gate.token(service.name, "everything", jti="stolen")
        reader, writer = await asyncio.open_connection("127.0.0.1", int(gate.server.settings["PORT"]))
        writer.write(
            b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: 900000\r\nAuthorization: Bearer " + token.encode() + b'\r\n\r\n{"chat": 815,'
        )
        began = time.monotonic()
        _write(tmp_path, _revoking(service.name))
        dripping = asyncio.create_task(_drip(writer))
        async with asyncio.timeout(LIMIT):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
        dripping.cancel()
        writer.close()
        assert head.startswith("HTTP/1.1 401 ")
        assert time.monotonic() - began < LIMIT
        await gate.end_test()


async def _drip(writer: asyncio.StreamWriter) -> None:
    while not writer.is_closing():
        writer.write(b" " * 2000)
        await asyncio.sleep(0.1)


async def test_a_held_request_ends_when_the_key_that_signed_its_token_is_taken_out(tmp_path: Path) -> None:
    async with opened(tmp_path) as gate:
        _write(tmp_path, BASE)
        now = int(time.time())
        claims = {
            "iss": "keyed",
            "sub": "keyed",
            "aud": "telegate",
            "iat": now,
            "exp": now + 600,
            "jti": uuid.uuid4().hex,
            "roles": ["everything"],
        }
        token = jwt.encode(claims, PRIVATE, algorithm="EdDSA", headers={"kid": "keyed-1"})
        keyed, ada = Service(gate, "keyed", token), gate.person()
        await _until(lambda: keyed.get("/v1/me"), 200)
        asking = keyed.asking(question(ada))
        await gate.next_message(ada)
        await gate.until_waiting(1)
        began = time.monotonic()
        _write(
            tmp_path, BASE.replace(_INDENTED, _INDENTED.replace(PUBLIC.split()[3], new_pair()[1].split()[3]))
        )
        await _ended(asking, "unauthenticated", began)
        await gate.end_test()


async def test_an_expired_token_does_not_end_what_it_began_when_the_policy_changes_for_others(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path) as gate:
        service, ada = gate.service(), gate.person()
        now = int(time.time())
        passing = Service(
            gate, service.name, gate.token(service.name, "everything", iat=now - 60, exp=now - 27)
        )
        asking = passing.asking(question(ada))
        asked = await gate.next_message(ada)
        await _until(lambda: passing.get("/v1/me"), 401)
        _write(tmp_path, POLICY.replace("  ada: 815\n", "  ada: 815\n  grace: 4711\n"))
        fresh = gate.service()
        await _until(lambda: fresh.send(message("grace")), 200)
        await ada.taps(asked, "Yes")
        assert (await asking).task(200)["state"] == "answered"
        await gate.end_test()


async def test_a_narrowed_token_sees_only_tasks_in_chats_that_its_roles_name(tmp_path: Path) -> None:
    async with opened(tmp_path) as gate:
        service, ada = gate.service(), gate.person()
        here = (await service.send(message("ops"))).task(200)
        there = await service.asked(question(ada))
        narrow = service.with_roles("approver")
        assert (await narrow.get(f"/v1/tasks/{here['id']}")).task(200) == here
        hidden = (await narrow.get(f"/v1/tasks/{there['id']}")).problem("not_found")
        missing = (await narrow.get(f"/v1/tasks/{there['id'][:-1]}X")).problem("not_found")
        assert hidden["detail"].replace(there["id"], "") == missing["detail"].replace(
            f"{there['id'][:-1]}X", ""
        )
        (await narrow.get(f"/v1/tasks/{there['id']}", prefer="wait=5")).problem("not_found")
        # A role without chats sees none, and one role's endpoint is not mixed with another's chats.
        for roles in (("reader",), ("reader", "asker-of-ada")):
            listing = service.with_roles(*roles)
            assert (await listing.get("/v1/tasks")).document == {"items": [], "next": None}
            assert (await listing.get("/v1/tasks?chat=ops")).document["items"] == []
        everything = [task["id"] for task in (await service.get("/v1/tasks")).document["items"]]
        assert everything == [there["id"], here["id"]]
        _write(
            tmp_path,
            POLICY.replace(
                'GET /v1/tasks/{id}"]\n    chats: [ops]',
                'GET /v1/tasks/{id}", "GET /v1/tasks", "GET /v1/tasks/{id}/events"]\n    chats: [ops]',
            ),
        )
        found = await _until(lambda: narrow.get("/v1/tasks"), 200)
        assert [task["id"] for task in found.document["items"]] == [here["id"]]
        assert (await narrow.get("/v1/tasks?limit=1")).document["next"] is None
        assert (await narrow.get(f"/v1/tasks?chat={ada.id}")).document["items"] == []
        (await narrow.get(f"/v1/tasks/{there['id']}/events")).problem("not_found")
        assert (await narrow.get(f"/v1/tasks/{here['id']}/events")).status == 200
        await gate.end_test()
