"""The gate's process: ports closed, then its two doors. It may be killed at any line: the driver keeps the deadlines.

It believes no host and no file that a host can write; what it does not understand it refuses, and it keeps nothing of it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from hostward.gate.allowance import BoundedLog
from hostward.gate.channel import GateChannel
from hostward.gate.channel_messages import MESSAGE_LIMIT_BYTES
from hostward.gate.drivers import AmtMachine, Place, make_driver
from hostward.gate.gate import Enforcement, Gate
from hostward.gate.identity import server_context
from hostward.gate.kernel import Allowed, Hook
from hostward.gate.links import LinkWatch, device_number, open_link_socket
from hostward.gate.live import LiveGate
from hostward.gate.pulses import PulseDoor
from hostward.listener import Listener

log = logging.getLogger(__name__)

_UDP = 17
# Whose lines a stranger can cause.
_LOUD = ("hostward.listener", "hostward.gate.channel", "hostward.gate.pulses")


@dataclass(frozen=True, slots=True)
class GateSettings:
    """What a gate needs. ``listen`` is the controllers' door and ``pulses`` the hosts', as address and port."""

    name: str
    state: Path
    pins: Path
    hook: Hook
    ports: Sequence[Place]
    keys: Sequence[Ed25519PublicKey]
    listen: tuple[str, int]
    pulses: tuple[str, int]
    enforcement: Enforcement = Enforcement.ENFORCE
    profile: Sequence[Allowed] = ()


class GateDaemon:
    """Starts closed, runs until cancelled. Cancelled, it leaves the ports to their deadlines."""

    def __init__(self, settings: GateSettings) -> None:
        self._settings = settings
        self.ready = asyncio.Event()
        self.channel_address = ("", 0)
        self.pulses_address = ("", 0)

    async def run(self) -> None:
        """The gate's life. Raises DeviceError, DatapathError, StoreError or OSError if it cannot begin."""
        settings = self._settings
        for name in _LOUD:
            logging.getLogger(name).addFilter(BoundedLog())
        # A management engine has no device here: its link is not watched, and only leases close such a port.
        devices = [port for port in settings.ports if not isinstance(port, AmtMachine)]
        watched = [(port.name, port.netns, device_number(port.netns, port.host)) for port in devices]
        with ExitStack() as sockets:
            # Listening before anything may open: no link goes down unheard.
            listening = {netns: sockets.enter_context(open_link_socket(netns)) for _, netns, _ in watched}
            driver = make_driver(settings.ports, settings.pins, settings.hook, _profile(settings))
            gate = Gate(settings.name, driver, settings.keys, time.monotonic_ns, settings.enforcement)
            live = LiveGate(gate)
            async with asyncio.TaskGroup() as tasks:
                for netns, link_socket in listening.items():
                    hosts = {number: name for name, where, number in watched if where == netns}
                    tasks.create_task(LinkWatch(link_socket, hosts, live.link_down).run(), name=f"links {netns}")
                tasks.create_task(live.run(), name="deadlines")
                tasks.create_task(self._serve(live), name="doors")

    async def _serve(self, live: LiveGate) -> None:
        settings = self._settings
        channel = Listener(
            server_context(settings.state),
            GateChannel(settings.name, live, settings.keys).serve,
            name="channel",
            message_limit_bytes=MESSAGE_LIMIT_BYTES,
        )
        await channel.start(*settings.listen)
        try:
            transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
                lambda: PulseDoor(live), local_addr=settings.pulses
            )
            try:
                self.channel_address = channel.address
                self.pulses_address = transport.get_extra_info("sockname")[:2]
                self.ready.set()
                await asyncio.get_running_loop().create_future()
            finally:
                transport.close()
        finally:
            await channel.close()


def _profile(settings: GateSettings) -> list[Allowed]:
    """What is configured, and the way to the door for pulses: a gate that kept pulses out would never open."""
    address, port = settings.pulses
    own = ip_address(address)
    pulses = [] if own.is_unspecified else [Allowed(ip_network(address), _UDP, port)]
    return [*settings.profile, *pulses]
