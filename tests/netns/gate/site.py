"""A host `a` and a fabric `b`, and between them a gate in a namespace of its own: the real daemons, as processes.

The host has one endpoint, whose port is in `a` too, so that there is something to attest. A test's controller runs in the
gate's namespace, which is where the gate's own channel is.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import uvloop
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hostward.controller.attestation.settings import GateAddress
from hostward.controller.gate_link import GateLink
from hostward.controller.grant_key import public_hex
from hostward.datapath.attached import Attached, read_attached
from hostward.datapath.kernel import KernelEnforcer, default_hook
from hostward.errors import ChannelError
from hostward.gate.channel_messages import Event
from hostward.gate.messages import Grant, Mode, sign_grant
from hostward.gate.port import PortState
from hostward.model.endpoint import Port
from hostward.model.slice import HostSlice
from hostward.sentinel.client import SentinelClient
from tests.netns.gate.process import HOSTWARD, READY_S, Daemon, capabilities
from tests.netns.pair import Pair, in_namespace, inside_of, run
from tests.netns.test_gate_drivers import Line
from tests.netns.test_life import enforcer

T = TypeVar("T")
HOST = b"h" * 32
GATE, PORT = "g1", "p"
DOOR = "10.0.0.254"
CHANNEL_PORT, PULSES_PORT = 7446, 7447


class GateSite(Pair):
    """`build` and `remove` are for ``site``."""

    @property
    def gate(self) -> str:
        return self.namespace("g")

    def build(self) -> None:
        run("ip", "netns", "add", self.gate)
        run(*inside_of(self.gate), "ip", "link", "set", "lo", "up")
        run(*inside_of(self.gate), "ip", "link", "add", "fabric", "type", "bridge", "mcast_snooping", "0")
        run(*inside_of(self.gate), "ip", "addr", "add", f"{DOOR}/24", "dev", "fabric")
        run(*inside_of(self.gate), "ip", "link", "set", "fabric", "up")
        for name in self.names:
            inside, device = self.namespace(name), self.device(name)
            run("ip", "netns", "add", inside)
            words = ("ip", "link", "add", device, "netns", self.gate, "type", "veth")
            run(*words, "peer", "name", "eth0", "netns", inside, "address", self.mac(name))
            run(*inside_of(self.gate), "ip", "link", "set", device, "master", "fabric", "up")
            run(*inside_of(inside), "ip", "addr", "add", f"{self.address(name)}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                run(*inside_of(inside), "ip", "link", "set", device, "up")
        run(*inside_of(self.namespace("a")), "ip", "link", "add", "work0", "type", "veth", "peer", "name", "work1")

    def remove(self) -> None:
        for name in (*self.names, "g"):
            subprocess.run(["ip", "netns", "del", self.namespace(name)], capture_output=True, check=False)

    def desired(self, revision: int) -> HostSlice:
        """What the host's one endpoint is to be."""
        made = self.slice(revision, names="a")
        (endpoint,) = made.endpoints.values()
        placed = replace(endpoint, port=Port("work0", self.namespace("a")))
        return replace(made, endpoints={endpoint.id: placed})


class Site:
    """The processes, and what a test does to them. Everything awaited runs in the gate's namespace."""

    def __init__(self, net: GateSite, pins: Path, folder: Path, stack: ExitStack) -> None:
        self.net, self.pins, self._folder, self._stack = net, pins, folder, stack
        self.key = Ed25519PrivateKey.generate()
        self.gate_config = folder / "gate.toml"
        self.socket = folder / "s.sock"
        self.events: list[Event] = []
        self._noted = asyncio.Event()
        self.sequence = 0

    def start_gate(self, mode: str = "enforce") -> Daemon:
        config = self.gate_config
        config.write_text(
            f"""
            name = "{GATE}"
            state = "{self._folder / "gate"}"
            pins = "{self.pins}-gate"
            hook = "{default_hook()}"
            mode = "{mode}"
            listen = "127.0.0.1:{CHANNEL_PORT}"
            pulses = "{DOOR}:{PULSES_PORT}"
            controller_keys = ["{public_hex(self.key)}"]
            [[ports]]
            name = "{PORT}"
            host = "{self.net.device("a")}"
            fabric = "{self.net.device("b")}"
            """
        )
        return self._start(self.net.gate, "gate", config)

    def fingerprint(self) -> str:
        words = [str(HOSTWARD), "gate", "--config", str(self.gate_config), "--identity"]
        return subprocess.run(words, check=True, capture_output=True, text=True, timeout=60).stdout.strip()

    def start_sentinel(self, **settings: float) -> Daemon:
        config = self._folder / "sentinel.toml"
        lines = [f"{name} = {value}" for name, value in settings.items()]
        lines += [
            f"{name} = {json.dumps(value)}"
            for name, value in (
                ("gate", f"{DOOR}:{PULSES_PORT}"),
                ("port", PORT),
                ("socket", str(self.socket)),
                ("pins", str(self.pins)),
            )
        ]
        config.write_text("\n".join(lines))
        return self._start(self.net.namespace("a"), "sentinel", config)

    def _start(self, namespace: str, kind: str, config: Path) -> Daemon:
        daemon = Daemon(namespace, kind, "--config", str(config), under=capabilities(kind))
        self._stack.callback(daemon.stop)
        daemon.await_line(f"{kind} ", READY_S)
        daemon.await_line("ready", READY_S)
        return daemon

    def enforce(self) -> KernelEnforcer:
        held = enforcer(self.pins)
        held.enforce(self.net.desired(1))
        return held

    def in_gate(self, work: Callable[[], Awaitable[T]]) -> T:
        async def bounded() -> T:
            async with asyncio.timeout(120):
                return await work()

        def inside() -> T:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                return runner.run(bounded())

        return in_namespace(self.net.gate, inside)

    def link(self, fingerprint: str = "", key: Ed25519PrivateKey | None = None, name: str = GATE) -> GateLink:
        address = GateAddress(name, f"127.0.0.1:{CHANNEL_PORT}", fingerprint or self.fingerprint(), {PORT: "host-a"})
        return GateLink(address, key or self.key, self._note)

    def _note(self, _gate: str, event: Event) -> None:
        self.events.append(event)
        self._noted.set()

    async def await_events(self, count: int) -> list[Event]:
        """What the gate has told, once it is so much: it may tell of a change after it has answered with it."""
        async with asyncio.timeout(30):
            while len(self.events) < count:
                self._noted.clear()
                await self._noted.wait()
        return self.events

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[GateLink]:
        link = self.link()
        running = asyncio.create_task(link.run())
        try:
            await answering(link)
            yield link
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    async def grant(self, link: GateLink, pulse_key: bytes, life_ms: int = 60_000, pulse_ms: int = 2_000) -> PortState:
        """Let the port be open, as long as there are pulses."""
        return await link.apply(PORT, await self.signed(link, pulse_key, life_ms, pulse_ms))

    async def signed(self, link: GateLink, pulse_key: bytes, life_ms: int = 60_000, pulse_ms: int = 2_000) -> bytes:
        self.sequence += 1
        challenge = await link.challenge(PORT)
        grant = Grant(GATE, PORT, HOST, 1, self.sequence, Mode.OPEN, life_ms, challenge, pulse_key, pulse_ms)
        return sign_grant(self.key, grant)

    async def revoke(self, link: GateLink) -> PortState:
        self.sequence += 1
        return await link.apply(PORT, sign_grant(self.key, Grant(GATE, PORT, HOST, 1, self.sequence, Mode.QUARANTINE)))

    async def admit(self, link: GateLink, **lives: int) -> SentinelClient:
        """Grant and pulse: attested is what is there now."""
        client = SentinelClient(self.socket)
        await self.grant(link, await client.key(), **lives)
        await client.attested(HOST, 1, self.attached())
        await self.until(link, lambda state: state.open)
        return client

    def attached(self) -> Attached:
        return read_attached(self.pins)

    async def until(self, link: GateLink, wanted: Callable[[PortState], bool], limit_s: float = 30.0) -> PortState:
        """The port's state, once it is as wanted; asked again and again, because not every change is an event."""
        async with asyncio.timeout(limit_s):
            while True:
                (state,) = await link.states()
                if wanted(state):
                    return state
                await asyncio.sleep(0.02)


async def answering(link: GateLink) -> None:
    """Until the gate answers."""
    end_s = time.monotonic() + 30
    while True:
        try:
            await link.states()
        except ChannelError:
            assert time.monotonic() < end_s
            await asyncio.sleep(0.02)
        else:
            return


@contextmanager
def gate_site(tag: str, pins: Path, folder: Path) -> Iterator[Site]:
    net = GateSite(tag)
    with ExitStack() as stack:
        stack.callback(net.remove)
        net.build()
        stack.callback(_remove_pins, Path(f"{pins}-gate"))
        yield Site(net, pins, folder, stack)


def _remove_pins(pins: Path) -> None:
    shutil.rmtree(pins, ignore_errors=True)


def passes(line: Line) -> bool:
    """Whether anything that is sent within 50 ms arrives."""
    line.arrived()
    line.send_until(time.monotonic_ns() + 50_000_000)
    return bool(line.arrived())
