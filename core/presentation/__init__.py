"""Presentation: how tasks look and read in the chat."""
