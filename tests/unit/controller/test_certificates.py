"""Whose certificate opens whose channel: not another controller's, another host's, or a replaced one's."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

from hostward.agent.identity import SERVER_NAME, client_context, make_key, make_request
from hostward.agent.join import join
from hostward.controller.authority import HOST_LIFE, open_authority
from hostward.controller.ledger import utc_now
from hostward.controller.server import ControllerServer, ControllerSettings
from hostward.errors import EnrolmentError
from hostward.store.records import HostState


@contextlib.asynccontextmanager
async def controller_in(folder: Path) -> AsyncIterator[ControllerServer]:
    server = ControllerServer(ControllerSettings(folder, "127.0.0.1", 0, 0))
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def _close_reason(server: ControllerServer, identity_folder: Path) -> str:
    """How the channel port answers who shows the identity in a folder."""
    context = client_context(identity_folder, server.controller.membership.authority.pem)
    address = "wss://{}:{}/channel".format(*server.channel_address)
    async with connect(address, ssl=context, server_hostname=SERVER_NAME, proxy=None) as connection:
        await connection.wait_closed()
        return connection.close_reason or ""


async def _enrolled(server: ControllerServer, folder: Path, host: str) -> None:
    token = await server.controller.membership.make_token(host)
    await join("{}:{}".format(*server.enrolment_address), token, host, folder)


def test_another_controllers_host_is_refused_in_the_handshake_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        async with controller_in(tmp_path / "ours") as ours, controller_in(tmp_path / "theirs") as theirs:
            await _enrolled(ours, tmp_path / "own", "h1")
            await _enrolled(theirs, tmp_path / "stranger", "h1")  # the same name: the CA alone tells them apart
            with pytest.raises(Exception):  # noqa: B017, PT011 (TLS 1.3 tells a client at its first read, in several ways)
                await _close_reason(ours, tmp_path / "stranger")

    with caplog.at_level(logging.WARNING):
        asyncio.run(run())
    refused = [r.getMessage() for r in caplog.records if "channel: refused 127.0.0.1:" in r.getMessage()]
    assert len(refused) == 1
    assert "certificate verify failed" in refused[0]


def test_a_certificate_that_a_later_join_replaced_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        async with controller_in(tmp_path / "controller") as server:
            await _enrolled(server, tmp_path / "old", "h1")
            await _enrolled(server, tmp_path / "new", "h1")
            assert "replaced" in await _close_reason(server, tmp_path / "old")

    with caplog.at_level(logging.WARNING):
        asyncio.run(run())
    assert any("was replaced by a later one" in record.getMessage() for record in caplog.records)


def test_a_quarantined_host_is_refused_until_it_is_admitted(tmp_path: Path) -> None:
    async def run() -> None:
        async with controller_in(tmp_path / "controller") as server:
            await _enrolled(server, tmp_path / "h1", "h1")
            await server.controller.move_host("h1", HostState.QUARANTINED, "tester")
            assert "quarantined" in await _close_reason(server, tmp_path / "h1")
            # Joining anew is no way out of quarantine.
            await _enrolled(server, tmp_path / "again", "h1")
            assert "quarantined" in await _close_reason(server, tmp_path / "again")

    asyncio.run(run())


def test_a_host_cannot_ask_for_another_hosts_name(tmp_path: Path) -> None:
    authority = open_authority(tmp_path / "ca", utc_now())
    with pytest.raises(EnrolmentError, match="not for this host"):
        authority.issue_host(make_request(make_key(), "h2"), "h1", utc_now(), HOST_LIFE)
    with pytest.raises(EnrolmentError, match="malformed"):
        authority.issue_host(b"no request", "h1", utc_now(), HOST_LIFE)


def test_a_refused_request_does_not_use_the_token_up(tmp_path: Path) -> None:
    async def run() -> None:
        async with controller_in(tmp_path / "controller") as server:
            membership = server.controller.membership
            token = await membership.make_token("h1")
            with pytest.raises(EnrolmentError, match="not for this host"):
                await membership.join("h1", token.secret, make_request(make_key(), "h2"))
            with pytest.raises(EnrolmentError, match="bound to host h1"):
                await membership.join("h2", token.secret, make_request(make_key(), "h2"))
            assert await membership.join("h1", token.secret, make_request(make_key(), "h1"))

    asyncio.run(run())


def test_an_expired_token_is_refused_whatever_it_is_bound_to(tmp_path: Path) -> None:
    async def run() -> None:
        async with controller_in(tmp_path / "controller") as server:
            token = await server.controller.membership.make_token("h1", timedelta(0))
            with pytest.raises(EnrolmentError, match="expired"):
                await server.controller.membership.join("h1", token.secret, make_request(make_key(), "h1"))

    asyncio.run(run())


def test_the_authority_survives_a_restart_and_its_files_are_private(tmp_path: Path) -> None:
    first = open_authority(tmp_path / "ca", utc_now())
    assert open_authority(tmp_path / "ca", utc_now()).pin == first.pin
    first.renew_server(utc_now())
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "ca").iterdir()} == {0o600}
