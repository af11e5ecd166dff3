"""The webhook: registered with Telegram, watched, and set again when something is wrong."""
