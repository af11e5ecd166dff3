"""Certificates: ours, other people's, and the server that takes up renewed ones."""

from __future__ import annotations

import asyncio
import socket
import ssl
import stat
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from infra.cli import main
from infra.server.tls import ReloadingTls, TlsError, is_made_for, load_check, self_signed_pair
from infra.server.worker import GatewayWorker
from tests.integration.platform.servers import LIMIT, Gunicorn, Start

PairWriter = Callable[..., tuple[Path, Path]]


@pytest.fixture
def pair(tmp_path: Path) -> PairWriter:
    def write(host: str = "localhost", days: int = 30, folder: Path = tmp_path) -> tuple[Path, Path]:
        certificate, key = self_signed_pair(host, days)
        paths = folder / "certificate.pem", folder / "key.pem"
        paths[0].write_bytes(certificate)
        paths[1].write_bytes(key)
        return paths

    return write


def trusting(certificate: Path, *, strict: bool = True) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(certificate))
    if strict:
        context.verify_flags |= ssl.VERIFY_X509_STRICT  # what Python 3.13 checks by default
    return context


def served_certificate(port: int, name: str | None = "localhost") -> x509.Certificate:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", port), timeout=LIMIT) as raw,
        context.wrap_socket(raw, server_hostname=name) as connection,
    ):
        served = connection.getpeercert(binary_form=True)
    assert served is not None
    return x509.load_der_x509_certificate(served)


def named(common_name: str, *alternatives: x509.GeneralName) -> x509.Certificate:
    """A certificate as somebody else may have made it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1))
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    return builder.sign(key, hashes.SHA256())


# The pair itself


@pytest.mark.parametrize(
    ("host", "alternative"),
    [
        ("bot.example.com", x509.DNSName("bot.example.com")),
        ("BOT.Example.com", x509.DNSName("bot.example.com")),
        ("203.0.113.7", None),
        ("[2001:db8::1]", None),
    ],
)
def test_our_certificate_names_its_host_twice(host: str, alternative: x509.GeneralName | None) -> None:
    text, key = self_signed_pair(host, 10)
    served = x509.load_pem_x509_certificate(text)
    (common,) = served.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert common.value == host.lower().strip("[]")
    (named,) = served.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert named == alternative if alternative else str(named.value) == common.value
    assert served.issuer == served.subject
    assert timedelta(days=9) < served.not_valid_after_utc - datetime.now(UTC) <= timedelta(days=10)
    private = serialization.load_pem_private_key(key, None)
    assert getattr(private, "key_size", None) == 2048


@pytest.mark.parametrize(
    ("host", "days", "why"),
    [
        ("https://bot.example.com", 10, "neither a host name nor an IP address"),
        ("bot.example.com:8443", 10, "neither"),
        ("", 10, "neither"),
        (f"{'a' * 60}.example.com", 10, "too long"),
        ("bot.example.com", 0, "0 days"),
    ],
)
def test_a_certificate_that_makes_no_sense_is_not_made(host: str, days: int, why: str) -> None:
    with pytest.raises(TlsError, match=why):
        self_signed_pair(host, days)


@pytest.mark.parametrize(
    ("made_for", "host", "fits"),
    [
        ("bot.example.com", "bot.example.com", True),
        ("bot.example.com", "BOT.example.com.", True),
        ("bot.example.com", "example.com", False),
        ("203.0.113.7", "203.0.113.7", True),
        ("203.0.113.7", "203.0.113.8", False),
        ("2001:db8::1", "[2001:DB8:0::1]", True),
        ("bot.example.com", "", False),
    ],
)
def test_a_certificate_is_made_for_its_host_alone(made_for: str, host: str, fits: bool) -> None:
    served = x509.load_pem_x509_certificate(self_signed_pair(made_for, 10)[0])
    assert is_made_for(served, host) is fits


@pytest.mark.parametrize(
    ("host", "fits"),
    [
        ("bot.example.com", True),
        ("a.bot.example.com", False),
        ("example.com", False),
        ("named.example.net", True),
    ],
)
def test_a_wildcard_stands_for_one_label_and_the_common_name_counts(host: str, fits: bool) -> None:
    assert is_made_for(named("named.example.net", x509.DNSName("*.example.com")), host) is fits


def test_an_old_certificate_without_alternative_names_has_its_common_name() -> None:
    assert is_made_for(named("bot.example.com"), "bot.example.com")


# The check


def test_a_good_pair_passes_the_check(pair: PairWriter) -> None:
    load_check(*pair())


def test_what_is_wrong_with_a_pair_is_told_by_the_name_of_the_file(pair: PairWriter, tmp_path: Path) -> None:
    certificate, key = pair()
    other = tmp_path / "other.pem"
    other.write_bytes(self_signed_pair("localhost", 30)[1])
    encrypted = tmp_path / "encrypted.pem"
    private = serialization.load_pem_private_key(key.read_bytes(), None)
    password = serialization.BestAvailableEncryption(b"canary")
    encrypted.write_bytes(
        private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, password)
    )
    missing, junk = tmp_path / "missing.pem", tmp_path / "junk.pem"
    junk.write_text("junk")
    for wrong, problem in [
        ((certificate, other), f"{other} is not the key of {certificate}"),
        ((certificate, encrypted), f"{encrypted} is encrypted"),
        ((certificate, junk), f"{junk} holds no private key in PEM form"),
        ((junk, key), f"{junk} holds no certificate in PEM form"),
        ((missing, key), f"{missing} cannot be read (no such file or directory)"),
        ((certificate, missing), f"{missing} cannot be read"),
    ]:
        with pytest.raises(TlsError) as caught:
            load_check(*wrong)
        assert caught.value.detail.startswith(problem)


def test_dates_are_part_of_the_check(pair: PairWriter, caplog: pytest.LogCaptureFixture) -> None:
    certificate, key = pair(days=30)
    now = datetime.now(UTC)
    with pytest.raises(TlsError, match=r"expired on .* UTC. Renew the certificate"):
        load_check(certificate, key, now=now + timedelta(days=31))
    with pytest.raises(TlsError, match=r"valid only from .* Check the clock"):
        load_check(certificate, key, now=now - timedelta(days=1))
    assert caplog.records == []
    load_check(certificate, key, now=now + timedelta(days=20))
    assert "expires on" in caplog.text


# The server's context


async def handshake(tls: ReloadingTls, client: ssl.SSLContext, name: str) -> ssl.SSLObject:
    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0, ssl=tls.context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client, server_hostname=name)
        found: ssl.SSLObject = writer.get_extra_info("ssl_object")
        writer.close()
    return found


@pytest.mark.parametrize("host", ["bot.example.com", "127.0.0.1"])
async def test_a_client_that_trusts_our_certificate_is_satisfied(pair: PairWriter, host: str) -> None:
    certificate, key = pair(host)
    found = await handshake(ReloadingTls(certificate, key), trusting(certificate), host)
    assert found.version() == "TLSv1.3"


async def test_tls_older_than_1_2_is_refused(pair: PairWriter) -> None:
    certificate, key = pair()
    tls = ReloadingTls(certificate, key)
    assert tls.context.minimum_version == ssl.TLSVersion.TLSv1_2
    client = trusting(certificate)
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    assert (await handshake(tls, client, "localhost")).version() == "TLSv1.2"


async def test_a_renewed_pair_is_taken_up_and_a_broken_one_is_not(
    pair: PairWriter, caplog: pytest.LogCaptureFixture
) -> None:
    certificate, key = pair("first.example.com")
    first = trusting_copy(certificate)
    tls = ReloadingTls(certificate, key)
    assert not tls.refresh()
    _, new_key = self_signed_pair("second.example.com", 30)
    key.write_bytes(new_key)
    assert not tls.refresh()
    assert "The new TLS certificate is not used, the old one stays" in caplog.text
    assert await handshake(tls, first, "first.example.com")
    certificate.unlink()
    assert not tls.refresh()
    assert await handshake(tls, first, "first.example.com")
    pair("second.example.com")
    assert tls.refresh()
    assert await handshake(tls, trusting(certificate), "second.example.com")
    with pytest.raises(ssl.SSLCertVerificationError):
        await handshake(tls, first, "first.example.com")


def trusting_copy(certificate: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=certificate.read_text(encoding="ascii"))
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    return context


# Under gunicorn


def fetch(server: Gunicorn, client: ssl.SSLContext) -> bytes:
    with (
        socket.create_connection(("127.0.0.1", server.port), timeout=LIMIT) as raw,
        client.wrap_socket(raw, server_hostname="localhost") as connection,
    ):
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return b"".join(iter(lambda: connection.recv(65_536), b""))


def test_the_server_speaks_tls_and_takes_up_a_renewed_certificate(start: Start, pair: PairWriter) -> None:
    certificate, key = pair()
    server = start(TLS_CERT_FILE=str(certificate), TLS_KEY_FILE=str(key))
    answer = fetch(server, trusting(certificate))
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b'"scheme": "https"' in answer
    before = served_certificate(server.port)
    pair()
    server.wait_for("The renewed TLS certificate is in use")
    for name in ("localhost", None):
        assert served_certificate(server.port, name) != before
    fetch(server, trusting(certificate))
    assert server.stop() == 0


async def test_a_client_that_never_finishes_its_handshake_is_cut_off(
    pair: PairWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.server.worker._LONGEST_HANDSHAKE", 0.2)
    certificate, key = pair()
    worker = object.__new__(GatewayWorker)
    worker.loop = asyncio.get_running_loop()
    context = worker._create_ssl_context(SimpleNamespace(certfile=str(certificate), keyfile=str(key)))
    server = await worker.loop.create_server(asyncio.Protocol, "127.0.0.1", 0, ssl=context)
    async with server, asyncio.timeout(LIMIT):
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()


def test_a_reload_with_a_broken_pair_leaves_the_server_up_with_the_old_one(
    start: Start, pair: PairWriter
) -> None:
    certificate, key = pair()
    server = start(TLS_CERT_FILE=str(certificate), TLS_KEY_FILE=str(key))
    client = trusting(certificate)
    fetch(server, client)
    key.write_text("broken")
    server.wait_for("The new TLS certificate is not used")
    server.process.send_signal(1)
    server.wait_for("Booting worker", count=2)
    server.wait_for("on_cleanup ran")
    assert fetch(server, client).startswith(b"HTTP/1.1 200 ")
    assert server.stop() == 0


def test_a_start_with_a_broken_pair_fails_in_words(start: Start, pair: PairWriter) -> None:
    certificate, _ = pair()
    server = start(TLS_CERT_FILE=str(certificate), TLS_KEY_FILE=str(certificate))
    assert server.exit_code() == 3
    text = "\n".join(server.lines)
    assert f"{certificate} holds no private key" in text
    assert "Traceback" not in text


# The command


def cert_new(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "infra", "cert", "new", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)


def test_cert_new_writes_a_pair_that_only_the_owner_can_misuse(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "secrets"
    done = cert_new("--host", "bot.example.com", "--out", str(folder))
    assert done.returncode == 0, done.stderr
    load_check(folder / "certificate.pem", folder / "key.pem")
    assert stat.S_IMODE((folder / "key.pem").stat().st_mode) == 0o600
    assert sorted(path.name for path in folder.iterdir()) == ["certificate.pem", "key.pem"]
    for step in (
        "PUBLIC_URL=https://bot.example.com",
        f"TLS_KEY_FILE={folder}/key.pem",
        "telegate webhook set",
    ):
        assert step in done.stdout


def test_cert_new_never_replaces_files_unless_told_to(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text("precious")
    refused = cert_new("--host", "::1", "--out", str(tmp_path))
    assert refused.returncode == 2
    assert "key.pem would be replaced" in refused.stderr
    assert (tmp_path / "key.pem").read_text() == "precious"
    assert not (tmp_path / "certificate.pem").exists()
    replaced = cert_new("--host", "::1", "--out", str(tmp_path), "--force")
    assert replaced.returncode == 0
    assert "PUBLIC_URL=https://[::1]:8443" in replaced.stdout
    load_check(tmp_path / "certificate.pem", tmp_path / "key.pem")


def test_cert_new_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device", str(target))

    monkeypatch.setattr(Path, "replace", fail)
    shown = CliRunner().invoke(main, ["cert", "new", "--host", "x.example.com", "--out", str(tmp_path)])
    assert shown.exit_code == 2
    assert f"{tmp_path} cannot be written to (no space left on device)." in shown.stderr
    assert list(tmp_path.iterdir()) == []


def test_cert_new_says_what_it_cannot_do(tmp_path: Path) -> None:
    wrong_host = cert_new("--host", "no host", "--out", str(tmp_path))
    assert wrong_host.returncode == 2
    assert wrong_host.stderr.startswith('Error: "no host" is neither')
    (tmp_path / "file").write_text("")
    no_folder = cert_new("--host", "x.example.com", "--out", str(tmp_path / "file" / "below"))
    assert no_folder.returncode == 2
    assert "Traceback" not in no_folder.stderr
