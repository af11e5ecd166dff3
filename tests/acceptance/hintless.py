"""The gateway with a notifier that drops every hint: gunicorn loads this instead of `infra.app:create_app`.

A hint only ever saves time. So whatever the acceptance tests ask for must also happen when none arrives:
`make test-hintless` runs all of them so, and `test_hintless.py` the most telling ones in every run.
"""

from __future__ import annotations

from infra import app
from infra.server.runner import GatewayRunner
from tests.fakes.notifier import DeafNotifier


async def create_app() -> GatewayRunner:
    """A gateway whose requests learn of changes only by looking at what they wait for, every two seconds.

    Its notifier does not say that anything is wrong, which is the worst kind.
    """
    return await app.create_app(app.Substitutes(notifier=DeafNotifier()))
