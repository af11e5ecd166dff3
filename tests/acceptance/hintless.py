"""The gateway with a waker that drops every hint: gunicorn loads this instead of `infra.app:create_app`.

A hint only ever saves time. So whatever the acceptance tests ask for must also happen when none arrives:
`make test-hintless` runs all of them so, and `test_hintless.py` the most telling ones in every run.
"""

from __future__ import annotations

from core.ports import Waker
from infra import app
from infra.server.runner import GatewayRunner
from tests.fakes.wakers import DeafWaker


class HintlessGateway(app.Gateway):
    """A gateway whose requests learn of changes only by looking at what they wait for, every two seconds."""

    def make_waker(self) -> Waker:
        """A waker that says nothing of its trouble, which is the worst kind."""
        return DeafWaker()


async def create_app() -> GatewayRunner:
    """See `infra.app.create_app`."""
    return await app.create_app(HintlessGateway)
