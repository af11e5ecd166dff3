"""No request that is accepted holds the loop, whatever it is made of: measured beside fixed work."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Final, cast
from unittest import mock

import pytest
from aiohttp import web
from aiohttp.streams import StreamReader
from aiohttp.test_utils import make_mocked_request

from core.model.errors import Invalid, TelegateError
from handlers.bodies import EnqueueBody, QuestionBody
from handlers.keys import SERVICES, RequestLimits, Services
from handlers.problems import problem_response
from handlers.requests import (
    JSON_LIMIT,
    MOST_VALUES,
    inner_body,
    parse_body,
    parse_json,
    preference,
    read_json,
    refuse_parameters,
)

SIZE: Final = JSON_LIMIT - 100
"""Bytes of a body; the earlier interface carries it in another one."""

TRIES: Final = 5
"""Of which the shortest counts: what else the machine does is not measured."""


def fixed_work() -> None:
    """What takes some 20 ms on a machine of 2026, and as much longer on another as everything does."""
    for _ in range(1_000_000):
        pass


def listed(item: bytes, around: bytes = b"[%b]", count: int | None = None) -> bytes:
    """As many of these as fit into a body, or so many."""
    fit = (SIZE - len(around)) // (len(item) + 1)
    return around % b",".join([item] * min(fit, count or fit))


def named(item: bytes, around: bytes, count: int | None = None) -> bytes:
    """The same under names that are all different."""
    fit = (SIZE - len(around)) // (len(item) + 9)
    return around % b",".join(b'"%06d%b' % (number, item) for number in range(min(fit, count or fit)))


def text_of(piece: bytes) -> bytes:
    return b'{"text":"%b"}' % (piece * ((SIZE - 20) // len(piece)))


FEW: Final = MOST_VALUES - 10
QUESTION: Final = b'{"chat":1,"text":"x",%b}'
METADATA: Final = b'{"chat":1,"text":"x","metadata":{%b}}'
LONG_NAME: Final = b"k" * 400 + b'":1'

WORST: Final = {
    "unknown fields": named(b'":1', QUESTION),
    "as many unknown fields as are looked at": named(b'":1', QUESTION, FEW),
    "the same with long names": named(LONG_NAME, QUESTION, FEW),
    "pairs of metadata": named(b'":1', METADATA),
    "as many pairs as are looked at": named(b'":1', METADATA, FEW),
    "the same with long names of pairs": named(LONG_NAME, METADATA, FEW),
    "options": listed(b'{"x":1}', b'{"chat":1,"text":"x","options":[%b]}'),
    "people": listed(b"-1", b'{"chat":1,"text":"x","respondents":{"people":[%b]}}'),
    "the same name again and again": listed(b'"a":1', b"{%b}"),
    "empty objects": listed(b"{}"),
    "empty lists": listed(b"[]"),
    "empty texts": listed(b'""'),
    "depth": b"[" * (SIZE // 2) + b"]" * (SIZE // 2),
    "many deep lists": listed(b"[" * 30 + b"]" * 30),
    "one number": b"[" + b"9" * (SIZE - 2) + b"]",
    "one fraction": b"[0." + b"9" * (SIZE - 4) + b"]",
    "long numbers": listed(b"9" * 4000),
    "numbers of the length that is taken": listed(b"9" * 399, count=FEW),
    "fractions of the length that is taken": listed(b"0." + b"9" * 398, count=FEW),
    "escapes": text_of(b"\\n"),
    "backslashes": text_of(b"\\\\"),
    "quotes": text_of(b'\\"'),
    "quotes and commas": text_of(b'\\",'),
    "escaped pairs": text_of(b"\\ud83d\\ude00"),
    "a lone half behind escapes": text_of(b"\\n")[:-10] + b'\\ud83d"}',
    "a lone half behind pairs": text_of(b"\\ud83d\\ude00")[:-14] + b'\\ud83d"}',
    "letters": text_of("é".encode()),
    "commas": text_of(b","),
    "commas, then unknown fields": named(b'":1', b'{"text":"' + b"[," * 400_000 + b'",%b}', min(FEW, 20_000)),
    "a name": b'{"' + b"k" * (SIZE - 10) + b'":1}',
    "a mistake at the end": b" " * (SIZE - 1) + b"x",
}


def request_with(
    body: bytes = b"", path: str = "/v1/questions", headers: dict[str, str] | None = None
) -> web.Request:
    app = web.Application()
    app[SERVICES] = cast("Services", SimpleNamespace(limits=RequestLimits()))
    reader = StreamReader(mock.Mock(_reading_paused=False), 2 * JSON_LIMIT, loop=asyncio.get_running_loop())
    reader.feed_data(body)
    reader.feed_eof()
    given = {"Content-Type": "application/json", **(headers or {})}
    return make_mocked_request("POST", path, headers=given, payload=reader, app=app)


async def asked(body: bytes) -> None:
    """What a question with this body goes through until it is refused."""
    try:
        read = await read_json(request_with(body))
        _ = read.fingerprint
        parse_body(read, QuestionBody)
    except TelegateError as error:
        problem_response(error, "req_1")


async def enqueued(body: bytes) -> None:
    """The same by the earlier interface."""
    try:
        read = await read_json(request_with(b'{"command":"question","arguments":%b}' % body))
        parse_body(read, EnqueueBody)
        inner = await inner_body(read.value["arguments"], like=read)
        _ = inner.fingerprint
        parse_body(inner, QuestionBody)
    except TelegateError as error:
        problem_response(error, "req_1")


def shortest(work: Callable[[], Any], clock: Callable[[], float]) -> float:
    taken = []
    for _ in range(TRIES):
        began = clock()
        work()
        taken.append(clock() - began)
    return min(taken)


@pytest.mark.parametrize("way", [asked, enqueued])
@pytest.mark.parametrize("body", WORST.values(), ids=WORST.keys())
def test_no_body_holds_the_loop(way: Callable[[bytes], Any], body: bytes) -> None:
    assert len(body) <= SIZE
    with asyncio.Runner() as running:
        running.get_loop().run_until_complete(asyncio.to_thread(fixed_work))  # its threads have begun
        held = shortest(lambda: running.run(way(body)), time.thread_time)
        in_all = shortest(lambda: running.run(way(body)), time.process_time)
    work = shortest(fixed_work, time.thread_time)
    assert held <= work
    assert in_all <= 3 * work


LINE: Final = 8000
"""Characters of a header, or of a path with its query, about as many as are taken."""

HEADERS: Final = 32_000
"""Characters of all headers, about as many as are taken."""


@pytest.mark.parametrize("part", ["a&", "%41=&", "a=%C3%A9&", "é", "a;"])
def test_no_query_holds_the_loop(part: str) -> None:
    async def read() -> None:
        request = request_with(path=f"/v1/me?{part * (LINE // len(part))}")
        with pytest.raises(Invalid) as caught:
            refuse_parameters(request)
        assert len(problem_response(caught.value, "req_1").body or b"") < 20_000  # type: ignore[arg-type]  # bytes

    with asyncio.Runner() as running:
        assert shortest(lambda: running.run(read()), time.thread_time) <= shortest(
            fixed_work, time.thread_time
        )


@pytest.mark.parametrize("part", [",", '"', '",', "\\", '"\\', "wait=1,", "a;", 'a="b,', '"\\"'])
def test_no_preference_holds_the_loop(part: str) -> None:
    async def read() -> None:
        preference(request_with(headers={"Prefer": f"foo, {part * (HEADERS // len(part))}"}), 1.0)

    with asyncio.Runner() as running:
        assert shortest(lambda: running.run(read()), time.thread_time) <= shortest(
            fixed_work, time.thread_time
        )


# What is refused is told as before


@pytest.mark.parametrize(
    ("text", "position"),
    [
        (b"\\ud83d", 9),
        (b"\\ude00", 9),
        (b"\\ud83d\\ud83d\\ude00", 9),
        (b"\\ud83d\\ude00\\ude00", 21),
        (b"\\\\\\ud83d", 11),
        (b"\\n\\uD83Dx", 11),
    ],
)
def test_half_a_character_is_refused_by_its_place(text: bytes, position: int) -> None:
    with pytest.raises(TelegateError, match=rf"at byte {position} of the body is half a character"):
        parse_json(b'{"text":"%b"}' % text)


@pytest.mark.parametrize("text", [b"\\\\ud83d", b"\\ud83d\\ude00", b"\\\\\\ud83d\\ude00", b"\\u00e9"])
def test_whole_characters_pass_however_they_are_written(text: bytes) -> None:
    raw = b'{"text":"%b"}' % text
    assert parse_json(raw) == json.loads(raw)


def test_as_many_values_as_a_request_may_need_pass_whatever_stands_in_their_texts() -> None:
    texts = ['[{,"\\', "[" * 30_000 + "," * 30_000, '\\"' * 1000]
    raw = json.dumps({"people": list(range(1000)), "texts": texts}).encode()
    assert parse_json(raw) == json.loads(raw)


@pytest.mark.parametrize("item", [b"1", b'"a"', b"null", b"[]", b"{}", b'"\\\\"', b'"[,\\""'])
def test_one_value_more_than_a_request_may_need_is_refused(item: bytes) -> None:
    brackets = 2 if item in {b"[]", b"{}"} else 1
    fits = (MOST_VALUES - 1) // brackets
    assert len(parse_json(listed(item, count=fits))) == fits
    with pytest.raises(Invalid) as caught:
        parse_json(listed(item, count=2 * MOST_VALUES))
    [told] = caught.value.problems
    assert "or more values" in told.detail
