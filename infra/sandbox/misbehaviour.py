"""Faults played on a Bot API call: late, broken, endless or no answers at all."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Awaitable, Callable

from aiohttp import web

from infra.sandbox.answers import Answer, MethodFailed, too_many_requests
from infra.sandbox.faults import DONE_ANYWAY, Fault, FaultKind

NO_JSON = b"<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"
CHUNK = 1 << 16

Play = Callable[[Fault, web.Request, Answer | None], Awaitable[web.StreamResponse]]


def failure_of(fault: Fault) -> MethodFailed | None:
    """The refusal that the fault stands for, or None when it is of another kind."""
    if fault.kind is FaultKind.TOO_MANY_REQUESTS:
        return too_many_requests(fault.retry_after)
    if fault.kind is FaultKind.ERROR:
        return MethodFailed(fault.status, fault.description)
    return None


def is_done(fault: Fault) -> bool:
    """Whether the call's work is done although the answer goes wrong."""
    return fault.effect or fault.kind in DONE_ANYWAY


async def play(fault: Fault, request: web.Request, answer: Answer | None) -> web.StreamResponse:
    """Answer a call the way the fault says; `answer` is the right answer when the work was done."""
    if failure := failure_of(fault):
        return respond(Answer.refusing(failure))
    return await PLAYS[fault.kind](fault, request, answer)


def respond(answer: Answer) -> web.Response:
    """The HTTP response of an answer."""
    headers = {"Retry-After": str(answer.retry_after)} if answer.retry_after else None
    return web.Response(
        status=answer.status, body=answer.body, content_type="application/json", headers=headers
    )


async def _reset(_: Fault, request: web.Request, __: Answer | None) -> web.StreamResponse:
    """Cut the connection with RST, so that the caller sees a reset and not an end."""
    transport = request.transport
    if transport is not None:
        peer = transport.get_extra_info("socket")
        if peer is not None:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    return web.Response()


async def _hang(fault: Fault, request: web.Request, answer: Answer | None) -> web.StreamResponse:
    await fault.lifted.wait()
    return await _reset(fault, request, answer)


async def _drip(fault: Fault, request: web.Request, answer: Answer | None) -> web.StreamResponse:
    body = answer.body if answer else b""
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    response.content_length = len(body)
    await response.prepare(request)
    for at in range(len(body)):
        if fault.lifted.is_set():
            await response.write(body[at:])
            break
        await response.write(body[at : at + 1])
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(fault.seconds):
                await fault.lifted.wait()
    await response.write_eof()
    return response


async def _slow(fault: Fault, _: web.Request, answer: Answer | None) -> web.StreamResponse:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(fault.seconds):
            await fault.lifted.wait()
    return respond(answer) if answer else web.Response()


async def _nonsense(_: Fault, __: web.Request, ___: Answer | None) -> web.StreamResponse:
    return web.Response(body=NO_JSON, content_type="text/html")


async def _huge(fault: Fault, request: web.Request, _: Answer | None) -> web.StreamResponse:
    head, tail = b'{"ok":true,"result":"', b'"}'
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    response.content_length = max(fault.size, len(head) + len(tail))
    await response.prepare(request)
    await response.write(head)
    left = response.content_length - len(head) - len(tail)
    while left > 0:
        await response.write(b"x" * min(CHUNK, left))
        left -= CHUNK
    await response.write(tail)
    await response.write_eof()
    return response


PLAYS: dict[FaultKind, Play] = {
    FaultKind.RESET: _reset,
    FaultKind.HANG: _hang,
    FaultKind.DRIP: _drip,
    FaultKind.SLOW: _slow,
    FaultKind.NONSENSE: _nonsense,
    FaultKind.HUGE: _huge,
}
