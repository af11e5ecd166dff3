"""The Telegram side: transport, client, updates as they come, texts as they go."""
