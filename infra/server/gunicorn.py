"""gunicorn's configuration, made from the settings.

Used as `gunicorn -c python:infra.server.gunicorn infra.app:create_app`. Only what gunicorn itself does is set
here; what aiohttp does is set in `infra/server/runner.py`. Every name in this
module that is one of gunicorn's settings is taken by gunicorn as such.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gunicorn.systemd import listen_fds  # type: ignore[import-untyped]  # gunicorn brings no types

from core.model.errors import TelegateError
from infra.config.permissions.file import PolicyFile
from infra.observability.logs import configure_logging
from infra.server.preflight import prepare, require_address
from infra.server.runner import BACKLOG
from infra.server.worker import BAD_START, GunicornLogger, tell_bad_start

if TYPE_CHECKING:
    from infra.config.settings import Settings
    from infra.server.tls import ReloadingTls
    from infra.server.worker import GatewayWorker


_log = logging.getLogger("telegate.settings")


def _start() -> tuple[Settings, ReloadingTls | None]:
    """Read settings, policy and certificate; end the process, with all problems told, when one is wrong."""
    try:
        return prepare(_begin_log)
    except TelegateError as error:
        tell_bad_start(error)
        sys.exit(BAD_START)


def _begin_log(chosen: Settings) -> None:
    configure_logging(log_format=chosen.log_format, level=chosen.log_level, secrets=chosen.secrets)
    for warning in chosen.warnings:
        _log.warning(warning, extra={"action": "settings_warning"})


def _memory_folder() -> str | None:
    """A folder in memory for the file by which workers show that they live: a slow disk must not stop one."""
    folder = Path("/dev/shm")  # noqa: S108 - gunicorn makes its file there safely, and unlinks it at once
    return str(folder) if folder.is_dir() and os.access(folder, os.W_OK) else None


_chosen, _tls = _start()

bind = [_chosen.bind]
backlog = BACKLOG
workers = _chosen.processes
worker_class = "infra.server.worker.GatewayWorker"
worker_tmp_dir = _memory_folder()
preload_app = False
max_requests = 0
# A worker is killed when its loop stands still for so long; a start may wait for the database's lock.
timeout = max(60, _chosen.shutdown_grace + 25)
graceful_timeout = _chosen.shutdown_grace
keepalive = 95
loglevel = _chosen.log_level
logger_class = GunicornLogger
accesslog = None
# Two servers of one user would overwrite each other's control socket.
control_socket_disable = True
proc_name = "telegate"
certfile = None if _chosen.tls is None else str(_chosen.tls.certificate)
keyfile = None if _chosen.tls is None else str(_chosen.tls.key)


def on_starting(server: Any) -> None:
    """Refuse an address that cannot be had, in words (gunicorn's hook, before it listens there itself)."""
    handed_over = server.LISTENERS or server.master_pid or listen_fds(unset_environment=False)
    if handed_over or server.cfg.reuse_port:
        return
    try:
        for address in server.cfg.address:
            if isinstance(address, tuple):
                require_address(*address)
    except TelegateError as error:
        tell_bad_start(error)
        sys.exit(BAD_START)


def pre_fork(server: Any, worker: GatewayWorker) -> None:
    """Give a new worker the newest good certificate and policy (gunicorn's hook, in the master)."""
    del server
    PolicyFile.opened(_chosen.permissions_file, _chosen.person_roles)
    if _tls is not None:
        _tls.refresh()
        worker.tls = _tls


def post_fork(server: Any, worker: GatewayWorker) -> None:
    """Let a new worker hear at once that it shall stop (gunicorn's hook, in the worker)."""
    del server
    worker.note_early_orders()
