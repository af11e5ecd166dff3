"""Fixtures of the Telegram client's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from infra.config.secret import Secret
from infra.telegram.client import TelegramClient
from tests.integration.telegram.misbehaving import TOKEN

ClientAt = Callable[..., Awaitable[TelegramClient]]


@pytest.fixture
async def client_at() -> AsyncIterator[ClientAt]:
    """Makes clients of the bot at an address, closed at the end of the test."""
    async with AsyncExitStack() as stack:

        async def make(api_url: str, total_seconds: float = 5.0, token: str = TOKEN) -> TelegramClient:
            client = TelegramClient(Secret(token), api_url, total_seconds=total_seconds)
            await client.start()
            stack.push_async_callback(client.close)
            return client

        yield make


@pytest.fixture(scope="session")
def self_signed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for 127.0.0.1 with its key, in one PEM file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = tmp_path_factory.mktemp("tls") / "self-signed.pem"
    path.write_bytes(certificate.public_bytes(pem) + private)
    return path
