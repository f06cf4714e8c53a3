"""The long-running commands of attestation: a gate, and a host's sentinel."""

from __future__ import annotations

import asyncio
from pathlib import Path

from hostward.agent.service_manager import notify
from hostward.cli.configuration import read_config
from hostward.cli.daemons import locked, run_until_signal
from hostward.cli.gate_configuration import GateConfig, SentinelConfig
from hostward.cli.output import message
from hostward.gate.daemon import GateDaemon
from hostward.gate.identity import gate_fingerprint
from hostward.sentinel.daemon import Sentinel


def show_identity(path: Path) -> None:
    """Print the fingerprint by which controllers know this gate; its key is made if there is none yet."""
    print(gate_fingerprint(read_config(path, GateConfig).state))


def run_gate(path: Path) -> None:
    """Run a gate until SIGTERM or SIGINT. What is open then closes at its deadline."""
    config = read_config(path, GateConfig)
    settings = config.settings(path)

    async def run() -> None:
        daemon = GateDaemon(settings)
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(daemon.run())
            await _begun(daemon.ready, running)
            (channel, at), (pulses, to) = daemon.channel_address, daemon.pulses_address
            message(f"gate {settings.name} ready: channel on {channel}:{at}, pulses on {pulses}:{to}")

    with locked(config.state):
        run_until_signal(run())


def run_sentinel(path: Path) -> None:
    """Run a sentinel until SIGTERM or SIGINT. The gate then closes as soon as the last pulse has ended."""
    settings = read_config(path, SentinelConfig).settings(path)

    async def run() -> None:
        sentinel = Sentinel(settings)
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(sentinel.run())
            await _begun(sentinel.ready, running)
            message(f"sentinel ready on {settings.socket}")

    run_until_signal(run())


async def _begun(ready: asyncio.Event, running: asyncio.Task[None]) -> None:
    """Wait until a daemon serves; if it ends before, with its error."""
    waiting = asyncio.create_task(ready.wait())
    try:
        await asyncio.wait({waiting, running}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
    if running.done():
        await running
    notify("READY=1")
