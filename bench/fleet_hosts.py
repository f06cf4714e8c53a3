"""The hosts of the fleet benchmark: each keeps a connection of its own and answers what it is asked, well or badly."""

from __future__ import annotations

import asyncio
import ssl
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from bench.fleet_site import SimulatedHost
from hostward.agent.attestation_messages import (
    ATTESTATION_PATH,
    Ask,
    Changed,
    Verdict,
    decode_from_verifier,
)
from hostward.agent.identity import SERVER_NAME, HostIdentity, client_context, save_identity
from hostward.agent.messages import encode
from hostward.private_files import make_private_directory

# Handshakes that the clients have under way at once; agents spread theirs by their own back-off.
_KNOCKING = 128
# A certificate of five minutes is renewed after two thirds of its life.
_RENEW_S = 200.0
_RETRY_S = 0.5


_Kind = TypeVar("_Kind", Ask, Verdict)


@dataclass(slots=True)
class Answered:
    """What the good hosts saw. Times are of this process's monotonic clock, in seconds."""

    waits_s: list[float] = field(default_factory=list)  # from the question's arrival to its verdict's
    good_at_s: dict[str, float] = field(default_factory=dict)  # each host's first good verdict
    bad: int = 0
    lost: int = 0  # connections that ended, or could not be had


class Crowd:
    """Every host that attests, in one event loop."""

    def __init__(self, address: str, authority: bytes) -> None:
        self.address, self._authority = address, authority
        self.answered = Answered()
        self._knocking = asyncio.Semaphore(_KNOCKING)
        self._contexts: dict[Path, ssl.SSLContext] = {}

    def open(self, host: SimulatedHost, path: str = ATTESTATION_PATH, folder: str = "") -> connect:
        """A connection to be had, on what the host joined by, or on what lies in a folder below its own."""
        place = host.folder / folder
        if place not in self._contexts:
            self._contexts[place] = client_context(place, self._authority)
        return connect(
            f"wss://{self.address}{path}",
            ssl=self._contexts[place],
            server_hostname=SERVER_NAME,
            compression=None,
            proxy=None,
            max_size=1 << 20,
            open_timeout=60.0,
            ping_interval=None,
            local_addr=(_address_of(host), 0),
        )

    async def attest(self, host: SimulatedHost) -> None:
        """Stay and answer well, until cancelled."""
        while True:
            try:
                await self._knocking.acquire()
                try:
                    connection = await self.open(host)
                finally:
                    self._knocking.release()
                async with connection:
                    await connection.send(encode(host.present()))
                    await self._answer(connection, host)
            except (ConnectionClosed, WebSocketException, OSError, TimeoutError):
                self.answered.lost += 1
                await asyncio.sleep(_RETRY_S)

    async def _answer(self, connection: ClientConnection, host: SimulatedHost) -> None:
        renew_at_s = asked_at_s = 0.0
        while True:
            message = decode_from_verifier(await connection.recv(decode=False))
            now_s = time.monotonic()
            if isinstance(message, Ask):
                asked_at_s = now_s
                renews = now_s >= renew_at_s
                if renews:
                    renew_at_s = now_s + _RENEW_S
                await connection.send(encode(host.tell(message, request=renews)))
            elif isinstance(message, Verdict):
                self.answered.waits_s.append(now_s - asked_at_s)
                if message.good:
                    self.answered.good_at_s.setdefault(host.name, now_s)
                else:
                    self.answered.bad += 1

    async def betray(self, host: SimulatedHost) -> tuple[float, float]:
        """Attest well, open the agent's channel, then answer badly.

        Returns when the bad answer was sent, and when the channel was seen closed, in seconds of the monotonic clock.
        """
        async with self.open(host) as connection:
            await connection.send(encode(host.present()))
            ask = await self._next(connection, Ask)
            await connection.send(encode(host.tell(ask, request=True)))
            verdict = await self._next(connection, Verdict)
            folder = host.folder / "attested"
            make_private_directory(folder)
            joined = (host.folder / "identity.pem").read_bytes()
            key = joined[: joined.index(b"-----BEGIN CERTIFICATE")]
            save_identity(folder, HostIdentity(key, verdict.certificate, self._authority))
            async with self.open(host, "/channel", "attested") as channel:
                await connection.send(encode(Changed()))
                ask = await self._next(connection, Ask)
                tell = encode(host.tell(ask, forged=True))
                sent_at_s = time.monotonic()
                await connection.send(tell)
                async with asyncio.timeout(30.0):
                    await channel.wait_closed()
                return sent_at_s, time.monotonic()

    async def _next(self, connection: ClientConnection, kind: type[_Kind]) -> _Kind:
        while True:
            message = decode_from_verifier(await connection.recv(decode=False))
            if isinstance(message, kind):
                return message


def _address_of(host: SimulatedHost) -> str:
    """Each host has an address of its own."""
    number = int(host.name[1:]) + 1
    return f"127.1.{number // 250}.{number % 250 + 1}"
