"""What the client says after each kind of trouble, with real sockets."""

from __future__ import annotations

import asyncio
import gzip
import logging
import math
import socket
import ssl
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import uvloop
from aiohttp.abc import AbstractResolver, ResolveResult
from telegram.error import NetworkError, TimedOut
from telegram.request import BaseRequest

from core.model.errors import DeliveryUnknown, NotDelivered, Rejected
from core.model.part import FormattedText, Part
from infra.config.secret import Secret
from infra.telegram.client import TelegramClient
from infra.telegram.transport import LARGEST_ANSWER, NothingWritten, Transport, Unanswered
from tests.integration.telegram.misbehaving import (
    TOKEN,
    Behaviour,
    Conversation,
    answer,
    byte_by_byte,
    done,
    endless,
    hang,
    no_http,
    refusal,
    reset,
    reset_in_answer,
    serve,
)
from tests.ports import reserved_port

HELLO = Part(FormattedText("hello"))
ClientAt = Callable[..., Awaitable[TelegramClient]]


class NobodyKnows(AbstractResolver):
    """A resolver for which no name exists."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        raise OSError(socket.EAI_NONAME, f"no address for {host}:{port} in {family}")

    async def close(self) -> None:
        pass


async def test_a_message_that_telegram_took_has_its_id(client_at: ClientAt) -> None:
    async with serve(done(4711)) as server:
        client = await client_at(server.url)
        assert await client.send(815, None, HELLO) == 4711
        assert server.requests[0].path == f"/bot{TOKEN}/sendMessage"


async def test_a_refused_connection_is_not_reached(client_at: ClientAt) -> None:
    client = await client_at(f"http://127.0.0.1:{reserved_port()}")
    with pytest.raises(NotDelivered, match="No connection could be made"):
        await client.send(815, None, HELLO)


async def test_a_name_that_does_not_exist_is_not_reached() -> None:
    transport = Transport(resolver=NobodyKnows())
    await transport.initialize()
    with pytest.raises(NothingWritten, match="could not be looked up"):
        await transport.call("http://name.invalid/bot/getMe", {})
    await transport.shutdown()


async def test_a_certificate_that_nobody_vouches_for_is_not_reached(
    client_at: ClientAt, self_signed: Path
) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(self_signed)
    asked = asyncio.Event()

    async def speak(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        writer.close()

    listening = await asyncio.start_server(speak, "127.0.0.1", 0, ssl=context)
    port = listening.sockets[0].getsockname()[1]
    client = await client_at(f"https://127.0.0.1:{port}")
    with pytest.raises(NotDelivered, match="certificate is not trusted"):
        await client.send(815, None, HELLO)
    listening.close()


async def test_a_server_without_tls_is_not_reached_over_https(client_at: ClientAt) -> None:
    async with serve(done()) as server:
        client = await client_at(server.url.replace("http://", "https://"), 1.0)
        with pytest.raises(NotDelivered):
            await client.send(815, None, HELLO)


async def test_a_connection_that_is_never_taken_up_is_not_reached(client_at: ClientAt) -> None:
    # A full queue of connections swallows the next one, as an unreachable network does.
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        address = listening.getsockname()
        held = [socket.socket() for _ in range(4)]
        for one in held:
            one.settimeout(0)
            one.connect_ex(address)
        client = await client_at(f"http://127.0.0.1:{address[1]}", 0.3)
        with pytest.raises(NotDelivered, match="time was over"):
            await client.send(815, None, HELLO)
        for one in held:
            one.close()


@pytest.mark.parametrize(
    "behaviour",
    [reset, reset_in_answer, no_http],
    ids=["reset after reading", "reset in the answer", "no HTTP"],
)
async def test_a_connection_that_breaks_after_the_request_is_unclear(
    client_at: ClientAt, behaviour: Behaviour
) -> None:
    async with serve(behaviour) as server:
        client = await client_at(server.url)
        with pytest.raises(DeliveryUnknown):
            await client.send(815, None, HELLO)
        assert len(server.requests) == 1


async def test_a_reset_on_a_reused_connection_is_unclear_and_not_repeated(client_at: ClientAt) -> None:
    async with serve(done(1), reset) as server:
        client = await client_at(server.url)
        await client.send(815, None, HELLO)
        with pytest.raises(DeliveryUnknown):
            await client.send(815, None, HELLO)
        assert (server.connections, len(server.requests)) == (1, 2)


async def until_no_connection_is_kept(client: TelegramClient) -> None:
    """Wait until the client has noticed that the server closed: aiohttp has no event for it."""
    assert client._connection is not None
    session = client._connection._transport._session
    assert session is not None
    assert session.connector is not None
    kept = session.connector._conns
    while any(protocol.is_connected() for pool in kept.values() for protocol, _ in pool):  # noqa: ASYNC110 - no event
        await asyncio.sleep(0)


async def test_a_kept_connection_that_the_server_closed_meanwhile_costs_nothing(client_at: ClientAt) -> None:
    async def answer_and_leave(conversation: Conversation) -> None:
        await done(1)(conversation)
        conversation.writer.close()

    async with serve(answer_and_leave, done(2)) as server:
        client = await client_at(server.url)
        await client.send(815, None, HELLO)
        await asyncio.wait_for(until_no_connection_is_kept(client), 5)
        assert await client.send(815, None, HELLO) == 2
        assert server.connections == 2


@pytest.mark.parametrize("behaviour", [hang, byte_by_byte], ids=["hangs", "byte by byte"])
async def test_an_answer_that_does_not_come_in_time_is_unclear_and_its_connection_is_not_reused(
    client_at: ClientAt, behaviour: Behaviour
) -> None:
    async with serve(behaviour, done()) as server:
        client = await client_at(server.url, 1.0)
        with pytest.raises(DeliveryUnknown, match="time was over"):
            await client.send(815, None, HELLO)
        assert await client.send(815, None, HELLO) == 4711
        assert server.connections == 2


@pytest.mark.parametrize(
    "behaviour",
    [answer(200, b" " * (LARGEST_ANSWER + 1)), answer(200, b" " * 10_000_000), endless],
    ids=["one byte too many", "ten megabytes", "ten megabytes, length not told"],
)
async def test_an_answer_over_a_megabyte_is_not_read(client_at: ClientAt, behaviour: Behaviour) -> None:
    async with serve(behaviour) as server:
        client = await client_at(server.url)
        with pytest.raises(DeliveryUnknown, match="larger than 1 MB"):
            await client.send(815, None, HELLO)


async def test_a_small_answer_that_unpacks_to_a_large_one_is_not_read(client_at: ClientAt) -> None:
    packed = gzip.compress(b" " * 50_000_000)

    async def bomb(conversation: Conversation) -> None:
        head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(packed)}\r\n\r\n"
        await conversation.write(head.encode() + packed)

    async with serve(bomb) as server:
        client = await client_at(server.url)
        with pytest.raises(DeliveryUnknown):
            await client.send(815, None, HELLO)


@pytest.mark.parametrize(
    "behaviour",
    [
        answer(200, b"<html>Welcome to the hotel's network</html>"),
        answer(200, b"[1]"),
        answer(200, {"ok": True}),
        answer(200, {"ok": True, "result": True}),
        answer(302, b""),
        refusal(500, "Internal Server Error: restart"),
        answer(502, b"<html>Bad Gateway</html>"),
        answer(504, b""),
    ],
    ids=["a page", "a list", "no result", "no message id", "redirect", "500", "502", "504"],
)
async def test_an_answer_that_says_neither_yes_nor_no_is_unclear(
    client_at: ClientAt, behaviour: Behaviour
) -> None:
    async with serve(behaviour) as server:
        client = await client_at(server.url)
        with pytest.raises(DeliveryUnknown):
            await client.send(815, None, HELLO)
        assert len(server.requests) == 1


async def test_too_many_requests_is_not_reached_and_names_telegram_s_wait(client_at: ClientAt) -> None:
    async with serve(refusal(429, "Too Many Requests: retry after 35", retry_after=35)) as server:
        client = await client_at(server.url)
        with pytest.raises(NotDelivered) as caught:
            await client.send(815, None, HELLO)
    assert caught.value.retry_after == 35


@pytest.mark.parametrize("message_id", [True, 0, -5, 2**63, 2**70, 4711.0, "4711", None])
async def test_an_id_that_no_message_can_have_is_unclear(client_at: ClientAt, message_id: object) -> None:
    async with serve(answer(200, {"ok": True, "result": {"message_id": message_id}})) as server:
        client = await client_at(server.url)
        with pytest.raises(DeliveryUnknown, match="did not name the message"):
            await client.send(815, None, HELLO)


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        (0, 1),
        (0.25, 1),
        (2.5, 2.5),
        (86_401, 86_400),
        (10**12, 86_400),
        pytest.param(10**400, 86_400, id="googol"),
        (-1, 5),
        (True, 5),
        ("soon", 5),
        (math.nan, 5),
        (None, None),
    ],
)
async def test_what_telegram_asks_to_wait_is_some_seconds_and_a_day_at_most(
    client_at: ClientAt, said: object, seconds: float | None
) -> None:
    behaviour = answer(429, {"ok": False, "description": "Too Many", "parameters": {"retry_after": said}})
    async with serve(behaviour) as server:
        client = await client_at(server.url)
        with pytest.raises(NotDelivered) as caught:
            await client.send(815, None, HELLO)
    assert caught.value.retry_after == seconds


@pytest.mark.parametrize("chat", [True, 0, 2**63, -(2**70), "-100"])
async def test_a_group_that_moved_to_where_no_chat_can_be_is_refused(
    client_at: ClientAt, chat: object
) -> None:
    words = "Bad Request: group chat was upgraded to a supergroup chat"
    body = {"ok": False, "description": words, "parameters": {"migrate_to_chat_id": chat}}
    async with serve(answer(400, body)) as server:
        client = await client_at(server.url)
        with pytest.raises(Rejected) as caught:
            await client.send(815, None, HELLO)
    assert caught.value.failure.description == words


@pytest.mark.parametrize(
    ("status", "words", "code"),
    [
        (400, "Bad Request: chat not found", "recipient_unreachable"),
        (400, "Bad Request: message thread not found", "telegram_rejected"),
        (400, "Bad Request: BUTTON_DATA_INVALID", "telegram_rejected"),
        (403, "Forbidden: bot was blocked by the user", "recipient_unreachable"),
        (403, "Forbidden: bot can't initiate conversation with a user", "recipient_unreachable"),
        (401, "Unauthorized", "telegram_rejected"),
        (404, "Not Found", "telegram_rejected"),
    ],
)
async def test_a_no_is_rejected_with_telegram_s_own_words(
    client_at: ClientAt, status: int, words: str, code: str
) -> None:
    async with serve(refusal(status, words)) as server:
        client = await client_at(server.url)
        with pytest.raises(Rejected) as caught:
            await client.send(815, None, HELLO)
    failure = caught.value.failure
    assert (failure.code, failure.error_code, failure.description) == (code, status, words)


async def test_a_wrong_token_is_an_error_in_the_log_that_tells_the_operator_what_to_do(
    client_at: ClientAt, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve(refusal(401, "Unauthorized")) as server:
        client = await client_at(server.url)
        with pytest.raises(Rejected, match="BOT_TOKEN"):
            await client.send(815, None, HELLO)
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 1
    assert "BOT_TOKEN" in errors[0].getMessage()


async def test_a_client_that_is_closed_says_that_telegram_was_not_asked(client_at: ClientAt) -> None:
    async with serve(done()) as server:
        client = await client_at(server.url)
        await client.send(815, None, HELLO)
        await client.close()
        with pytest.raises(NotDelivered, match="stopping"):
            await client.send(815, None, HELLO)
        assert len(server.requests) == 1


async def test_cancelling_a_call_ends_it_and_closes_its_connection(client_at: ClientAt) -> None:
    async with serve(hang) as server:
        client = await client_at(server.url)
        sending = asyncio.create_task(client.send(815, None, HELLO))
        await asyncio.wait_for(server.arrived.wait(), 5)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        await asyncio.wait_for(server.closed_by_peer.wait(), 5)


async def test_fifty_calls_at_a_time_share_fifty_connections(client_at: ClientAt) -> None:
    async with serve(done()) as server:
        client = await client_at(server.url)
        for _ in range(4):
            sent = await asyncio.gather(*(client.send(815, None, HELLO) for _ in range(50)))
            assert sent == [4711] * 50
        assert len(server.requests) == 200
        assert server.connections <= 50


@pytest.mark.parametrize(
    "behaviour",
    [reset, reset_in_answer, no_http, hang, endless, answer(200, b"no"), refusal(401, "Unauthorized")],
    ids=["reset", "reset in answer", "no http", "hang", "endless", "nonsense", "401"],
)
async def test_the_token_is_in_no_log_line_and_in_no_exception(
    client_at: ClientAt, caplog: pytest.LogCaptureFixture, behaviour: Behaviour
) -> None:
    caplog.set_level(logging.DEBUG)
    async with serve(behaviour) as server:
        client = await client_at(server.url, 0.3)
        shown = [repr(client)]
        actions: list[Awaitable[object]] = [client.send(815, None, HELLO), client.webhook_info()]
        for action in actions:
            with pytest.raises((NotDelivered, DeliveryUnknown, Rejected)) as caught:
                await action
            shown.extend(_everything_about(caught.value))
    assert "CANARY" not in caplog.text
    assert not [text for text in shown if "CANARY" in text]


def _everything_about(error: BaseException | None) -> list[str]:
    """Text, repr and traceback of an error and of all that lies behind it."""
    if error is None:
        return []
    lines = [str(error), repr(error), "".join(traceback.format_exception(error))]
    return [*lines, *_everything_about(error.__cause__), *_everything_about(error.__context__)]


async def test_the_transport_is_python_telegram_bot_s_own_interface() -> None:
    assert issubclass(Transport, BaseRequest)
    async with serve(hang) as server:
        transport = Transport(total_seconds=1.0)
        assert transport.read_timeout == 1.0
        async with transport:
            await transport.initialize()
            with pytest.raises(TimedOut) as in_time:
                await transport.post(f"{server.url}/bot/getMe")
        assert isinstance(in_time.value, Unanswered)
        with pytest.raises(NetworkError) as closed:
            await transport.post(f"{server.url}/bot/getMe")
        assert isinstance(closed.value, NothingWritten)
        with pytest.raises(NothingWritten, match="no downloads"):
            await transport.retrieve(f"{server.url}/file/x")


async def test_an_address_that_is_none_is_not_reached(client_at: ClientAt) -> None:
    client = await client_at("ftp://127.0.0.1")
    with pytest.raises(NotDelivered, match="no web address"):
        await client.send(815, None, HELLO)


def test_the_same_holds_on_the_loop_that_serves() -> None:
    async def main() -> list[str]:
        outcomes = []
        for behaviour in (done(), reset, hang):
            async with serve(behaviour) as server:
                outcomes.append(await outcome_of(server.url))
        outcomes.append(await outcome_of(f"http://127.0.0.1:{reserved_port()}"))
        return outcomes

    async def outcome_of(url: str) -> str:
        client = TelegramClient(Secret(TOKEN), url, total_seconds=1.0)
        try:
            await client.send(815, None, HELLO)
        except (NotDelivered, DeliveryUnknown) as error:
            return type(error).__name__
        finally:
            await client.close()
        return "sent"

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(main()) == ["sent", "DeliveryUnknown", "DeliveryUnknown", "NotDelivered"]
