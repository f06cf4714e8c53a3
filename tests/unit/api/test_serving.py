"""Who may speak to the API: the token beyond this machine, and nobody else's file or socket on it."""

from __future__ import annotations

import asyncio
import logging
import socket
from pathlib import Path

import httpx2
import pytest
from fastapi import FastAPI

from hostward.api.serving import BearerGate, read_token, serving
from hostward.errors import ConflictError, UsageError

TOKEN = "t" * 40


def _app() -> FastAPI:
    app = FastAPI()

    @app.get("/")
    async def root() -> dict[str, str]:
        return {"said": "yes"}

    return app


def _status(header: dict[str, str]) -> int:
    async def ask() -> int:
        transport = httpx2.ASGITransport(app=BearerGate(_app(), TOKEN))
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
