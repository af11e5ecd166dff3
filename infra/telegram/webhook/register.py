"""What `setWebhook` is called with, as the settings say: by the command line and by the watch."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from core.model.errors import NotDelivered, TelegateError
from infra.config.secret import Secret
from infra.config.table import host_is_loopback
from infra.telegram.webhook.state import PATH

if TYPE_CHECKING:
    from infra.config.settings import Settings
    from infra.telegram.client import TelegramClient

LONGEST_WAIT: Final = 10.0
"""Seconds that Telegram may ask to wait before the call is given up."""


class NotToBeSet(TelegateError):
    """The settings do not allow a webhook; the text says which one, and what to do."""


@dataclass(frozen=True, slots=True)
class Registration:
    """Where Telegram shall post to.

    Attributes:
        secret: what it sends with every update.
        certificate: the server's own certificate file, or None when a router in front has one.
    """

    url: str
    secret: Secret
    certificate: Path | None

    @classmethod
    def of(cls, settings: Settings) -> Registration:
        """What these settings say.

        Raises:
            NotToBeSet: without `PUBLIC_URL`, or with one that Telegram would not take.
        """
        # Behind a router, Telegram does not see ours.
        own = None if settings.trusted_proxies else settings.tls
        certificate = None if own is None else own.certificate
        return cls(_webhook_url(settings), settings.webhook_secret, certificate)

    async def set(self, client: TelegramClient) -> None:
        """Tell Telegram; updates that wait are kept. Can be done again at any time.

        Raises:
            NotToBeSet: the certificate cannot be read, or is not made for this address.
        """
        upload = await asyncio.to_thread(_if_self_signed, self.certificate, self.url)
        await patiently(lambda: client.webhook_set(self.url, self.secret, upload))


async def patiently(call: Callable[[], Awaitable[None]]) -> None:
    """Do as Telegram asks when it wants a short wait: it takes one `setWebhook` a second."""
    try:
        await call()
    except NotDelivered as error:
        if error.retry_after is None or error.retry_after > LONGEST_WAIT:
            raise
        await asyncio.sleep(error.retry_after)
        await call()


def _webhook_url(settings: Settings) -> str:
    if settings.public_url is None:
        raise NotToBeSet(
            "PUBLIC_URL is missing, so Telegram cannot be told where to post. Set it to the https address "
            "under which this server is reached from outside, like https://bot.example.com."
        )
    sandbox = host_is_loopback(urlsplit(settings.telegram_api_url).hostname or "")
    if not settings.public_url.startswith("https://") and not sandbox:
        raise NotToBeSet(
            f"PUBLIC_URL is {settings.public_url}, but Telegram posts to https addresses only. "
            "Only a sandbox on this machine (TELEGRAM_API_URL) takes http."
        )
    return settings.public_url + PATH


def _if_self_signed(path: Path | None, url: str) -> Path | None:
    """Our certificate, when nobody but us vouches for it: Telegram then trusts that very one.

    Raises:
        NotToBeSet: Telegram would not trust it, or it cannot be read.
    """
    if path is None:
        return None
    from cryptography import x509  # noqa: PLC0415 - only where a certificate is looked at

    from infra.server.tls import is_made_for  # noqa: PLC0415 - the same

    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise NotToBeSet(f"TLS_CERT_FILE names {path}, which cannot be read ({reason}).") from error
    except ValueError as error:
        raise NotToBeSet(f"TLS_CERT_FILE names {path}, which holds no certificate in PEM form.") from error
    if certificate.issuer != certificate.subject:
        return None
    host = urlsplit(url).hostname or ""
    if not is_made_for(certificate, host):
        raise NotToBeSet(
            f"TLS_CERT_FILE names {path}, which is not made for {host}, so Telegram would not post to it. "
            f"Correct PUBLIC_URL, or make another certificate: telegate cert new --host {host}"
        )
    return path
