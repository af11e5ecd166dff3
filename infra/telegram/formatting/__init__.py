"""Formatting: what a service wrote becomes Telegram's text with entities, split where it is too long."""
