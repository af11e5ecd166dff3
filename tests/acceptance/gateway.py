"""The real server as a process under gunicorn, the sandbox as its Telegram, and services that call it."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import io
import itertools
import json
import os
import resource
import signal
import ssl
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import jwt
import pytest

from infra.sandbox import ChatView, Message, Sandbox, ScriptedPerson
from tests.acceptance.contract import FINAL_STATES, Json, Response, check, check_task
from tests.acceptance.policies import POLICY, SERVICES
from tests.ports import reserved_port

T = TypeVar("T")

ROOT = Path(__file__).parents[2]
BOT_TOKEN = "123456789:canary-BotToken_0123456789abcdefghi"
JWT_SECRET = "canary-jwt-secret-0123456789-abcdefghijklmnop"
UPDATES = ["message", "edited_message", "callback_query", "my_chat_member"]

START_LIMIT = 30.0
"""Seconds that a start may take on a busy machine."""

_LOG_TAIL = 6000
_NEVER_LOGGED = ("Traceback (most recent call last)", "was never awaited", "Task was destroyed", "Unclosed ")
_service_names = itertools.cycle(SERVICES)
_person_ids = itertools.count(50_001)
_group_ids = itertools.count(-1_002_000_000_001, -1)
_first_names = itertools.cycle(("Ada", "Grace", "Alan", "Edsger", "Barbara", "Donald", "Frances", "Tony"))


def derived_webhook_secret(bot_token: str = BOT_TOKEN) -> str:
    """What Telegram has to send when no secret is configured, as the settings' reference defines it."""
    return hmac.new(bot_token.encode(), b"telegate webhook secret", hashlib.sha256).hexdigest()


def minted(service: str, roles: Sequence[str], **claims: object) -> str:
    """A token as an operator's own program would make it; a claim of None is left out."""
    now = int(time.time())
    payload: dict[str, object] = {
        "iss": "telegate",
        "sub": service,
        "aud": "telegate",
        "iat": now,
        "exp": now + 3600,
        "jti": uuid.uuid4().hex,
        "roles": list(roles),
        **claims,
    }
    kept = {name: value for name, value in payload.items() if value is not None}
    return jwt.encode(kept, JWT_SECRET, algorithm="HS256")


@dataclass(frozen=True, slots=True)
class Version:
    """Which code a server and its commands are started from.

    Attributes:
        folder: has the packages `core`, `handlers` and `infra`.
        config: gunicorn's configuration.
    """

    folder: Path = ROOT
    config: str = "python:infra.server.gunicorn"


CURRENT = Version()


def environment(settings: Mapping[str, str], version: Version = CURRENT) -> dict[str, str]:
    """An environment made from nothing: the settings, and what Python and coverage need."""
    measured = {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}
    inherited = measured if version is CURRENT else {}
    code = {"PYTHONPATH": str(version.folder), "PYTHONDONTWRITEBYTECODE": "1"}
    fixed = {"PATH": os.environ.get("PATH", ""), "HOME": "/nonexistent", "LANG": "C.UTF-8"}
    return {**inherited, **code, **fixed, **settings}


def application(version: Version = CURRENT) -> str:
    """What gunicorn loads: the server, the one in which no hint arrives, or the one that a test names."""
    if version is not CURRENT:
        return "infra.app:create_app"
    if named := os.environ.get("ACCEPTANCE_APPLICATION"):
        return named
    dropped = os.environ.get("ACCEPTANCE_HINTS") == "dropped"
    return "tests.acceptance.hintless:create_app" if dropped else "infra.app:create_app"


class NoResponse(AssertionError):
    """A connection that broke, or was never made: right only where a test has killed the server."""


@dataclass(slots=True, eq=False)
class Server:
    """One server process.

    Attributes:
        folder: its working directory, with its database, policy and log.
        settings: its environment, but for what every process needs.
        tls: how to check its certificate; None when it speaks plain HTTP.
        version: the code that its next process runs.
    """

    folder: Path
    settings: dict[str, str]
    tls: ssl.SSLContext | None = None
    version: Version = CURRENT
    process: asyncio.subprocess.Process | None = None
    tokens: set[str] = field(default_factory=set)

    @property
    def address(self) -> str:
        """Where it is reached."""
        scheme = "https" if self.tls else "http"
        return f"{scheme}://127.0.0.1:{self.settings['PORT']}"

    @property
    def database(self) -> Path:
        """Its SQLite file."""
        return self.folder / "telegate.db"

    @property
    def log(self) -> str:
        """All that its processes have written so far."""
        file = self.folder / "server.log"
        return file.read_text(errors="replace") if file.exists() else ""

    @property
    def log_tail(self) -> str:
        """The end of the log, for the message of a failed test."""
        told = (line for line in self.log.splitlines() if "/readyz was" not in line)
        return "\n".join(told)[-_LOG_TAIL:]

    async def spawn(self) -> asyncio.subprocess.Process:
        """Start the process, as the Procfile's web line does."""
        loaded = ("-c", self.version.config, application(self.version))
        with (self.folder / "server.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "gunicorn", *loaded),
                cwd=self.folder,
                env=environment(self.settings, self.version),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        return self.process

    async def start(self) -> None:
        """Start the process, and wait until it is alive and ready."""
        await self.spawn()
        await self.until_answered("/readyz", 200)

    async def until_answered(self, path: str, status: int) -> Response:
        """Ask until the answer has this status; the one place where a process that comes up is polled."""
        deadline = time.monotonic() + START_LIMIT
        said = "nothing"
        connector = aiohttp.TCPConnector(ssl=self.tls or True)
        async with aiohttp.ClientSession(connector=connector) as session:
            while time.monotonic() < deadline:
                self.must_be_alive()
                with contextlib.suppress(aiohttp.ClientError, ConnectionError, TimeoutError):
                    async with session.get(f"{self.address}{path}") as got:
                        response = Response(got.status, got.headers, await got.read())
                    if response.status == status:
                        return response
                    said = response.told()
                await asyncio.sleep(0.05)
        pytest.fail(f"{path} did not answer {status} within {START_LIMIT} s, but {said}\n{self.log_tail}")

    def must_be_alive(self) -> None:
        """Fail the test with the log's end when the process has ended by itself."""
        if self.process is not None and self.process.returncode is not None:
            pytest.fail(f"The server ended with {self.process.returncode}.\n{self.log_tail}")

    async def terminate(self) -> int:
        """SIGTERM, and the exit code; the platform's patience is 20 s here."""
        assert self.process is not None
        self.must_be_alive()
        self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(20):
            return await self.process.wait()

    async def kill(self) -> None:
        """SIGKILL to gunicorn and to its worker, as when the machine dies."""
        assert self.process is not None
        workers = self.workers
        self.process.kill()
        for number in workers:
            os.kill(number, signal.SIGKILL)
        await self.process.wait()

    @property
    def workers(self) -> list[int]:
        """The process ids of gunicorn's workers."""
        assert self.process is not None
        listed = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(number) for number in listed.split()]

    def kill_workers(self) -> None:
        """SIGKILL to the worker alone, as when it has run out of memory."""
        for number in self.workers:
            os.kill(number, signal.SIGKILL)

    async def reload(self) -> None:
        """SIGHUP; it is over when another worker answers, and the one before it is gone."""
        assert self.process is not None
        before = set(self.workers)
        self.process.send_signal(signal.SIGHUP)
        async with asyncio.timeout(START_LIMIT):
            while before & set(self.workers):  # noqa: ASYNC110 - another process cannot set an Event here
                await asyncio.sleep(0.05)
        await self.until_answered("/readyz", 200)

    async def stop(self) -> None:
        """End it as a deploy does, and look whether it ended well."""
        if self.process is None or self.process.returncode is not None:
            return
        try:
            code = await self.terminate()
        except TimeoutError:
            await self.kill()
            pytest.fail(f"The server did not end within 20 s of SIGTERM.\n{self.log_tail}")
        assert code == 0, f"The server ended with {code}.\n{self.log_tail}"

    def check_log(self) -> None:
        """No traceback, no warning of the interpreter, and none of the secrets."""
        log = self.log
        for mark in _NEVER_LOGGED:
            at = log.find(mark)
            assert at < 0, f"The log has {mark!r}:\n{log[max(0, at - 1500) : at + 4000]}"
        secret = BOT_TOKEN.partition(":")[2]
        signatures = (token.rpartition(".")[2] for token in self.tokens)
        for canary in (secret, JWT_SECRET, derived_webhook_secret(), *signatures):
            assert canary not in log, f"A secret is in the log: …{log.partition(canary)[0][-500:]}"


def _last_name(number: int) -> str:
    """A name that nobody else has, and without a digit, so that no id is found in it."""
    return "".join("abcdefghij"[int(digit)] for digit in str(number)).capitalize()


@dataclass(slots=True, eq=False)
class Gate:
    """A server, its sandbox, and all who call it in one test."""

    server: Server
    sandbox: Sandbox
    session: aiohttp.ClientSession
    calls: set[asyncio.Task[Response]] = field(default_factory=set)

    # Who there is

    def service(self, *roles: str, name: str = "") -> Service:
        """A service that no test before has used, with these roles in its token."""
        name = name or next(_service_names)
        return Service(self, name, self.token(name, *(roles or ("everything",))))

    def token(self, service: str, *roles: str, **claims: object) -> str:
        """A token whose signature must never stand in the log."""
        token = minted(service, roles, **claims)
        self.server.tokens.add(token)
        return token

    def person(self, *, started: bool = True) -> ScriptedPerson:
        """Somebody new, who has started the bot."""
        number = next(_person_ids)
        return self.sandbox.add_person(
            number, next(_first_names), _last_name(number), f"person{number}", started=started
        )

    def group(self, *members: ScriptedPerson, topics: dict[int, str] | None = None) -> ChatView:
        """A new supergroup with the bot in it."""
        number = next(_group_ids)
        return self.sandbox.add_group(number, f"Group {number}", list(members), topics=topics)

    async def line_about(self, request_id: str) -> Json:
        """The line in the log that tells of the request with this id."""
        async with asyncio.timeout(10):
            while True:
                for line in self.server.log.splitlines():
                    if request_id in line and (told := json.loads(line)).get("action") == "request":
                        return told
                await asyncio.sleep(0.02)

    # Telegram's side

    async def next_message(self, chat: ChatView | ScriptedPerson | int) -> Message:
        """The bot's next message in that chat."""
        self.server.must_be_alive()
        return await self.sandbox.next_message(chat)

    async def until_edited(self, message: Message, times: int = 1) -> Message:
        """Wait until the message has been edited so many times."""
        await self.sandbox.wait_for(lambda: len(message.history) >= times, what="an edit of the message")
        return message

    def sends(self, chat: ChatView | ScriptedPerson | int) -> int:
        """How many `sendMessage` calls were made to that chat."""
        number = chat if isinstance(chat, int) else chat.id
        return len(self.sandbox.calls.of("sendMessage", number))

    async def webhook(self, body: bytes, headers: Mapping[str, str] | None = None) -> Response:
        """An update as Telegram posts it, or a forgery with other headers."""
        given = {"X-Telegram-Bot-Api-Secret-Token": derived_webhook_secret()} if headers is None else headers
        return await self.request(
            "POST", "/telegram/webhook", data=body, headers={"Content-Type": "application/json", **given}
        )

    async def set_webhook(self, certificate: bytes | None = None) -> None:
        """What `telegate webhook set` does, by hand."""
        form = aiohttp.FormData()
        form.add_field("url", f"{self.server.address}/telegram/webhook")
        form.add_field("secret_token", derived_webhook_secret())
        form.add_field("allowed_updates", json.dumps(UPDATES))
        if certificate is not None:
            form.add_field("certificate", certificate, filename="certificate.pem")
        url = f"{self.sandbox.api_url}/bot{BOT_TOKEN}/setWebhook"
        async with self.session.post(url, data=form) as response:
            assert (await response.json())["result"] is True

    # The API's side

    async def request(self, method: str, path: str, **options: Any) -> Response:
        """One request, whose response keeps every promise that all responses keep."""
        self.server.must_be_alive()
        if isinstance(options.get("data"), bytes):
            # aiohttp warns about long bodies that are given as bytes.
            options["data"] = io.BytesIO(options["data"])
        try:
            async with self.session.request(
                method, self.server.address + path, allow_redirects=False, **options
            ) as got:
                return check(Response(got.status, got.headers, await got.read()))
        except aiohttp.ClientError as error:
            raise NoResponse(f"{method} {path} got no response: {error!r}") from error

    def begin(self, call: Coroutine[Any, Any, Response]) -> asyncio.Task[Response]:
        """Let a request run while the test goes on."""
        running = asyncio.create_task(call)
        self.calls.add(running)
        return running

    async def waiters(self) -> int:
        """How many requests are waiting for a task."""
        async with self.session.get(f"{self.server.address}/readyz") as response:
            return int((await response.json())["waiters"])

    async def until_waiting(self, count: int) -> None:
        """Wait until exactly so many requests wait; a second must be enough, five are allowed."""
        async with asyncio.timeout(5):
            while await self.waiters() != count:  # noqa: ASYNC110 - another process cannot set an Event here
                await asyncio.sleep(0.02)

    async def until_identified(self) -> None:
        """Wait until the server has asked Telegram who it is and how its webhook does."""
        async with asyncio.timeout(10):
            while {"getMe", "getWebhookInfo"} - {each.method for each in self.sandbox.calls}:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.01)

    async def end_test(self) -> None:
        """Every request that a test began is over, and the waiting room is empty."""
        for call in self.calls:
            call.cancel()
        await asyncio.gather(*self.calls, return_exceptions=True)
        self.calls.clear()
        self.sandbox.faults.lift()
        if self.server.process is not None and self.server.process.returncode is None:
            try:
                await self.until_waiting(0)
            except TimeoutError:
                pytest.fail(f"The waiting room still holds {await self.waiters()}.\n{self.server.log_tail}")


@dataclass(frozen=True, slots=True)
class Service:
    """A program that calls the API."""

    gate: Gate = field(repr=False)
    name: str
    token: str = field(repr=False)

    def with_roles(self, *roles: str) -> Service:
        """The same service with another token."""
        return Service(self.gate, self.name, self.gate.token(self.name, *roles))

    async def call(
        self,
        method: str,
        path: str,
        body: Json = None,
        *,
        prefer: str | None = None,
        key: str | None = None,
        raw: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """One request with this service's token.

        Args:
            method: of HTTP.
            path: with its query.
            body: sent as JSON, unless None.
            prefer: the `Prefer` header.
            key: the `Idempotency-Key` header.
            raw: the body as bytes, instead of `body`.
            headers: more of them; they win over the others.
        """
        sent = {"Authorization": f"Bearer {self.token}"}
        if body is not None or raw is not None:
            sent["Content-Type"] = "application/json"
        if prefer is not None:
            sent["Prefer"] = prefer
        if key is not None:
            sent["Idempotency-Key"] = key
        data = raw if body is None else json.dumps(body).encode()
        response = await self.gate.request(method, path, data=data, headers={**sent, **(headers or {})})
        if response.status in {200, 202} and b'"tsk_' in response.body[:20]:
            check_task(response.document)
            assert response.document["service"] == self.name
            assert (response.status == 202) <= (response.document["state"] not in FINAL_STATES)
        return response

    async def get(self, path: str, **options: Any) -> Response:
        """GET a path."""
        return await self.call("GET", path, **options)

    async def task(self, task_id: str, **options: Any) -> Json:
        """The task as it is now."""
        return (await self.get(f"/v1/tasks/{task_id}", **options)).task(200)

    async def ask(self, body: Json, **options: Any) -> Response:
        """POST a question."""
        return await self.call("POST", "/v1/questions", body, **options)

    async def send(self, body: Json, **options: Any) -> Response:
        """POST a message."""
        return await self.call("POST", "/v1/messages", body, **options)

    def asking(self, body: Json, **options: Any) -> asyncio.Task[Response]:
        """POST a question, and go on without its answer."""
        return self.gate.begin(self.ask(body, **options))

    def sending(self, body: Json, **options: Any) -> asyncio.Task[Response]:
        """POST a message, and go on without its outcome."""
        return self.gate.begin(self.send(body, **options))

    async def asked(self, body: Json, **options: Any) -> Json:
        """POST a question, and have the task as soon as it stands in the chat."""
        created = (await self.ask(body, prefer="respond-async", **options)).task(202)
        return await self.until(created["id"], "asked")

    async def until(self, task_id: str, state: str, within: float = 15) -> Json:
        """The task once it is in this state; the sandbox's changes tell when to look again."""
        async with asyncio.timeout(within):
            while (task := await self.task(task_id))["state"] != state:
                assert task["state"] not in FINAL_STATES, task
                await self._next_look()
        return task

    async def until_listed(self, query: str, enough: Callable[[list[Json]], bool]) -> list[Json]:
        """The tasks that this service has by that query, once they are enough."""
        async with asyncio.timeout(15):
            tasks: list[Json] = (await self.get(f"/v1/tasks?{query}")).document["items"]
            while not enough(tasks):
                await self._next_look()
                tasks = (await self.get(f"/v1/tasks?{query}")).document["items"]
        return tasks

    async def question_in(self, chat: ChatView | ScriptedPerson | int) -> Message:
        """The bot's next message in that chat, a question, once the server knows that it stands there.

        Telegram shows a message before it answers the call that sent it. A press counts even then, but words
        that reply to a message are about nothing that the server knows, until it has stored the message's id.
        """
        asked = await self.gate.next_message(chat)
        await self.until_listed(
            "state=asked", lambda tasks: any(asked.id in task["message_ids"] for task in tasks)
        )
        return asked

    async def between_tries(self, task_id: str, look: Callable[[], Awaitable[T]]) -> tuple[Json, T]:
        """The task while it waits for its next try, and what a look at it sees meanwhile.

        A try may begin at any time; so the look counts only when the task is the same before and after it.
        """
        async with asyncio.timeout(60):
            while True:
                before = await self.until(task_id, "queued")
                seen = await look()
                if await self.task(task_id) == before:
                    return before, seen

    async def _next_look(self) -> None:
        """A change in the sandbox, or a moment in which the server may have done what nobody can see."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.05):
                await self.gate.sandbox.world.next_change()

    async def until_final(self, task_id: str, within: float) -> Json:
        """The task once it is over."""
        async with asyncio.timeout(within):
            while (task := await self.task(task_id, prefer="wait=20"))["state"] not in FINAL_STATES:
                pass
        return task


async def telegate(gate: Gate, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a command with the server's settings."""
    return await asyncio.to_thread(
        subprocess.run,
        (sys.executable, "-m", "infra", *arguments),
        cwd=gate.server.folder,
        env=environment({**gate.server.settings, **settings}, gate.server.version),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def allow_open_files(count: int) -> None:
    """Let this process and the server it starts have so many connections each."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + 1000
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"This machine allows {hard} open files, and {wanted} are needed (ulimit -Hn).")
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


YES_OR_NO = [{"id": "yes", "label": "Yes"}, {"id": "no", "label": "No"}]


def question(chat: ChatView | ScriptedPerson | int | str, **fields: Json) -> Json:
    """The body of a small question."""
    where = chat if isinstance(chat, int | str) else chat.id
    return {"chat": where, "text": "Deploy build 1234?", "options": YES_OR_NO, **fields}


def message(chat: ChatView | ScriptedPerson | int | str, text: str = "All is well.", **fields: Json) -> Json:
    """The body of a small message."""
    return {"chat": chat if isinstance(chat, int | str) else chat.id, "text": text, **fields}


@contextlib.asynccontextmanager
async def opened(
    folder: Path,
    *,
    policy: str = POLICY,
    tls: ssl.SSLContext | None = None,
    started: bool = True,
    settings: Mapping[str, str] | None = None,
    version: Version = CURRENT,
) -> AsyncIterator[Gate]:
    """A server with a sandbox of its own; at the end it is stopped and its log is looked through.

    Args:
        folder: where its files go.
        policy: its permissions.yaml.
        tls: how to check its certificate, when the settings give it one.
        started: whether to set the webhook and start the process.
        settings: more of its environment; an empty one is left out.
        version: the code that it runs.
    """
    (folder / "permissions.yaml").write_text(policy)
    async with Sandbox.start(token=BOT_TOKEN, time_scale=0.05) as sandbox:
        given = server_settings(folder, sandbox.api_url, settings or {}, tls=tls is not None)
        server = Server(folder, given, tls, version)
        timeout, connector = aiohttp.ClientTimeout(total=40), aiohttp.TCPConnector(limit=0, ssl=tls or True)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
            gate = Gate(server, sandbox, session)
            try:
                if started:
                    await gate.set_webhook()
                    await server.start()
                    await gate.until_identified()
                yield gate
            finally:
                await server.stop()
        server.check_log()


def server_settings(
    folder: Path, telegram: str, settings: Mapping[str, str], *, tls: bool = False
) -> dict[str, str]:
    """The settings of a server on a free port; an empty one is left out."""
    port = str(reserved_port())
    given = {
        "BOT_TOKEN": BOT_TOKEN,
        "JWT_SECRET": JWT_SECRET,
        "PORT": port,
        "BIND_ADDRESS": "127.0.0.1",
        "PUBLIC_URL": f"{'https' if tls else 'http'}://127.0.0.1:{port}",
        "DATABASE_URL": f"sqlite:///{folder / 'telegate.db'}",
        "PERMISSIONS_FILE": str(folder / "permissions.yaml"),
        "PERSON_ROLES": "815:operator,4711:viewer",
        "TELEGRAM_API_URL": telegram,
        "LOG_LEVEL": "debug",
        # Many tests share a server; those about its pace ask for one.
        "SEND_RATE": "0",
        **settings,
    }
    return {name: value for name, value in given.items() if value}
