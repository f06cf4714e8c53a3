"""Who may speak to the API: the token beyond this machine, and nobody else's file or socket on it."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from fastapi import FastAPI

from hostward.api.serving import BearerGate, RemoteApi, read_token, serving
from hostward.controller.access import Authentication, Principal, Role
from hostward.errors import ConflictError, UsageError

TOKEN = "t" * 40


async def _known(token: str) -> Principal | None:
    return Principal("t", Authentication.TOKEN, Role.AUDITOR) if token == TOKEN else None


async def _unrecorded(_address: str, _what: str, _subject: str) -> None:
    """What is recorded is test_refusals.py's."""


def _app() -> FastAPI:
    app = FastAPI()

    @app.get("/")
    async def root() -> dict[str, str]:
        return {"said": "yes"}

    return app


def _status(header: dict[str, str]) -> int:
    async def ask() -> int:
        transport = httpx2.ASGITransport(app=BearerGate(_app(), _known, _unrecorded))
        async with httpx2.AsyncClient(transport=transport, base_url="http://hostward") as client:
            return (await client.get("/", headers=header)).status_code

    return asyncio.run(ask())


def test_only_the_token_gets_in_and_refusals_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert _status({"Authorization": f"Bearer {TOKEN}"}) == 200
        assert not caplog.records
        for wrong in (
            {},
            {"Authorization": "Bearer x"},
            {"Authorization": TOKEN},
            {"Authorization": f"Bearer {TOKEN}x"},
        ):
            assert _status(wrong) == 401
    assert len([record for record in caplog.records if "no valid token" in record.getMessage()]) == 4


def test_a_token_that_others_may_read_or_guess_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN)
    file.chmod(0o644)
    with pytest.raises(UsageError, match="others may read"):
        read_token(file)
    file.chmod(0o600)
    assert read_token(file) == TOKEN
    file.write_text("short")
    with pytest.raises(UsageError, match="shorter than"):
        read_token(file)


def test_the_socket_is_private_and_never_takes_somebody_elses_place(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"

    async def serve() -> None:
        async with serving(_app(), path):
            assert path.stat().st_mode & 0o777 == 0o600
            with pytest.raises(ConflictError, match="another controller"):
                async with serving(_app(), path):
                    pass

    asyncio.run(serve())
    assert not path.exists()
    path.write_text("precious")
    with pytest.raises(ConflictError, match="no socket"):
        asyncio.run(serve())
    assert path.read_text() == "precious"
    path.unlink()
    # What a killed controller left behind is in nobody's way.
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    asyncio.run(serve())


def _certificate(folder: Path) -> RemoteApi:
    """A self-signed certificate for 127.0.0.1, and a free port."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "api")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "api.crt").write_bytes(certificate.public_bytes(Encoding.PEM))
    (folder / "api.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    return RemoteApi("127.0.0.1", port, folder / "api.crt", folder / "api.key", _known, _unrecorded)


def test_beyond_this_machine_there_is_tls_and_the_token(tmp_path: Path) -> None:
    remote = _certificate(tmp_path)
    address = f"127.0.0.1:{remote.port}"
    trusting = ssl.create_default_context(cafile=str(remote.certificate))

    async def ask(verify: ssl.SSLContext | bool, header: dict[str, str], scheme: str = "https") -> int:
        async with httpx2.AsyncClient(verify=verify, trust_env=False, timeout=10) as client:
            return (await client.get(f"{scheme}://{address}/", headers=header)).status_code

    async def serve() -> None:
        good = {"Authorization": f"Bearer {TOKEN}"}
        async with serving(_app(), tmp_path / "api.sock", remote):
            assert await ask(trusting, good) == 200
            assert await ask(trusting, {}) == 401
            with pytest.raises(httpx2.TransportError):
                await ask(True, good)  # a client that does not know the certificate says nothing
            with pytest.raises(httpx2.TransportError):
                await ask(trusting, good, "http")  # and without TLS nobody is heard

    asyncio.run(serve())
