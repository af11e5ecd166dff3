"""The server as the Procfile starts it: a gunicorn process, its signals, its exit codes, its log."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import time
from http.client import HTTPResponse
from pathlib import Path

import pytest

from core.model.errors import StorageUnavailable
from infra.server.preflight import require_address
from infra.server.worker import GatewayWorker
from tests.integration.platform.servers import ENOUGH, LIMIT, Gunicorn, Start


def ask(server: Gunicorn, path: str, *headers: str) -> str:
    """One request on a connection of its own; everything that comes back until it closes."""
    with held(server, path, *headers) as connection:
        return read_all(connection)


def held(server: Gunicorn, path: str, *headers: str) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=LIMIT)
    lines = (f"GET {path} HTTP/1.1", "Host: x", "Connection: close", *headers, "", "")
    connection.sendall("\r\n".join(lines).encode())
    return connection


def kept(server: Gunicorn) -> socket.socket:
    """A connection that has had its first answer, and stays open for the next request."""
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=LIMIT)
    connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    answer = HTTPResponse(connection)
    answer.begin()
    assert (answer.status, answer.read()[:1]) == (200, b"{")
    return connection


def read_all(connection: socket.socket) -> str:
    return b"".join(iter(lambda: connection.recv(65_536), b"")).decode()


def test_a_held_request_is_woken_and_answered_when_the_server_stops(start: Start) -> None:
    server = start()
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=LIMIT)
    with connection:
        connection.sendall(b"GET /held HTTP/1.1\r\nHost: x\r\n\r\n")
        server.wait_for("A request is held")
        stopped = time.monotonic()
        code = server.stop()
        took = time.monotonic() - stopped
        answer = read_all(connection)
    assert answer.startswith("HTTP/1.1 202 ")
    assert "connection: close" in answer.lower()
    assert code == 0
    messages = [record["message"] for record in server.records]
    woken = messages.index("A request is woken.")
    assert messages.index("on_shutdown ran.") < woken < messages.index("on_cleanup ran.")
    assert not any("Error" in message for message in messages)
    assert took < 10, "the server waited for its grace time, not for its requests"


async def test_sigterm_is_noticed_at_once_and_not_at_the_next_tick() -> None:
    worker = object.__new__(GatewayWorker)
    worker.loop = asyncio.get_running_loop()
    worker.alive = True
    worker._notify_waiter = None
    tick = worker._wait_next_notify()
    worker.handle_exit(signal.SIGTERM, None)
    assert tick.done()
    assert not worker.alive


def test_an_error_of_a_running_server_is_not_taken_for_a_refused_start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: object) -> None:
        raise StorageUnavailable("The disk is full.")

    monkeypatch.setattr("aiohttp.GunicornUVLoopWebWorker.run", fail)
    worker = object.__new__(GatewayWorker)
    worker.booted = True
    with pytest.raises(StorageUnavailable):
        worker.run()
    worker.booted = False
    with pytest.raises(SystemExit, match="3"):
        worker.run()
    assert capsys.readouterr().err == "\nTelegate cannot start. The disk is full.\n\n"


def test_a_handler_that_nothing_wakes_does_not_keep_the_clean_up_from_running(start: Start) -> None:
    server = start(SHUTDOWN_GRACE="4")
    with held(server, "/deaf"):
        server.wait_for("held for ever")
        assert server.stop() == 0
    assert "on_cleanup ran." in [record["message"] for record in server.records]


def test_an_idle_kept_connection_does_not_hold_the_server_up(start: Start) -> None:
    server = start()
    with kept(server) as connection:
        assert server.stop() == 0
        assert connection.recv(1) == b""


def test_broken_settings_end_the_start_with_one_block_and_code_3(start: Start) -> None:
    server = start(BOT_TOKEN="nonsense", PORT="x")
    assert server.exit_code() == 3
    text = "\n".join(server.lines)
    assert "Telegate cannot start. 2 settings are missing or wrong:" in text
    assert text.count("BOT_TOKEN") == text.count("PORT ") == 1
    assert "Traceback" not in text


def test_a_port_in_use_ends_the_start_with_one_block_and_code_3(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        server = start(PORT=str(port))
        assert server.exit_code() == 3
    text = "\n".join(server.lines)
    assert text.count(f"cannot listen on 127.0.0.1:{port} (address already in use). Another program") == 1
    assert "choose another PORT" in text
    for words in ("Connection in use", "Errno", "Traceback"):
        assert words not in text


def test_an_address_of_another_machine_is_told_by_the_name_of_its_setting(start: Start) -> None:
    server = start(BIND_ADDRESS="192.0.2.1", PORT="8080")
    assert server.exit_code() == 3
    assert any("cannot listen on 192.0.2.1:8080" in line for line in server.lines)
    assert any("Set BIND_ADDRESS to an address of this machine" in line for line in server.lines)


def test_a_server_that_stops_just_now_may_let_go_of_the_port() -> None:
    other = socket.create_server(("127.0.0.1", 0))
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        other.close()

    require_address("127.0.0.1", other.getsockname()[1], pause)
    assert len(pauses) == 1


def test_a_connection_that_lingers_after_a_stop_does_not_keep_the_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        host, port = other.getsockname()
        client = socket.create_connection((host, port))
        served, _ = other.accept()
    # The side that closes first is the one whose connection lingers.
    served.close()
    client.close()
    require_address(host, port, pause=lambda _: pytest.fail("The port should be free at once."))


def test_a_start_that_the_application_refuses_ends_with_one_block_and_code_3(start: Start) -> None:
    server = start("platform_app:create_refused_app")
    assert server.exit_code() == 3
    text = "\n".join(server.lines)
    assert text.count("Telegate cannot start. Another server has the database open. Stop it first.") == 1
    assert "Traceback" not in text


def test_a_start_that_fails_by_a_mistake_ends_with_code_3_and_a_traceback(start: Start) -> None:
    server = start("platform_app:create_broken_app")
    assert server.exit_code() == 3
    assert any("LookupError: a mistake" in record.get("exception", "") for record in server.records)


@pytest.mark.parametrize("target", ["platform_app:create_app", "platform_app:create_bare_app"])
def test_an_access_log_that_a_platform_forces_does_no_harm(start: Start, target: str) -> None:
    server = start(target, GUNICORN_CMD_ARGS="--access-logfile -")
    assert ask(server, "/").startswith("HTTP/1.1 200 ")
    assert server.stop() == 0


def test_two_processes_are_asked_for_and_sqlite_runs_one(start: Start) -> None:
    server = start(WEB_CONCURRENCY="2")
    ask(server, "/")
    assert server.stop() == 0
    messages = [record["message"] for record in server.records]
    assert sum("Booting worker" in message for message in messages) == 1
    assert "WEB_CONCURRENCY asks for 2 processes, but SQLite allows one: one process runs." in messages


def test_every_line_is_json_and_no_secret_is_in_any(start: Start) -> None:
    server = start()
    jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJjYW5hcnkifQ.canary"
    assert ask(server, "/fail", f"Authorization: Bearer {jwt}").startswith("HTTP/1.1 500 ")
    assert ask(server, "/", f"Authorization: Bearer {'canary' * 2000}").startswith("HTTP/1.0 400 ")
    assert server.stop() == 0
    text = "\n".join(server.lines)
    assert len(server.records) == len(server.lines)
    assert "RuntimeError: canary: (hidden)" in text
    for secret in (*ENOUGH.values(), jwt, "canarycanary"):
        assert secret not in text


def test_a_closed_log_pipe_does_not_stop_the_server(start: Start) -> None:
    server = start()
    ask(server, "/")
    server.hang_up()
    for _ in range(3):
        assert ask(server, "/print").endswith("still here")
    assert server.stop() == 0


def test_the_limits_hold_under_uvloop_too(start: Start) -> None:
    limits = {"connections": 2, "header": 0.5, "body": 0.5, "idle": LIMIT, "refusal": LIMIT}
    server = start(TEST_LIMITS=json.dumps(limits))
    with kept(server) as slow_headers, kept(server) as slow_body:
        assert ask(server, "/").startswith("HTTP/1.1 503 ")
        slow_headers.sendall(b"GET / HTTP/1.1\r\nX-Slow: ")
        assert read_all(slow_headers).startswith("HTTP/1.1 408 ")
        slow_body.sendall(b"GET /?slow-body HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nx")
        assert read_all(slow_body).startswith("HTTP/1.1 200 ")


def test_the_backlog_is_ours_and_not_aiohttps(start: Start) -> None:
    server = start()
    ask(server, "/")
    shown = subprocess.run(
        ["ss", "-Hltn", f"sport = :{server.port}"], capture_output=True, text=True, check=False
    )
    if shown.returncode:
        pytest.skip("ss is not installed here")
    somaxconn = int(Path("/proc/sys/net/core/somaxconn").read_text(encoding="ascii"))
    assert int(shown.stdout.split()[2]) == min(2048, somaxconn)


def test_whoever_has_connected_before_the_stop_is_heard_and_answered(start: Start) -> None:
    server = start()
    silent, speaking = (socket.create_connection(("127.0.0.1", server.port), timeout=LIMIT) for _ in range(2))
    with silent, speaking:
        # One that has asked and been answered shows that the two before it were taken in.
        assert ask(server, "/").startswith("HTTP/1.1 200 ")
        server.process.send_signal(signal.SIGTERM)
        server.wait_for("on_shutdown ran")
        speaking.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = read_all(speaking)
        assert read_all(silent) == "", "It was waited for, but not for ever."
    assert answer.startswith("HTTP/1.1 200 ")
    assert "connection: close" in answer.lower()
    assert server.exit_code() == 0


def test_sigterm_while_the_worker_starts_is_not_lost(start: Start) -> None:
    server = start(SHUTDOWN_GRACE="60")
    server.wait_for("Booting worker")
    stopped = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - stopped < 30, "The server was killed after its grace time."


async def test_a_hundred_held_requests_are_all_answered_when_the_server_stops(start: Start) -> None:
    server = start()
    port = server.port
    connections = [await asyncio.open_connection("127.0.0.1", port) for _ in range(100)]
    for _, writer in connections:
        writer.write(b"GET /held HTTP/1.1\r\nHost: x\r\n\r\n")
    await asyncio.to_thread(server.wait_for, "A request is held", 100)
    code = await asyncio.to_thread(server.stop)
    answers = [await reader.read() for reader, _ in connections]
    for _, writer in connections:
        writer.close()
        await writer.wait_closed()
    assert code == 0
    assert all(answer.startswith(b"HTTP/1.1 202 ") for answer in answers)
