"""Which driver a gate has, by what its ports are."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hostward.errors import UsageError
from hostward.gate.driver import Driver
from hostward.gate.kernel import Allowed, GatePort, Hook, KernelDriver
from hostward.gate.links import device_number
from hostward.gate.switch_port import SwitchPort, SwitchPortDriver


@dataclass(frozen=True, slots=True)
class PortDevices:
    """A port by eBPF: its devices towards the host and the fabric, in one network namespace (empty: the gate's own)."""

    name: str
    host: str
    fabric: str
    netns: str = ""


@dataclass(frozen=True, slots=True)
class SwitchDevices:
    """A switch's port: its device towards the host, the bridge that it is in, and the host's MAC addresses."""

    name: str
    host: str
    bridge: str
    addresses: tuple[bytes, ...]
    netns: str = ""


@dataclass(frozen=True, slots=True)
class AmtMachine:
    """A machine's management engine, at ``url`` (`https://ADDRESS:16993`); ``password`` is a file.

    ``authority`` is who signed its certificate (None: the system's), ``watchdog_action`` is explained with ``AmtPort``.
    """

    name: str
    url: str
    user: str
    password: Path
    authority: Path | None = None
    watchdog_action: int = 1


Place = PortDevices | SwitchDevices | AmtMachine


def make_driver(ports: Sequence[Place], pins: Path, hook: Hook, profile: Sequence[Allowed]) -> Driver:
    """The driver for a gate's ports, which are of one kind, all closed. Raises DeviceError, DatapathError or UsageError."""
    machines = [port for port in ports if isinstance(port, AmtMachine)]
    if machines:
        return _amt(machines, profile)
    switched = [_switched(port) for port in ports if isinstance(port, SwitchDevices)]
    if switched:
        return SwitchPortDriver(switched)
    return KernelDriver(pins, [_hooked(port) for port in ports if isinstance(port, PortDevices)], profile, hook)


def _hooked(port: PortDevices) -> GatePort:
    return GatePort(port.name, device_number(port.netns, port.host), device_number(port.netns, port.fabric), port.netns)


def _amt(machines: Sequence[AmtMachine], profile: Sequence[Allowed]) -> Driver:
    try:
        from hostward.gate.amt.driver import AmtDriver, AmtPort
        from hostward.gate.amt.wsman import WsMan
    except ImportError as error:
        raise UsageError(f"the driver for AMT is not installed: {error}", hint="pip install 'hostward[amt]'") from error
    ports = []
    for machine in machines:
        try:
            password = machine.password.read_text(encoding="utf-8").strip()
            tls = ssl.create_default_context(cafile=machine.authority)
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"password or authority cannot be read: {error}", subject=machine.name) from error
        engine = WsMan(machine.url, machine.user, password, tls)
        ports.append(AmtPort(machine.name, engine, machine.watchdog_action))
    return AmtDriver(ports, profile)


def _switched(port: SwitchDevices) -> SwitchPort:
    host, bridge = (device_number(port.netns, device) for device in (port.host, port.bridge))
    return SwitchPort(port.name, host, bridge, port.addresses, port.netns)
