"""What Telegate runs on: Telegram client, database, tokens, settings, server, command line."""

__version__ = "0.1.0"
