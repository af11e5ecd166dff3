"""Who takes part: the bot, the services with their keys and tokens, and the policy that lets them."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass

import yaml

from infra.auth import mint, sign
from infra.config.permissions.keys import new_pair

_HOUR = 3600
_ENDPOINTS = ["POST /v1/messages", "POST /v1/questions", "GET /v1/tasks/{id}"]


@dataclass(frozen=True, slots=True)
class Credentials:
    """Everything secret in this run; all of it is invented.

    Attributes:
        own_key: a token that its service has signed with its Ed25519 key.
        public_key: that checks it, as PEM.
        shared_secret: a token signed with `JWT_SECRET` (HS256).
        policy: the text of the permissions file.
    """

    bot_token: str
    webhook_secret: str
    jwt_secret: str
    own_key: str
    public_key: str
    shared_secret: str
    policy: str
    database_password: str

    @classmethod
    def invent(cls) -> Credentials:
        """New ones, good for an hour."""
        private, public = new_pair()
        now = time.time()
        secret = secrets.token_urlsafe(48)
        return cls(
            bot_token=f"123456:{secrets.token_hex(16)}",
            webhook_secret=secrets.token_hex(32),
            jwt_secret=secret,
            own_key=sign(
                private, "own-1", "own-key", ["bench"], lifetime=_HOUR, audience="telegate", now=now
            ),
            public_key=public,
            shared_secret=mint(secret.encode(), "shared", ["bench"], _HOUR, "telegate", now=now),
            policy=_policy(public),
            database_password=secrets.token_hex(16),
        )


def _policy(public_key: str) -> str:
    return yaml.safe_dump(
        {
            "version": 1,
            "service_roles": {"bench": {"endpoints": _ENDPOINTS, "chats": ["*"]}},
            "services": {
                "own-key": {"roles": ["bench"], "keys": [{"kid": "own-1", "public_key": public_key}]},
                "shared": {"roles": ["bench"]},
            },
        }
    )
