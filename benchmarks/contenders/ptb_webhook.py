"""python-telegram-bot's own webhook server, as its documentation starts it; nothing is stored."""

from __future__ import annotations

import os

from telegram import Update

from benchmarks.contenders.bot import build_bot


def main() -> None:
    """Serve until SIGTERM."""
    port = int(os.environ["PORT"])
    build_bot(with_updater=True).run_webhook(
        listen="127.0.0.1",
        port=port,
        url_path="webhook",
        webhook_url=f"http://127.0.0.1:{port}/webhook",
        secret_token=os.environ["WEBHOOK_SECRET"],
        allowed_updates=Update.ALL_TYPES,
    )


if __name__ == "__main__":
    main()
