"""What the contenders built on python-telegram-bot share: the bot of this run, from the environment."""

from __future__ import annotations

import os

from telegram import Update
from telegram.ext import Application, ApplicationBuilder, TypeHandler


def build_bot(*, with_updater: bool) -> Application:  # type: ignore[type-arg]  # six parameters that say nothing here
    """An application with one handler that does nothing.

    Args:
        with_updater: whether the library's own webhook server will bring the updates.
    """
    builder = ApplicationBuilder().token(os.environ["BOT_TOKEN"])
    builder = builder.base_url(f"{os.environ['TELEGRAM_API_URL']}/bot")
    application = (builder if with_updater else builder.updater(None)).build()
    application.add_handler(TypeHandler(Update, _ignore))
    return application


async def _ignore(_update: object, _context: object) -> None:
    """Handle an update as quickly as a handler can."""
