"""Fetching an issuer's keys, from a real server that speaks TLS and misbehaves in every way."""

from __future__ import annotations

import asyncio
import gzip
import logging
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web

from infra.auth.issuer import KeysNotFetched
from infra.auth.jwks import LARGEST, KeyFetcher
from infra.server.tls import self_signed_pair
from tests.issuer import Answer, TokenIssuer, running_issuer
from tests.ports import reserved_port

LIMIT = 30.0


@pytest_asyncio.fixture
async def issuer(tmp_path: Path) -> AsyncIterator[TokenIssuer]:
    async with running_issuer(tmp_path) as issuer:
        yield issuer


def fetcher(issuer: TokenIssuer, *, url: str = "", seconds: float = LIMIT) -> KeyFetcher:
    trust = ssl.create_default_context(cafile=issuer.certificate)
    return KeyFetcher(url or issuer.url, trust, total_seconds=seconds)


async def why_not(fetch: KeyFetcher) -> str:
    with pytest.raises(KeysNotFetched) as told:
        await fetch()
    assert "127.0.0.1" not in told.value.detail
    return told.value.detail


async def test_the_keys_come_over_tls_and_nothing_is_sent_that_is_not_needed(
    issuer: TokenIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{reserved_port()}")
    found = await fetcher(issuer)()
    assert [(key.kid, key.algorithm) for key in found.keys.values()] == [("first", "ES256")]
    assert set(issuer.headers) == {"Host", "Accept", "Accept-Encoding", "User-Agent"}


async def test_no_cookie_is_kept(issuer: TokenIssuer) -> None:
    async def with_cookie(_: web.Request) -> web.Response:
        response = web.Response(body=issuer.document())
        response.set_cookie("session", "canary")
        return response

    issuer.answer = with_cookie
    fetch = fetcher(issuer)
    for _ in range(2):
        await fetch()
    assert "Cookie" not in issuer.headers
    assert issuer.fetches == 2


async def _endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b" " * 8192)


async def _cut(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "500"})
    await response.prepare(request)
    await response.write(b'{"keys": [')
    assert request.transport is not None
    request.transport.abort()
    return response


async def _cut_at_once(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


def _always(**response: object) -> Answer:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(**response)  # type: ignore[arg-type] # what a test wants to say

    return answer


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (_always(status=301, headers={"Location": "/elsewhere"}), "it redirects (301)"),
        (_always(status=307, headers={"Location": "http://169.254.169.254/"}), "it redirects (307)"),
        (_always(status=500), "it answered 500"),
        (_always(status=404, text='{"keys": []}'), "it answered 404"),
        (_always(status=204), "it answered 204"),
        (_always(status=203, text='{"keys": []}'), "it answered 203"),
        (_always(text="<html>Please sign in</html>", content_type="text/html"), "cannot be read as JSON"),
        (_always(text='{"jwks_uri": "https://x"}'), 'a list of "keys"'),
        (_always(body=b" " * (LARGEST + 1)), "larger than 65536 bytes"),
        (_always(body=gzip.compress(b'{"keys": []}'), headers={"Content-Encoding": "gzip"}), "not UTF-8"),
        (_endless, "larger than 65536 bytes"),
        (_cut, "the connection broke"),
        (_cut_at_once, "the connection broke"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_an_answer_that_is_no_key_set_is_told_in_words(
    issuer: TokenIssuer, answer: Answer, words: str
) -> None:
    issuer.answer = answer
    assert words in await why_not(fetcher(issuer))
    # aiohttp asks once more when a connection is gone before the first byte of an answer.
    assert issuer.fetches == (2 if answer is _cut_at_once else 1)


async def test_as_much_as_is_allowed_is_read(issuer: TokenIssuer) -> None:
    document = issuer.document()
    issuer.answer = _always(body=document + b" " * (LARGEST - len(document)))
    assert set((await fetcher(issuer)()).keys) == {"first"}


@pytest.mark.parametrize("at_once", [True, False])
async def test_an_issuer_that_hangs_or_drips_is_given_up(issuer: TokenIssuer, *, at_once: bool) -> None:
    async def drip(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        if not at_once:
            await response.prepare(request)
            await response.write(b"{")
        await asyncio.Event().wait()
        return response

    issuer.answer = drip
    told = await why_not(fetcher(issuer, seconds=0.3))
    assert told == "it did not answer within 0.3 s"


async def test_an_issuer_that_is_not_there_is_told(issuer: TokenIssuer) -> None:
    await issuer.stop()
    assert "it cannot be reached" in await why_not(fetcher(issuer))


async def test_a_name_without_an_address_is_told(issuer: TokenIssuer) -> None:
    told = await why_not(fetcher(issuer, url="https://issuer.invalid/keys"))
    assert told == "its host name has no address"


async def test_a_certificate_that_nobody_trusts_is_refused_and_the_way_out_is_told(
    issuer: TokenIssuer,
) -> None:
    told = await why_not(KeyFetcher(issuer.url))
    assert "SSL_CERT_FILE" in told
    assert issuer.fetches == 0


async def test_a_certificate_for_another_host_is_refused(issuer: TokenIssuer, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    certificate, _ = self_signed_pair("issuer.example.com", 30)
    (other / "issuer.pem").write_bytes(certificate)
    fetch = KeyFetcher(issuer.url, ssl.create_default_context(cafile=other / "issuer.pem"))
    assert "its certificate is not trusted" in await why_not(fetch)


async def test_a_server_without_tls_gets_nothing(issuer: TokenIssuer) -> None:
    heard: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(1024))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n" + b'{"keys": []}')
        writer.close()

    async with await asyncio.start_server(listen, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        told = await why_not(fetcher(issuer, url=f"https://127.0.0.1:{port}/keys"))
    assert told in {"it does not speak TLS as it should", "the connection broke, or its answer is not HTTP"}
    assert not any(b"GET" in each for each in heard)


async def test_an_answer_that_is_not_http_is_told(
    issuer: TokenIssuer, caplog: pytest.LogCaptureFixture
) -> None:
    async def garble(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.write(b"SSH-2.0-OpenSSH\r\n\r\n")
        request.transport.close()
        return web.Response()

    issuer.answer = garble
    caplog.set_level(logging.CRITICAL, logger="aiohttp.server")
    assert "not HTTP" in await why_not(fetcher(issuer))
