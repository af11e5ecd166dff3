"""An issuer of tokens as others run one: a key set behind HTTPS on the loopback, and a hand that signs."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    generate_private_key,
)
from jwt.algorithms import ECAlgorithm

from infra.server.tls import self_signed_pair
from tests.ports import reserved_port

ISSUER = "https://issuer.example.com/realms/telegate"

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


def document(*keys: Mapping[str, Any]) -> bytes:
    """A key set as issuers publish it (RFC 7517, section 5)."""
    return json.dumps({"keys": list(keys)}).encode()


class TokenIssuer:
    """Signs with ES256, and publishes its keys.

    Args:
        folder: where its certificate goes; whoever trusts that file trusts this server.

    Attributes:
        fetches: how often somebody asked for the keys.
        answer: what to say instead of the keys, while a test wants that.
        headers: those of the newest request.
    """

    def __init__(self, folder: Path) -> None:
        self.certificate = folder / "issuer.pem"
        self.port = reserved_port()
        self.keys: dict[str, EllipticCurvePrivateKey] = {}
        self.fetches = 0
        self.answer: Answer | None = None
        self.headers: Mapping[str, str] = {}
        self._tls = self._make_certificate(folder)
        self._runner: web.AppRunner | None = None
        self._connections: list[socket.socket] = []
        self.add_key("first")

    @property
    def url(self) -> str:
        """Where the keys are."""
        return f"https://127.0.0.1:{self.port}/keys"

    @property
    def settings(self) -> dict[str, str]:
        """What a gateway needs to know."""
        return {"JWT_JWKS_URL": self.url, "JWT_ISSUER": ISSUER, "SSL_CERT_FILE": str(self.certificate)}

    def add_key(self, kid: str) -> None:
        """Make a new key; it is published at once."""
        self.keys[kid] = generate_private_key(SECP256R1())

    def document(self) -> bytes:
        """The key set of now."""
        published = (
            {**ECAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid, "use": "sig", "alg": "ES256"}
            for kid, key in self.keys.items()
        )
        return document(*published)

    def token(
        self,
        service: str,
        *roles: str,
        kid: str = "first",
        header: Mapping[str, Any] | None = None,
        **claims: Any,
    ) -> str:
        """A token; a claim of None is left out, and a kid that is not published is signed for by any key."""
        now = int(time.time())
        payload: dict[str, Any] = {
            "iss": ISSUER,
            "sub": service,
            "aud": ["account", "telegate"],
            "iat": now,
            "exp": now + 300,
            "jti": uuid.uuid4().hex,
            "roles": list(roles),
            **claims,
        }
        kept = {name: value for name, value in payload.items() if value is not None}
        key = self.keys.get(kid) or next(iter(self.keys.values()))
        return jwt.encode(kept, key, algorithm="ES256", headers={"kid": kid, **(header or {})})

    async def start(self) -> None:
        """Listen, on the same port each time."""
        app = web.Application()
        app.router.add_get("/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
        await self._runner.setup()
        await web.TCPSite(
            self._runner, "127.0.0.1", self.port, ssl_context=self._tls, reuse_address=True
        ).start()

    async def stop(self) -> None:
        """Be gone: connections are refused."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        # TLS says goodbye, and only then closes: no connection may outlive the loop.
        async with asyncio.timeout(10):
            while any(connection.fileno() != -1 for connection in self._connections):  # noqa: ASYNC110 - a socket has no Event
                await asyncio.sleep(0.01)
        self._connections.clear()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        self.fetches += 1
        if request.transport is not None:
            self._connections.append(request.transport.get_extra_info("socket"))
        self.headers = dict(request.headers)
        if self.answer is not None:
            return await self.answer(request)
        return web.Response(body=self.document(), content_type="application/jwk-set+json")

    def _make_certificate(self, folder: Path) -> ssl.SSLContext:
        certificate, key = self_signed_pair("127.0.0.1", 30)
        self.certificate.write_bytes(certificate)
        (folder / "issuer.key.pem").write_bytes(key)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.certificate, folder / "issuer.key.pem")
        return context


@asynccontextmanager
async def running_issuer(folder: Path) -> AsyncIterator[TokenIssuer]:
    """An issuer that can be reached while the block lasts."""
    issuer = TokenIssuer(folder)
    await issuer.start()
    try:
        yield issuer
    finally:
        await issuer.stop()
