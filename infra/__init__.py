"""What Telegate runs on: Telegram client, database, tokens, settings, server, command line."""
