"""Fetching an issuer's keys: one GET over https, with a limit on everything."""

from __future__ import annotations

import asyncio
import errno
import os
import ssl
from typing import Final

import aiohttp

from infra.auth.issuer import KeysNotFetched
from infra.auth.key_set import KeySet, read_key_set

LARGEST: Final = 65_536
"""Bytes of the answer."""

TOTAL_SECONDS: Final = 5.0
"""The longest that a fetch may take, from the host's name to the last byte."""

_HEADERS = {"Accept": "application/jwk-set+json, application/json", "Accept-Encoding": "identity"}


class KeyFetcher:
    """Brings the keys that stand at one address. The address is told to nobody, not even to the log.

    Args:
        url: `JWT_JWKS_URL`.
        tls: how to check the certificate; None as the machine does (`SSL_CERT_FILE`, `SSL_CERT_DIR`).
        total_seconds: the longest that a fetch may take.
    """

    def __init__(
        self, url: str, tls: ssl.SSLContext | None = None, *, total_seconds: float = TOTAL_SECONDS
    ) -> None:
        self._url = url
        self._tls = tls
        self._timeout = aiohttp.ClientTimeout(total=total_seconds)

    async def __call__(self) -> KeySet:
        """The keys as they are now.

        Raises:
            KeysNotFetched: with the reason.
        """
        try:
            body = await self._body()
        except TimeoutError as error:
            raise KeysNotFetched(f"it did not answer within {self._timeout.total:g} s") from error
        except aiohttp.ClientError as error:
            raise KeysNotFetched(_why(error)) from error
        try:
            # In a thread: reading keys loads a library, and 64 of them keep a core busy for a while.
            return await asyncio.to_thread(read_key_set, body)
        except ValueError as error:
            raise KeysNotFetched(f"its answer is no key set, because {error}") from error

    async def _body(self) -> bytes:
        async with (
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=self._tls or True),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=self._timeout,
                auto_decompress=False,
                trust_env=False,
            ) as session,
            session.get(self._url, headers=_HEADERS, allow_redirects=False) as response,
        ):
            try:
                _require_answer(response.status)
                return await _limited(response.content)
            finally:
                # Before the response is given back: a connection that is to be closed politely could outlive
                # the loop of a command.
                await session.close()


def _require_answer(status: int) -> None:
    if 300 <= status < 400:  # noqa: PLR2004 - the redirects of RFC 9110
        raise KeysNotFetched(f"it redirects ({status}), and redirects are not followed")
    if status != 200:  # noqa: PLR2004 - nothing else is an answer
        raise KeysNotFetched(f"it answered {status}")


async def _limited(content: aiohttp.StreamReader) -> bytes:
    body = bytearray()
    async for chunk in content.iter_any():
        body += chunk
        if len(body) > LARGEST:
            raise KeysNotFetched(f"its answer is larger than {LARGEST} bytes")
    return bytes(body)


def _why(error: aiohttp.ClientError) -> str:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return "its certificate is not trusted; SSL_CERT_FILE can name the authority that signed it"
    if isinstance(error, aiohttp.ClientSSLError):
        return "it does not speak TLS as it should"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "its host name has no address"
    if isinstance(error, aiohttp.ClientConnectorError):
        # Not its own words: they hold the address.
        return f"it cannot be reached ({os.strerror(error.errno or errno.ECONNREFUSED).lower()})"
    return "the connection broke, or its answer is not HTTP"
