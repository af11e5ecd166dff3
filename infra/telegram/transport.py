"""python-telegram-bot's network side on one aiohttp session; it knows what was written and what not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import aiohttp
from aiohttp.abc import AbstractResolver, AbstractStreamWriter
from aiohttp.payload import BytesPayload
from pydantic_core import from_json, to_json
from telegram.error import NetworkError, TelegramError, TimedOut
from telegram.request import BaseRequest, RequestData

TOTAL_SECONDS: Final = 20.0
"""The longest that one call may take, from the wait for a connection to the answer's last byte."""

LARGEST_ANSWER: Final = 1_048_576
"""Bytes of an answer that are read, after decompression; Telegram's own answers are a few kB."""

_KEEP_ALIVE_SECONDS = 30.0
_CONNECTIONS = 512
_HEADERS = {"Accept-Encoding": "identity", "User-Agent": "telegate"}


class NothingWritten(NetworkError):
    """The call ended before a byte of it was written (DNS, connect, TLS, no free connection): not done."""


class NothingWrittenInTime(NothingWritten, TimedOut):
    """The same, because the time was over."""


class Unanswered(NetworkError):
    """Bytes were written and no usable answer came: it may or may not have been done."""


class UnansweredInTime(Unanswered, TimedOut):
    """The same, because the time was over."""


class Refusal(TelegramError):
    """An HTTP answer other than success; kept whole, since python-telegram-bot rewrites Telegram's words.

    Attributes:
        status: the HTTP status.
        payload: the body as it came.
    """

    __slots__ = ("payload", "status")

    def __init__(self, status: int, payload: bytes) -> None:
        super().__init__(f"Telegram answered with status {status}.")
        self.status = status
        self.payload = payload


class _JsonBody(BytesPayload):
    """A JSON body that remembers whether it reached a connection."""

    written = False

    def __init__(self, body: bytes) -> None:
        super().__init__(body, content_type="application/json")

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        self.written = _is_writable(writer)
        await super().write_with_length(writer, content_length)


class _FormBody(aiohttp.MultipartWriter):
    """A body with files that remembers whether it reached a connection."""

    written = False

    def __init__(self, request_data: RequestData) -> None:
        super().__init__("form-data")
        for name, text in request_data.json_parameters.items():
            self.append(text).set_content_disposition("form-data", name=name)
        for name, (filename, content, mimetype) in request_data.multipart_data.items():
            part = self.append(content, {"Content-Type": mimetype})
            part.set_content_disposition("form-data", name=name, filename=filename)

    async def write(self, writer: AbstractStreamWriter, close_boundary: bool = True) -> None:
        self.written = _is_writable(writer)
        await super().write(writer, close_boundary)


_Body = _JsonBody | _FormBody
HearDate = Callable[[str | None], None]


def _is_writable(writer: AbstractStreamWriter) -> bool:
    """Whether a write now will reach the connection.

    aiohttp keeps the headers back and writes them together with the body's first bytes, or refuses
    both when the connection is closing; so nothing at all was written before this is true.
    """
    transport = writer.transport
    return transport is not None and not transport.is_closing()


class Transport(BaseRequest):
    """The network side of python-telegram-bot, for all calls of this process.

    Every call is a POST: aiohttp repeats what it holds to be idempotent by itself, and that would send
    twice. No error carries an address, since the address holds the bot's token.

    Args:
        total_seconds: the longest that one call may take.
        resolver: who looks up host names; None for aiohttp's own.
        hear_date: told the `Date` header of answers to rare calls, with which clocks are compared.
    """

    __slots__ = ("_hear_date", "_resolver", "_session", "_total")

    def __init__(
        self,
        *,
        total_seconds: float = TOTAL_SECONDS,
        resolver: AbstractResolver | None = None,
        hear_date: HearDate | None = None,
    ) -> None:
        self._hear_date = hear_date
        self._total = total_seconds
        self._resolver = resolver
        self._session: aiohttp.ClientSession | None = None

    @property
    def read_timeout(self) -> float:
        """The longest that one call may take, in seconds."""
        return self._total

    async def initialize(self) -> None:
        """Make the session, in the serving loop; nothing is connected yet."""
        if self._session is not None:
            return
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=_CONNECTIONS, keepalive_timeout=_KEEP_ALIVE_SECONDS, resolver=self._resolver
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=self._total),
            headers=_HEADERS,
            trust_env=False,
        )

    async def shutdown(self) -> None:
        """Close every connection."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def do_request(
        self,
        url: str,
        method: str,
        request_data: RequestData | None = None,
        *_timeouts: object,
        **_named_timeouts: object,
    ) -> tuple[int, bytes]:
        """One call of python-telegram-bot; its four time-outs are covered by the one total time.

        Raises:
            Refusal: the answer is no success.
            NothingWritten: certainly not done.
            Unanswered: may or may not have been done.
        """
        if method != "POST":
            raise NothingWritten("Only calls of Bot API methods are built, no downloads.")
        body: _Body
        if request_data is None:
            body = _JsonBody(b"{}")
        elif request_data.contains_files:
            body = _FormBody(request_data)
        else:
            body = _JsonBody(to_json(request_data.parameters))
        status, payload = await self._exchange(url, body, self._hear_date)
        if status // 100 != 2:  # noqa: PLR2004 - the class of success, RFC 9110 section 15.3
            raise Refusal(status, payload)
        return status, payload

    async def call(self, url: str, parameters: dict[str, Any]) -> tuple[int, bytes]:
        """One call without files: the short way for messages, a fourth of `Bot.send_message`'s cost.

        Args:
            url: the method's address.
            parameters: its parameters, as the Bot API names them.

        Returns:
            The HTTP status, whatever it is, and the body.

        Raises:
            NothingWritten: certainly not done.
            Unanswered: may or may not have been done.
        """
        return await self._exchange(url, _JsonBody(to_json(parameters)))

    @staticmethod
    def parse_json_payload(payload: bytes) -> dict[str, Any]:
        """Parse an answer; unlike the original, log nothing of it and accept JSON objects only."""
        try:
            answer = from_json(payload)
        except ValueError:
            answer = None
        if not isinstance(answer, dict) or "result" not in answer:
            raise Unanswered("The answer is not what the Bot API promises.")
        return answer

    async def _exchange(self, url: str, body: _Body, hear_date: HearDate | None = None) -> tuple[int, bytes]:
        if self._session is None:
            raise NothingWritten("The connection to Telegram is closed.")
        try:
            response = await self._session.post(url, data=body, allow_redirects=False)
            if hear_date is not None:
                hear_date(response.headers.get("Date"))
            try:
                return response.status, await _read(response)
            except BaseException:
                response.close()
                raise
        except (aiohttp.ClientError, OSError, ValueError) as caught:
            error: Exception = caught
        # Raised outside the except block: aiohttp's errors can hold the address, and with it the token.
        raise _failure(error, written=body.written)


async def _read(response: aiohttp.ClientResponse) -> bytes:
    chunks: list[bytes] = []
    size = response.content_length or 0
    if size <= LARGEST_ANSWER:
        size = 0
        while not response.content.at_eof():
            chunk = await response.content.readany()
            chunks.append(chunk)
            size += len(chunk)
            if size > LARGEST_ANSWER:
                break
    if size > LARGEST_ANSWER:
        raise aiohttp.ClientPayloadError("The answer is larger than a megabyte.")
    return b"".join(chunks)


def _failure(error: Exception, *, written: bool) -> NetworkError:
    reason = next(words for kind, words in _REASONS if isinstance(error, kind))
    if isinstance(error, aiohttp.ClientConnectorError) and error.strerror:
        reason = f"{reason} ({error.strerror.lower()})"
    if isinstance(error, TimeoutError):
        return UnansweredInTime(f"{reason}.") if written else NothingWrittenInTime(f"{reason}.")
    return Unanswered(f"{reason}.") if written else NothingWritten(f"{reason}.")


_REASONS: Final[tuple[tuple[type[Exception], str], ...]] = (
    (TimeoutError, "The time was over"),
    (aiohttp.ClientConnectorDNSError, "The host name could not be looked up"),
    (aiohttp.ClientConnectorCertificateError, "The server's certificate is not trusted"),
    (aiohttp.ClientSSLError, "The TLS handshake failed"),
    (aiohttp.ClientConnectorError, "No connection could be made"),
    (aiohttp.ClientPayloadError, "The answer broke off, could not be unpacked, or was larger than 1 MB"),
    (aiohttp.ClientResponseError, "The answer was no HTTP"),
    (aiohttp.InvalidURL, "The address is no web address"),
    (aiohttp.NonHttpUrlClientError, "The address is no web address"),
    (Exception, "The connection was lost"),
)
"""What happened, in words and without the address; the first class that fits counts."""
