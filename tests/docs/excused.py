"""Commands of the pages that no test runs, each with the reason."""

from __future__ import annotations

from typing import Final

_NETWORK = "It talks to a host that a test does not have."

EXCUSED: Final = {
    "make run": "test_readme.py asks make what it would run, and starts exactly that.",
    "make test": "It is what runs these tests.",
    "git push dokku main": _NETWORK,
    "git remote add dokku dokku@dokku.example.com:telegate": _NETWORK,
    "dokku apps:create telegate": _NETWORK,
    "dokku storage:ensure-directory telegate": _NETWORK,
    "dokku storage:mount telegate /var/lib/dokku/data/storage/telegate:/data": _NETWORK,
    "dokku checks:disable telegate": _NETWORK,
    "dokku config:set telegate BOT_TOKEN=… PUBLIC_URL=https://bot.example.com JWT_SECRET=… "
    "TRUSTED_PROXIES=1 DATABASE_URL=sqlite:////data/telegate.db": _NETWORK,
    "dokku domains:set telegate bot.example.com": _NETWORK,
    "dokku run telegate telegate webhook info": _NETWORK,
    "heroku run telegate webhook info": _NETWORK,
    "uv sync --frozen": "It downloads packages; `make env` does the same with the development tools.",
}
