"""The gate's and the sentinel's TOML files as typed values; docs/reference/configuration.md describes every setting."""

from __future__ import annotations

from enum import Enum
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from hostward.cli.configuration import parse_address
from hostward.datapath.kernel import DEFAULT_PINS
from hostward.errors import UsageError
from hostward.gate.daemon import GateSettings
from hostward.gate.drivers import AmtMachine, Place, PortDevices, SwitchDevices
from hostward.gate.gate import Enforcement
from hostward.gate.kernel import Hook, allowed
from hostward.sentinel.daemon import SentinelSettings

_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern="^[!-~]+$")]
_Device = Annotated[str, msgspec.Meta(max_length=15)]
_Url = Annotated[str, msgspec.Meta(pattern="^(https://[!-.0-~]+)?$")]
# One host's own: neither a group's nor nobody's.
_Address = Annotated[str, msgspec.Meta(pattern="^(?!00(:00){5}$)[0-9a-f][02468ace](:[0-9a-f]{2}){5}$")]
_PROTOCOLS = {"": 0, "icmp": 1, "tcp": 6, "udp": 17, "icmpv6": 58, "sctp": 132}


class GateDriver(Enum):
    """What opens and closes the ports; docs/reference/gate-drivers.md compares them."""

    EBPF = "ebpf"
    SWITCH_PORT = "switch-port"
    AMT = "amt"


_NEEDED = {
    GateDriver.EBPF: ("host", "fabric"),
    GateDriver.SWITCH_PORT: ("host", "bridge", "addresses"),
    GateDriver.AMT: ("amt", "password"),
}


class GatePortConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One of ``[[ports]]``; which of the fields it has to have depends on the driver."""

    name: _Name
    host: _Device = ""
    fabric: _Device = ""
    netns: str = ""
    bridge: _Device = ""
    addresses: list[_Address] = []
    amt: _Url = ""
    user: str = "admin"
    password: Path = Path()
    authority: Path | None = None
    watchdog_action: Literal[0, 1] = 1

    def place(self, driver: GateDriver, path: Path) -> Place:
        """Where the port is. Raises UsageError if a field of its driver's is missing, or one of another's is there."""
        needed = _NEEDED[driver]
        others = {name for of, names in _NEEDED.items() if of is not driver for name in names} - set(needed)
        given = {name for name in {*needed, *others} if getattr(self, name) not in ("", [], Path())}
        if given != set(needed):
            raise UsageError(
                f"port {self.name} needs {', '.join(needed)}, and nothing of another driver", subject=str(path)
            )
        if driver is GateDriver.AMT:
            return AmtMachine(self.name, self.amt, self.user, self.password, self.authority, self.watchdog_action)
        if driver is GateDriver.EBPF:
            return PortDevices(self.name, self.host, self.fabric, self.netns)
        addresses = tuple(bytes.fromhex(address.replace(":", "")) for address in self.addresses)
        return SwitchDevices(self.name, self.host, self.bridge, addresses, self.netns)


class AllowConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One of ``[[allow]]``: whom a quarantined host may speak with. Without protocol or port: any."""

    prefix: str
    protocol: Literal["", "icmp", "tcp", "udp", "icmpv6", "sctp"] = ""
    port: Annotated[int, msgspec.Meta(ge=0, le=65_535)] = 0


class GateConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A gate's file. ``listen`` and ``pulses`` are ``ADDRESS:PORT``."""

    name: _Name
    listen: str
    pulses: str
    ports: Annotated[list[GatePortConfig], msgspec.Meta(min_length=1)]
    controller_keys: list[Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]] = []
    state: Path = Path("/var/lib/hostward/gate")
    pins: Path = Path("/sys/fs/bpf/hostward-gate")
    driver: GateDriver = GateDriver.EBPF
    hook: Hook = Hook.XDP
    mode: Enforcement = Enforcement.ENFORCE
    allow: list[AllowConfig] = []

    def settings(self, path: Path) -> GateSettings:
        """The same for the gate. Raises UsageError for what can be no address, key or prefix."""
        if not self.controller_keys:
            raise UsageError(
                "a gate without a controller's key never opens",
                subject=str(path),
                hint='controller_keys = ["…"], in hexadecimal',
            )
        if self.driver is GateDriver.SWITCH_PORT and self.allow:
            raise UsageError(
                "a switch's port has no quarantine profile",
                subject=str(path),
                hint="leave [[allow]] out: attestation and pulses need another way, docs/reference/gate-drivers.md",
            )
        doors = {name: parse_address(name, getattr(self, name), path) for name in ("listen", "pulses")}
        for name, (host, _) in doors.items():
            try:
                ip_address(host)
            except ValueError:
                raise UsageError(f"{name} = {host!r} is no IP address", subject=str(path)) from None
        return GateSettings(
            self.name,
            self.state,
            self.pins,
            self.hook,
            tuple(port.place(self.driver, path) for port in self.ports),
            tuple(Ed25519PublicKey.from_public_bytes(bytes.fromhex(key)) for key in self.controller_keys),
            doors["listen"],
            doors["pulses"],
            self.mode,
            tuple(allowed(entry.prefix, _PROTOCOLS[entry.protocol], entry.port) for entry in self.allow),
        )


class SentinelConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A sentinel's file. ``gate`` is ``HOST:PORT`` of the gate's door for pulses."""

    gate: str
    port: _Name
    socket: Path = Path("/run/hostward-sentinel/sentinel.sock")
    pins: Path = DEFAULT_PINS
    period_s: Annotated[float, msgspec.Meta(ge=0.1, le=60)] = 1.0
    restart_grace_s: Annotated[float, msgspec.Meta(ge=1, le=3_600)] = 30.0
    by_number: bool = False

    def settings(self, path: Path) -> SentinelSettings:
        """The same for the sentinel. Raises UsageError."""
        gate = parse_address("gate", self.gate, path)
        return SentinelSettings(
            self.socket, self.pins, gate, self.port, self.period_s, self.restart_grace_s, self.by_number
        )
