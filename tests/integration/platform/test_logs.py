"""The log: two formats, no secrets, no forged lines, and nobody to read it."""

from __future__ import annotations

import io
import json
import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any, NoReturn

import pytest
from aiohttp.http_exceptions import LineTooLong
from multidict import CIMultiDict

from infra.config.secret import Secret
from infra.observability import logs
from infra.observability.logs import (
    JsonFormatter,
    LogHandler,
    configure_logging,
    redaction,
    set_sources,
)
from infra.observability.redaction import Redaction

SECRET = 'canary-secret-"quoted"-ü:0123456789'
TOKEN = "123456789:canary_token-0123456789abcdefghij"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJjaSJ9.canary-signature"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def the_log_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    levels = {name: logging.getLogger(name).level for name in logs._QUIET}
    hooks = sys.excepthook, threading.excepthook
    known = set(redaction._known), redaction._pattern
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, old in levels.items():
        logging.getLogger(name).setLevel(old)
    sys.excepthook, threading.excepthook = hooks
    redaction._known, redaction._pattern = known
    logging.captureWarnings(capture=False)
    set_sources()


def fail(error: Exception) -> NoReturn:
    raise error


def written(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_of_json_has_the_sentence_and_the_fields() -> None:
    stream = io.StringIO()
    configure_logging(log_format="json", level="info", stream=stream)
    set_sources(request_id=lambda: "req_1", task=lambda: None)
    fields = {"action": "sent", "chat": -100, "parts": [1, {"a": None}], "at": threading.Lock}
    logging.getLogger("telegate.test").info("A message was sent to %s.", "ops", extra=fields)
    (line,) = written(stream)
    assert line["message"] == "A message was sent to ops."
    assert (line["level"], line["logger"], line["request_id"]) == ("info", "telegate.test", "req_1")
    assert (line["action"], line["chat"], line["parts"]) == ("sent", -100, [1, {"a": None}])
    assert "Lock" in line["at"] or "lock" in line["at"]
    assert line["time"].endswith("Z")


def test_without_a_choice_a_terminal_gets_text_and_everything_else_json() -> None:
    terminal, pipe = Terminal(), io.StringIO()
    for stream in (terminal, pipe):
        configure_logging(log_format=None, level="info", stream=stream)
        logging.getLogger("telegate.test").info("Hello.")
    assert terminal.getvalue().endswith("INFO     Hello.\n")
    assert written(pipe)[0]["message"] == "Hello."


def test_text_is_coloured_only_on_a_terminal_that_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    coloured, plain, refused = Terminal(), io.StringIO(), Terminal()
    for stream in (coloured, plain):
        configure_logging(log_format="text", level="info", stream=stream)
        logging.getLogger("telegate.test").warning("Look.")
    monkeypatch.setenv("NO_COLOR", "1")
    configure_logging(log_format="text", level="info", stream=refused)
    logging.getLogger("telegate.test").warning("Look.")
    assert "\x1b[33m" in coloured.getvalue()
    assert "\x1b" not in plain.getvalue() + refused.getvalue()


def test_text_carries_the_request_id_and_the_traceback() -> None:
    stream = io.StringIO()
    configure_logging(log_format="text", level="info", stream=stream)
    set_sources(request_id=lambda: "req_1", task=lambda: None)
    try:
        fail(LookupError("lost"))
    except LookupError:
        logging.getLogger("telegate.test").exception("It went wrong.", stack_info=True)
    text = stream.getvalue()
    assert "ERROR    It went wrong.  [req_1]\nTraceback" in text
    assert "LookupError: lost" in text
    assert "Stack (most recent call last)" in text


def test_text_says_who_and_what_a_line_is_about() -> None:
    stream = io.StringIO()
    configure_logging(log_format="text", level="info", stream=stream)
    fields = {"action": "x", "status": 200, "person": 815, "command": "a\nb", "task": None}
    logging.getLogger("telegate.test").info("Hello.", extra=fields)
    assert stream.getvalue().endswith("INFO     Hello.  person=815  command=a\\nb\n")


def test_a_message_cannot_forge_a_second_line() -> None:
    text, machine = io.StringIO(), io.StringIO()
    for log_format, stream in (("text", text), ("json", machine)):
        configure_logging(log_format=log_format, level="info", stream=stream)
        logging.getLogger("telegate.test").info("GET %s", "/a\n12:00:00 ERROR    forged\r\x1b[2J")
    first, second = text.getvalue().splitlines()
    assert first.endswith("GET /a")
    assert second == "  | 12:00:00 ERROR    forged\\x0d\\x1b[2J"
    assert len(written(machine)) == 1


ACTING = [
    *map(chr, (*range(0x0A), *range(0x0B, 0x20), *range(0x7F, 0xA0))),
    *map(chr, (0x00AD, 0x061C, 0x180E, *range(0x200B, 0x2010), *range(0x2028, 0x202F))),
    *map(chr, (*range(0x2060, 0x2070), 0xFEFF, *range(0xFFF9, 0xFFFC), 0xFFFF)),
    *map(chr, (0xD800, 0xDFFF, 0xE000, 0x1D173, 0xE0001, *range(0xE0020, 0xE0080), 0x10FFFF)),
]
"""What no reader sees, and what a terminal or a viewer obeys: escapes, line ends, directions, tags."""


@pytest.mark.parametrize("acting", ACTING, ids=lambda letter: f"U+{ord(letter):04X}")
def test_no_character_of_others_acts_on_whoever_reads_the_log(
    acting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # pytest-xdist cannot pass on half a character that pytest itself has captured.
    own = [each for each in logging.root.handlers if not type(each).__module__.startswith("_pytest")]
    monkeypatch.setattr(logging.root, "handlers", own)
    for log_format in ("text", "json"):
        stream = io.StringIO()
        configure_logging(log_format=log_format, level="info", stream=stream)
        log = logging.getLogger("telegate.test")
        log.info(
            "A name: %s", f"a{acting}b", extra={"command": f"c{acting}d", "deep": {f"e{acting}": [acting]}}
        )
        try:
            fail(LookupError(f"f{acting}g"))
        except LookupError:
            log.exception("It went wrong.", extra={"service": f"h{acting}i"})
        assert acting not in stream.getvalue()
        assert "could not be written" not in stream.getvalue()
        stream.getvalue().encode()
        if log_format == "json":
            told, failed = written(stream)
            assert told["message"] == f"A name: a{acting}b"
            assert told["command"] == f"c{acting}d"
            assert f"LookupError: f{acting}g" in failed["exception"]


def test_letters_of_every_script_and_their_blanks_stay_as_they_are_in_the_log() -> None:
    words = "Ada Łovelace שלום مرحبا 你好\u3000世界 नमस्ते 🙂 1\xa0000"
    for log_format in ("text", "json"):
        stream = io.StringIO()
        configure_logging(log_format=log_format, level="info", stream=stream)
        logging.getLogger("telegate.test").info("%s", words)
        assert words in stream.getvalue()


def test_an_error_s_words_cannot_forge_a_line_below_its_traceback() -> None:
    stream = io.StringIO()
    configure_logging(log_format="text", level="info", stream=stream)
    try:
        fail(LookupError("lost\n12:00:00 ERROR    forged"))
    except LookupError:
        logging.getLogger("telegate.test").exception("It went wrong.")
    assert "\n12:00:00" not in stream.getvalue()
    assert stream.getvalue().endswith("LookupError: lost\n  | 12:00:00 ERROR    forged\n")


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_registered_secret_is_nowhere(log_format: str) -> None:
    stream = io.StringIO()
    configure_logging(
        log_format=log_format, level="debug", secrets=[Secret(SECRET), Secret(TOKEN)], stream=stream
    )
    log = logging.getLogger("telegate.test")
    log.info("In the message: %s and %r and %s", SECRET, SECRET, json.dumps(SECRET))
    log.info("In the address: https://api.telegram.org/file/%s/x", TOKEN.replace(":", "%3A"))
    log.info(
        "In a field.", extra={"one": SECRET, "two": {"deep": [TOKEN, {SECRET: 1}]}, "three": Secret(SECRET)}
    )
    try:
        try:
            fail(ValueError(f"inner {SECRET}"))
        except ValueError as error:
            raise RuntimeError(TOKEN) from error
    except RuntimeError:
        log.exception("In a traceback, with a line of code that holds none.")
    assert "canary" not in stream.getvalue()
    assert stream.getvalue().count("(hidden)") >= 6


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (f"POST https://api.telegram.org/bot{TOKEN}/sendMessage", "/sendMessage"),
        (f"token={JWT}&x=1", "&x=1"),
        ("token=eyJhbGciOiJIUzI1NiJ9canary", "token="),
        ("Authorization: Bearer canary-opaque\r\nHost: x", "Host: x"),
        ("'authorization': 'Basic canary='", "authorization"),
        (repr(CIMultiDict({"Authorization": "Bearer canary.opaque", "Host": "kept"})), "kept"),
        ("b'Bearer canary_opaque'", "Bearer"),
        ("Proxy-Authorization: canary", "Proxy"),
    ],
)
def test_what_looks_like_a_secret_is_hidden_although_nobody_registered_it(text: str, kept: str) -> None:
    cleaned = Redaction().clean(text)
    assert "canary" not in cleaned
    assert "(hidden)" in cleaned
    assert kept in cleaned


@pytest.mark.parametrize(
    "text",
    ["the authorization of a service", "Authorization is missing.", "bots 123: hello", "a bearer of news"],
)
def test_plain_words_are_left_alone(text: str) -> None:
    assert Redaction().clean(text) == text


def test_a_secret_too_short_to_look_for_does_not_blacken_the_log() -> None:
    words = Redaction()
    words.register([Secret("a")])
    assert words.clean("a banana") == "a banana"


def test_libraries_that_log_addresses_are_silent_below_warning() -> None:
    stream = io.StringIO()
    configure_logging(log_format="json", level="debug", stream=stream)
    logging.getLogger("httpx").info("HTTP Request: POST https://api.telegram.org/…")
    logging.getLogger("httpcore.http11").debug("send_request_headers")
    logging.getLogger("telegram.Bot").debug("a whole payload")
    logging.getLogger("httpx").warning("That matters.")
    assert [line["message"] for line in written(stream)] == ["That matters."]


def test_aiohttp_s_own_error_about_a_header_does_not_repeat_it() -> None:
    stream = io.StringIO()
    configure_logging(log_format="json", level="info", stream=stream)
    configure_logging(log_format="json", level="info", stream=stream)
    try:
        fail(LineTooLong(b"opaque canary", 8190))
    except LineTooLong:
        logging.getLogger("aiohttp.server").exception("Error handling request from %s", "127.0.0.1")
    try:
        fail(LookupError("kept"))
    except LookupError:
        logging.getLogger("aiohttp.server").exception("Error handling request from %s", "127.0.0.1")
    malformed, kept = written(stream)
    assert malformed["message"] == "A request that is not well-formed HTTP was refused."
    assert "exception" not in malformed
    assert "LookupError: kept" in kept["exception"]


def test_a_second_set_up_replaces_the_first() -> None:
    first, second = io.StringIO(), io.StringIO()
    configure_logging(log_format="json", level="debug", stream=first)
    configure_logging(log_format="json", level="warning", stream=second)
    logging.getLogger("telegate.test").info("quiet")
    logging.getLogger("telegate.test").warning("loud")
    assert first.getvalue() == ""
    assert [line["message"] for line in written(second)] == ["loud"]


def test_what_ends_the_process_or_a_thread_is_logged_without_secrets() -> None:
    stream = io.StringIO()
    configure_logging(log_format="json", level="info", secrets=[Secret(SECRET)], stream=stream)
    error = RuntimeError(SECRET)
    sys.excepthook(RuntimeError, error, None)
    thread = threading.Thread(target=lambda: (_ for _ in ()).throw(error), name="writer")
    thread.start()
    thread.join()
    process, worker = written(stream)
    assert process["exception"] == "RuntimeError: (hidden)"
    assert worker["thread_name"] == "writer"
    assert "canary" not in stream.getvalue()


def test_ctrl_c_is_no_mistake_in_the_code(capsys: pytest.CaptureFixture[str]) -> None:
    stream = io.StringIO()
    configure_logging(log_format="json", level="info", stream=stream)
    sys.excepthook(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert stream.getvalue() == ""
    assert "KeyboardInterrupt" in capsys.readouterr().err


def test_warnings_of_python_go_into_the_log() -> None:
    stream = io.StringIO()
    configure_logging(log_format="json", level="info", stream=stream)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=False)
        logging.captureWarnings(capture=True)
        warnings.warn("old spelling", DeprecationWarning, stacklevel=1)
        logging.captureWarnings(capture=False)
    assert "DeprecationWarning: old spelling" in written(stream)[0]["message"]


def test_a_log_that_nobody_reads_any_more_swallows_what_follows() -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as stream:
        configure_logging(log_format="json", level="info", stream=stream)
        os.close(reading)
        for _ in range(3):
            logging.getLogger("telegate.test").info("Is anybody there?")
        stream.write("nor does the interpreter's own last flush fail")


def test_a_mistake_in_a_log_line_is_told_without_its_arguments() -> None:
    stream = io.StringIO()
    handler = LogHandler(stream)
    handler.setFormatter(JsonFormatter())
    handler.handle(logging.LogRecord("telegate.test", logging.INFO, "", 1, "%d tasks", ("canary",), None))
    (line,) = written(stream)
    assert line["message"] == "A line of the log could not be written: '%d tasks' (TypeError)."
    assert "canary" not in stream.getvalue()
