"""Misbehaviour for the fleet benchmark, in a process of its own that yields to the good hosts: every kind at once."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection

import uvloop
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, WebSocketException

from bench.fleet_hosts import Crowd
from bench.fleet_site import SimulatedHost
from hostward.agent.attestation_messages import (
    EVIDENCE_LIMIT_BYTES,
    Ask,
    Changed,
    Verdict,
    decode_from_verifier,
)
from hostward.agent.messages import encode

Deed = Callable[[ClientConnection, SimulatedHost], Awaitable[None]]
_LEAST_NICE = 19
_RETRY_S = 0.02  # from one host's lost connection to its next


class Flood:
    """Made before an event loop is, since it forks; begins when it is told where, and ends when it is told."""

    def __init__(self, hosts: Sequence[SimulatedHost], authority: bytes) -> None:
        context = get_context("fork")
        self._ours, theirs = context.Pipe()
        self._process = context.Process(target=_flood, args=(theirs, hosts, authority), daemon=True)
        self._process.start()

    def begin(self, address: str) -> None:
        """Let it loose on a controller."""
        self._ours.send(address)

    def pause(self) -> None:
        """Stand still; what was begun stays as it is."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._process.pid is not None and self._process.is_alive():
            os.kill(self._process.pid, number)

    def end(self) -> None:
        """It has no say in it."""
        self._process.kill()
        self._process.join()


def _flood(told: Connection, hosts: Sequence[SimulatedHost], authority: bytes) -> None:
    os.setpriority(os.PRIO_PROCESS, 0, _LEAST_NICE)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    address = told.recv()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        # What the peer ends while it is being written to is told as a bug of nobody's here.
        runner.get_loop().set_exception_handler(lambda _loop, _context: None)
        runner.run(_all(Crowd(address, authority), hosts))


async def _all(crowd: Crowd, hosts: Sequence[SimulatedHost]) -> None:
    deeds: tuple[Deed, ...] = (forge, forge_and_leave, stall, babble, flatten)
    await asyncio.gather(*(_misbehave(crowd, host, deeds[number % len(deeds)]) for number, host in enumerate(hosts)))


async def _misbehave(crowd: Crowd, host: SimulatedHost, deed: Deed) -> None:
    """Do it on a new connection each time that the last one ends."""
    while True:
        try:
            async with crowd.open(host) as connection:
                await deed(connection, host)
        except (ConnectionClosed, WebSocketException, OSError, TimeoutError, RuntimeError):
            await asyncio.sleep(_RETRY_S)


async def forge(connection: ClientConnection, host: SimulatedHost) -> None:
    """Answer every question by a bad signature, and ask to be asked again at once."""
    await connection.send(encode(host.present()))
    while True:
        message = decode_from_verifier(await connection.recv(decode=False))
        if isinstance(message, Ask):
            await connection.send(encode(host.tell(message, forged=True)))
            await connection.send(encode(Changed()))


async def forge_and_leave(connection: ClientConnection, host: SimulatedHost) -> None:
    """One bad answer, and away: a new connection may be quicker than the pause of the old one."""
    await connection.send(encode(host.present()))
    while True:
        message = decode_from_verifier(await connection.recv(decode=False))
        if isinstance(message, Ask):
            await connection.send(encode(host.tell(message, forged=True)))
        elif isinstance(message, Verdict):
            return


async def stall(connection: ClientConnection, host: SimulatedHost) -> None:
    """Present, and never answer."""
    await connection.send(encode(host.present()))
    await connection.wait_closed()


async def babble(connection: ClientConnection, host: SimulatedHost) -> None:
    """A frame of nonsense."""
    del host
    await connection.send(b"\xc1" * 1000)
    await connection.wait_closed()


async def flatten(connection: ClientConnection, host: SimulatedHost) -> None:
    """As many of the largest messages as there is room for, asked for or not."""
    await connection.send(encode(host.present()))
    junk = bytes(EVIDENCE_LIMIT_BYTES)
    while True:
        await connection.send(junk)
