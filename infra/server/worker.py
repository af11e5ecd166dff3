"""The gunicorn worker and logger that the server runs under: aiohttp's and gunicorn's own, corrected."""

from __future__ import annotations

import functools
import logging
import signal
import sys
from pathlib import Path
from ssl import SSLContext
from types import FrameType
from typing import Any, Final

import aiohttp
from gunicorn.glogging import Logger  # type: ignore[import-untyped]  # gunicorn brings no types

from core.model.errors import TelegateError
from infra.server.tls import ReloadingTls
from infra.store.errors import StoreRefused
from infra.store.sql.transactions import Database
from infra.store.sqlite.waiting import WaitingSqliteDatabase

BAD_START: Final = 3
_LONGEST_HANDSHAKE = 10.0


class GatewayWorker(aiohttp.GunicornUVLoopWebWorker):
    """aiohttp's worker on uvloop; it stops at once, follows renewed certificates, and fails in words.

    Attributes:
        tls: the master's TLS context, set by `infra.server.gunicorn.pre_fork`: a worker that is started anew
            while the files are broken still has the last good pair.
    """

    tls: ReloadingTls | None = None

    def run(self) -> None:
        """Serve until told to stop; a start that is refused ends with exit code 3 and a readable block."""
        try:
            super().run()
        except TelegateError as error:
            if self.booted:
                raise
            tell_bad_start(error)
            sys.exit(BAD_START)

    def note_early_orders(self) -> None:
        """Note an order to stop that comes while the worker starts.

        The handlers that a new process inherits are the master's, and uvloop loses signals that arrive
        between `add_signal_handler` and the loop's start. The worker would go on starting, and the master
        would kill it only after its whole grace time.
        """
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, self._stop_early)

    def init_signals(self) -> None:
        """Hand signals over to the loop once it runs; until then orders to stop are noted."""
        self.loop.call_soon(super().init_signals)

    def _stop_early(self, sig: int, frame: FrameType | None) -> None:
        del sig, frame
        self.alive = False

    def notify(self) -> None:
        """Tell the master that this worker lives, once a second, and look whether the certificate changed."""
        super().notify()
        if self.tls is not None:
            self.tls.refresh()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop now; aiohttp's worker would notice only at its next tick, up to a second later."""
        super().handle_exit(sig, frame)
        self._notify_waiter_done()

    def _create_ssl_context(self, cfg: Any) -> SSLContext:  # type: ignore[override]  # static in the parent
        """The context for the sites, which aiohttp makes right after this call."""
        if self.tls is None:
            self.tls = ReloadingTls(Path(cfg.certfile), Path(cfg.keyfile))
        # A handshake may take a minute by default, and is not yet counted as a connection.
        self.loop.create_server = functools.partial(  # type: ignore[method-assign]  # aiohttp's site passes no time
            self.loop.create_server, ssl_handshake_timeout=_LONGEST_HANDSHAKE
        )
        return self.tls.context


class GunicornLogger(Logger):  # type: ignore[misc]  # gunicorn brings no types
    """gunicorn's own lines, in our format and without secrets; its access log stays silent.

    Platforms force `--access-logfile -`; our own line per request is written by `handlers.middlewares`.
    """

    def setup(self, cfg: Any) -> None:
        """Hand everything to the root logger, whatever gunicorn's own options say."""
        super().setup(cfg)
        for log in (self.error_log, self.access_log):
            log.handlers.clear()
            log.propagate = True
        self.access_log.setLevel(logging.CRITICAL)

    def info(self, msg: str, *args: Any, **kwargs: Any) -> None:
        """Write what gunicorn has to say, but no error where there is none."""
        # uvloop has closed the listening socket by the time that gunicorn's wrapper is asked to.
        level = logging.DEBUG if msg == "Error while closing socket %s" else logging.INFO
        self.error_log.log(level, msg, *args, **kwargs)


def tell_bad_start(error: TelegateError) -> None:
    """Write why the server cannot start: one readable block on stderr, without a traceback."""
    sys.stderr.write(f"\nTelegate cannot start. {error.detail}\n\n")
    sys.stderr.flush()


async def exit_unless_opened(database: Database) -> None:
    """Return when no other server works on the database; end the process when that takes too long."""
    if isinstance(database, WaitingSqliteDatabase):
        try:
            await database.opened()
        except StoreRefused as error:
            tell_bad_start(error)
            sys.exit(BAD_START)
