"""Certificates: one that Telegram accepts, a check of a pair, and a context that follows its files."""

from __future__ import annotations

import ipaddress
import logging
import re
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from core.model.errors import TelegateError

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import rsa

_log = logging.getLogger("telegate.tls")

DEFAULT_DAYS: Final = 3650
_LONGEST_COMMON_NAME = 64
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_SOON = timedelta(days=14)


class TlsError(TelegateError):
    """A certificate, a key, or the two together cannot be used."""


# A certificate of our own


def self_signed_pair(host: str, days: int = DEFAULT_DAYS) -> tuple[bytes, bytes]:
    """A self-signed certificate and its key, as Telegram takes them for a webhook without a CA.

    The host stands as common name and as alternative name: Telegram's guide asks for the first
    (https://core.telegram.org/bots/self-signed), every other client for the second. RSA with 2048 bits,
    because that is what the guide shows and what Telegram is known to accept everywhere; an elliptic
    curve would be smaller and would gain nothing for one connection that is kept open.

    Args:
        host: the host name or IP address of `PUBLIC_URL`.
        days: how long it is valid. Telegram keeps the very certificate that was uploaded, so a new one
            means a new upload; that is why the default is ten years.

    Returns:
        The certificate and the private key, both PEM; the key is not encrypted.

    Raises:
        TlsError: when the host is neither a host name nor an IP address, or the days make no sense.
    """
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - heavy, and only needed here
    from cryptography.hazmat.primitives.asymmetric import rsa  # noqa: PLC0415 - the same

    name = _checked_host(host)
    if not 1 <= days <= DEFAULT_DAYS * 2:
        raise TlsError(f"A certificate for {days} days makes no sense. Give 1 to {DEFAULT_DAYS * 2} days.")
    key = rsa.generate_private_key(public_exponent=65_537, key_size=2048)
    certificate = _sign(name, key, days)
    return (
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )


def _checked_host(host: str) -> str:
    name = host.strip().removeprefix("[").removesuffix("]").lower()
    if _address(name) is None and re.fullmatch(rf"{_LABEL}(?:\.{_LABEL})*", name) is None:
        raise TlsError(
            f'"{host}" is neither a host name nor an IP address. Give the host alone, like bot.example.com.'
        )
    if len(name) > _LONGEST_COMMON_NAME:
        raise TlsError(f'"{host}" is too long for a certificate: at most {_LONGEST_COMMON_NAME} characters.')
    return name


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


def _sign(name: str, key: rsa.RSAPrivateKey, days: int) -> x509.Certificate:
    from cryptography import x509  # noqa: PLC0415 - heavy, and only needed here
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415 - the same
    from cryptography.x509.oid import ExtendedKeyUsageOID  # noqa: PLC0415 - the same

    address = _address(name)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    alternative = x509.DNSName(name) if address is None else x509.IPAddress(address)
    public, now = key.public_key(), datetime.now(UTC)
    builder = x509.CertificateBuilder(subject, subject, public, x509.random_serial_number())
    # An hour back, for clients whose clock is behind.
    builder = builder.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(days=days))
    builder = builder.add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
    # It is its own authority: Telegram, and `curl --cacert`, take it as the root of its chain.
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    return builder.sign(key, hashes.SHA256())


def _usage() -> x509.KeyUsage:
    from cryptography import x509  # noqa: PLC0415 - heavy, and only needed here

    return x509.KeyUsage(
        digital_signature=True,
        key_encipherment=True,
        key_cert_sign=True,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def is_made_for(certificate: x509.Certificate, host: str) -> bool:
    """Whether a certificate names this host, in full or by a wildcard for its first label.

    Telegram's guide asks for the common name (https://core.telegram.org/bots/self-signed), RFC 9525 for the
    alternative names; either will do here.
    """
    wanted = host.strip("[]").lower().rstrip(".")
    address = _address(wanted)
    found = _names_in(certificate)
    if address is not None:
        return address in {_address(name) for name in found}
    return wanted in found or f"*.{wanted.partition('.')[2]}" in found


def _names_in(certificate: x509.Certificate) -> frozenset[str]:
    from cryptography import x509  # noqa: PLC0415 - heavy, and only needed with TLS

    names = {
        str(one.value).lower() for one in certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    }
    try:
        alternative = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return frozenset(names)
    names |= {name.lower() for name in alternative.get_values_for_type(x509.DNSName)}
    return frozenset(names | {str(one) for one in alternative.get_values_for_type(x509.IPAddress)})


# A pair of somebody else's


def load_check(certificate: Path, key: Path, *, now: datetime | None = None) -> None:
    """Check that a certificate and its key can be served.

    Args:
        certificate: PEM, the server's own certificate first, then its chain.
        key: PEM, not encrypted.
        now: the time to judge validity by; None means the clock.

    Raises:
        TlsError: with one sentence that names the file and says what to do.
    """
    from cryptography import x509  # noqa: PLC0415 - heavy, and only needed with TLS
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - the same

    now = datetime.now(UTC) if now is None else now
    try:
        served = x509.load_pem_x509_certificate(_bytes_of(certificate))
    except ValueError as error:
        raise TlsError(
            f"{certificate} holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)."
        ) from error
    try:
        private = serialization.load_pem_private_key(_bytes_of(key), password=None)
    except TypeError as error:
        raise TlsError(
            f"{key} is encrypted, and nobody is there to type its password. "
            f"Decrypt it: openssl pkey -in {key}"
        ) from error
    except ValueError as error:
        raise TlsError(f"{key} holds no private key in PEM form (-----BEGIN PRIVATE KEY-----).") from error
    if private.public_key() != served.public_key():
        raise TlsError(f"{key} is not the key of {certificate}. Put the two files of one pair together.")
    _check_dates(certificate, served, now)


def _check_dates(path: Path, served: x509.Certificate, now: datetime) -> None:
    until, since = served.not_valid_after_utc, served.not_valid_before_utc
    if now > until:
        raise TlsError(f"{path} expired on {until:%Y-%m-%d %H:%M} UTC. Renew the certificate.")
    if now < since:
        raise TlsError(f"{path} is valid only from {since:%Y-%m-%d %H:%M} UTC. Check the clock.")
    if until - now < _SOON:
        _log.warning(
            "%s expires on %s UTC. Renew the certificate.",
            path,
            f"{until:%Y-%m-%d %H:%M}",
            extra={"action": "certificate_expires", "expires_at": until.isoformat()},
        )


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise TlsError(f"{path} cannot be read ({reason}).") from error


# The server's side


class ReloadingTls:
    """The server's TLS context, which takes up a renewed pair without a restart.

    A new pair is loaded into a context of its own and takes effect only when it is whole: while the
    files are broken, or half replaced, the server goes on with the last good pair. The object survives
    a fork, and the good pair with it.

    Args:
        certificate: PEM file.
        key: PEM file.

    Raises:
        TlsError: when the first pair cannot be used.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        self._certificate = certificate
        self._key = key
        self._seen = self._look()
        self.context = self._current = self._load()
        self.context.sni_callback = self._choose

    def refresh(self) -> bool:
        """Take up the files if they have changed.

        Returns:
            Whether a new pair is now in use.
        """
        seen = self._look()
        if seen == self._seen:
            return False
        self._seen = seen
        try:
            self._current = self._load()
        except TlsError as error:
            _log.error(
                "The new TLS certificate is not used, the old one stays: %s",
                error.detail,
                extra={"action": "certificate_refused"},
            )
            return False
        _log.info("The renewed TLS certificate is in use.", extra={"action": "certificate_renewed"})
        return True

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        # OpenSSL calls this for every handshake, also for one that names no host.
        connection.context = self._current

    def _look(self) -> tuple[object, ...]:
        """What tells a changed file: both are looked at, because tools replace them one after the other."""
        return tuple(_signature(path) for path in (self._certificate, self._key))

    def _load(self) -> ssl.SSLContext:
        load_check(self._certificate, self._key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        try:
            context.load_cert_chain(self._certificate, self._key)
        except (OSError, ssl.SSLError) as error:
            raise TlsError(f"{self._certificate} and {self._key} cannot be used: {error}.") from error
        return context


def _signature(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return (status.st_mtime_ns, status.st_size, status.st_ino)
