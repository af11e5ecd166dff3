"""The log: set up once, for people or for machines, and without any secret in it."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from types import TracebackType
from typing import Any, Final, TextIO

from pydantic_core import PydanticSerializationError, to_json

from infra.config.secret import Secret
from infra.observability.redaction import Redaction
from infra.observability.visible import visible, visible_json

# Loggers that say too much below these levels: addresses with tokens in them, whole payloads, every step.
_QUIET: Final[Mapping[str, int]] = {
    "httpx": logging.WARNING,
    "httpcore": logging.WARNING,
    "telegram": logging.INFO,
    "asyncio": logging.INFO,
    "markdown_it": logging.INFO,
}

_STANDARD_FIELDS: Final = frozenset(
    logging.LogRecord("", 0, "", 0, "", (), None).__dict__ | {"message": "", "asctime": "", "taskName": ""}
)
# Where a line of somebody's words could be taken for the next line of the log, which begins with the time.
_LIKE_A_LINE: Final = re.compile(r"^(?=\d)", re.MULTILINE)
_COLOURS: Final[Mapping[int, str]] = {
    logging.DEBUG: "\x1b[2m",
    logging.WARNING: "\x1b[33m",
    logging.ERROR: "\x1b[31m",
    logging.CRITICAL: "\x1b[1;31m",
}


redaction: Final = Redaction()
_PLAIN: Final = frozenset({str, int, float, bool, type(None)})
_sources: dict[str, Callable[[], str | None]] = {}


def set_sources(**sources: Callable[[], str | None]) -> None:
    """Say where fields are found that a line has untold (a context variable's `get`, for example).

    Args:
        sources: by the names of the fields; a field that is None now is left out.
    """
    _sources.clear()
    _sources.update(sources)


def _extras(record: logging.LogRecord) -> dict[str, object]:
    fields = {name: value for name, value in record.__dict__.items() if name not in _STANDARD_FIELDS}
    for name, source in _sources.items():
        if name not in fields and (value := source()) is not None:
            fields[name] = value
    return fields


def _exception_text(record: logging.LogRecord) -> str:
    if not record.exc_info and not record.stack_info:
        return ""
    parts = []
    if record.exc_info and record.exc_info[0] is not None:
        parts.append("".join(traceback.format_exception(*record.exc_info)).rstrip())
    if record.stack_info:
        parts.append(record.stack_info)
    return redaction.clean("\n".join(parts))


class JsonFormatter(logging.Formatter):
    """One JSON object per line, with the `extra` fields beside the message."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without a line break inside."""
        line: dict[str, Any] = {
            "time": _timestamp(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        for name, value in _extras(record).items():
            line.setdefault(name, value)
        if text := _exception_text(record):
            line["exception"] = text
        values = line.values()
        if _PLAIN.issuperset(map(type, values)):
            # Looked at before they are encoded: that would escape what is in them once more.
            texts = "\n".join([value for value in values if type(value) is str])
            if not redaction.suspects(texts):
                return _encode(line)
        return _encode({name: redaction.clean_value(value) for name, value in line.items()})


class TextFormatter(logging.Formatter):
    """One aligned line for people; the traceback below it.

    Args:
        colours: whether to colour warnings and errors.
    """

    def __init__(self, *, colours: bool) -> None:
        super().__init__()
        self._colours = colours

    def format(self, record: logging.LogRecord) -> str:
        """The line; what acts instead of being seen is spelled out, so that nobody forges another."""
        message = visible(redaction.clean(record.getMessage()), keep="\n").replace("\n", "\n  | ")
        extras = _extras(record)
        told = "".join(f"  {name}={_shown(extras[name])}" for name in _WHO if extras.get(name) is not None)
        request_id = extras.get("request_id")
        told += f"  [{request_id}]" if request_id else ""
        clock = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S")
        line = f"{clock} {record.levelname:<8} {message}{told}"
        colour = _COLOURS.get(record.levelno) if self._colours else None
        if colour is not None:
            line = f"{colour}{line}\x1b[0m"
        text = visible(_exception_text(record), keep="\n")
        return f"{line}\n{_LIKE_A_LINE.sub('  | ', text)}" if text else line


_WHO: Final = ("service", "task", "person", "chat", "command", "method")
"""Fields that say who and what a line for people is about; the others are for machines."""


def _shown(value: object) -> str:
    return visible(redaction.clean(str(value)), keep="\n").replace("\n", "\\n")


def _encode(line: Mapping[str, object]) -> str:
    try:
        return visible_json(to_json(line, inf_nan_mode="strings").decode())
    except (PydanticSerializationError, UnicodeEncodeError):
        # Half a character, which no UTF-8 can say.
        return json.dumps(line, default=str)


def _timestamp(created: float) -> str:
    """A time as RFC 3339 writes it, to the millisecond; most lines share their second with another."""
    second = int(created)
    return f"{_second(second)}.{int((created - second) * 1000):03d}Z"


@lru_cache(maxsize=4)
def _second(since_1970: int) -> str:
    return datetime.fromtimestamp(since_1970, UTC).strftime("%Y-%m-%dT%H:%M:%S")


_UNWRITABLE: Final = "A line of the log could not be written: %s (%s)."


class LogHandler(logging.StreamHandler[TextIO]):
    """Writes to a stream, and goes on when nobody reads it any more."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name is logging's
        """Let a closed pipe swallow what follows; tell any other mistake, but not with its arguments."""
        error = sys.exc_info()[1]
        if isinstance(error, BrokenPipeError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            # Also for what the interpreter writes at its end: a failure there would change the exit code.
            os.dup2(nowhere, self.stream.fileno())
            os.close(nowhere)
        elif record.msg != _UNWRITABLE:
            told = (repr(record.msg), type(error).__name__)
            self.emit(
                logging.LogRecord(
                    record.name, logging.ERROR, record.pathname, record.lineno, _UNWRITABLE, told, None
                )
            )


class _NoRawBytes(logging.Filter):
    """aiohttp logs the beginning of a header that it cannot read, so also of `Authorization`."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and type(error).__module__ == "aiohttp.http_exceptions":
            record.msg, record.args = "A request that is not well-formed HTTP was refused.", ()
            record.exc_info = record.exc_text = None
        return True


def configure_logging(
    *, log_format: str | None, level: str, secrets: Iterable[Secret] = (), stream: TextIO | None = None
) -> None:
    """Set the log up for this process and those it forks; a second call replaces the first.

    Args:
        log_format: `text`, `json`, or None for text on a terminal and JSON otherwise.
        level: `debug`, `info`, `warning` or `error`.
        secrets: values that must never be written.
        stream: where to write; None means stderr.
    """
    stream = sys.stderr if stream is None else stream
    # Nothing of this is in our lines: https://docs.python.org/3/howto/logging.html#optimization
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging.logAsyncioTasks = False  # type: ignore[attr-defined]  # from 3.12 on
    redaction.register(secrets)
    handler = LogHandler(stream)
    handler.setFormatter(_formatter(log_format, stream))
    root = logging.getLogger()
    for old in [one for one in root.handlers if isinstance(one, LogHandler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    for name, least in _QUIET.items():
        logging.getLogger(name).setLevel(max(least, root.level))
    for name in ("aiohttp.server", "aiohttp.web"):
        logger = logging.getLogger(name)
        logger.filters = [one for one in logger.filters if not isinstance(one, _NoRawBytes)] + [_NoRawBytes()]
    logging.captureWarnings(capture=True)
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_in_thread


def _formatter(log_format: str | None, stream: TextIO) -> logging.Formatter:
    is_terminal = stream.isatty()
    if log_format == "json" or (log_format is None and not is_terminal):
        return JsonFormatter()
    return TextFormatter(colours=is_terminal and not os.environ.get("NO_COLOR"))


def _log_uncaught(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
    """What ends the process is logged like everything else: the interpreter would print it unredacted."""
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, where)
        return
    logging.getLogger("telegate").critical(
        "The process ends because of a mistake in its code.",
        exc_info=(kind, error, where),
        extra={"action": "uncaught_exception"},
    )


def _log_uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None and not isinstance(args.exc_value, SystemExit):
        logging.getLogger("telegate").error(
            "A thread ended because of a mistake in its code.",
            exc_info=(args.exc_type, args.exc_value, args.exc_traceback),
            extra={"action": "uncaught_exception", "thread_name": args.thread.name if args.thread else None},
        )
