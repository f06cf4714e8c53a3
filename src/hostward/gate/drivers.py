"""Which driver a gate has, by what its ports are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

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


def make_driver(
    ports: Sequence[PortDevices] | Sequence[SwitchDevices], pins: Path, hook: Hook, profile: Sequence[Allowed]
) -> Driver:
    """The driver for a gate's ports, all closed. Raises DeviceError, DatapathError or UsageError."""
    switched = [_switched(port) for port in ports if isinstance(port, SwitchDevices)]
    if switched:
        return SwitchPortDriver(switched)
    return KernelDriver(pins, [_hooked(port) for port in ports if isinstance(port, PortDevices)], profile, hook)


def _hooked(port: PortDevices) -> GatePort:
    return GatePort(port.name, device_number(port.netns, port.host), device_number(port.netns, port.fabric), port.netns)


def _switched(port: SwitchDevices) -> SwitchPort:
    host, bridge = (device_number(port.netns, device) for device in (port.host, port.bridge))
    return SwitchPort(port.name, host, bridge, port.addresses, port.netns)
