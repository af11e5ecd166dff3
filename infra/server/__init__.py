"""The server: aiohttp under gunicorn, its limits, TLS, and what is checked before it starts."""
