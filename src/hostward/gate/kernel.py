"""Gates by eBPF: tcx or clsact where the gate is a host's own namespace (the lab), XDP for a DPU or a physical device.

The deadline stands in a map that the programs read with every packet, so a port closes by itself. What is pinned outlives
this process; whoever opens the gate again closes every port first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path

from hostward import _core
from hostward.errors import DatapathError, NotFoundError, UsageError
from hostward.gate.driver import Capabilities, Dropped

OBJECT = Path(__file__).parent.parent / "bpf" / "gate.bpf.o"
_CLOSED, _CUT = 0, 1
_MAPPED = IPv6Network("::ffff:0:0/96")
_LIFE_MS_MAX = 3_600_000


class Hook(Enum):
    """Where the programs are."""

    TCX = "tcx"
    CLSACT = "clsact"
    XDP = "xdp"


@dataclass(frozen=True, slots=True)
class GatePort:
    """A port of the gate: the device towards the host and the one towards the fabric, by their numbers in ``netns``."""

    name: str
    host_ifindex: int
    fabric_ifindex: int
    netns: str = ""


@dataclass(frozen=True, slots=True)
class Allowed:
    """Whom a quarantined host may speak with besides address resolution and DHCP. ``protocol`` and ``port`` 0: any."""

    prefix: IPv4Network | IPv6Network
    protocol: int = 0
    port: int = 0


class KernelDriver:
    """A ``Driver`` over this machine's devices; ``pins`` is a folder in bpffs of its own."""

    def __init__(
        self, pins: Path, ports: Sequence[GatePort], profile: Iterable[Allowed] = (), hook: Hook = Hook.TCX
    ) -> None:
        if not OBJECT.exists():
            raise DatapathError("the gate's object is missing", subject=str(OBJECT), hint="run `make build`")
        if len({port.name for port in ports}) != len(ports):
            raise UsageError("two ports of a gate have one name", subject=", ".join(port.name for port in ports))
        self._hook = hook
        self._numbers = {port.name: number for number, port in enumerate(ports)}
        try:
            self._core = _core.Gate(str(OBJECT), str(pins))
            self._core.set_profile([_entry(allowed) for allowed in profile])
            for port in ports:
                number = self._numbers[port.name]
                self._core.attach(number, port.netns, port.host_ifindex, port.fabric_ifindex, hook.value)
        except _core.CoreError as error:
            raise DatapathError(f"the gate cannot be set up: {error}", hint="be root, and mount bpffs") from error

    def capabilities(self) -> Capabilities:
        """See ``Driver``. The clock of the programs counts nanoseconds; a millisecond is what the interface speaks of."""
        return Capabilities(True, 1, 1, _LIFE_MS_MAX, both_directions=True, counts=True)

    def ports(self) -> tuple[str, ...]:
        """See ``Driver``."""
        return tuple(self._numbers)

    def open_until(self, port: str, deadline_ns: int) -> None:
        """See ``Driver``."""
        self._set(port, max(deadline_ns, _CUT + 1))

    def close(self, port: str, *, profile: bool) -> None:
        """See ``Driver``."""
        self._set(port, _CLOSED if profile else _CUT)

    def dropped(self, port: str) -> Dropped:
        """See ``Driver``."""
        return Dropped(*self._core.dropped(self._number(port)))

    def remove(self) -> None:
        """Take the gate away: links and pins. With XDP and tcx links the devices are then as they were before."""
        self._core.remove_pins()

    def _set(self, port: str, word: int) -> None:
        try:
            self._core.set_end(self._number(port), word)
        except _core.CoreError as error:
            raise DatapathError(f"the deadline cannot be set: {error}", subject=port) from error

    def _number(self, port: str) -> int:
        try:
            return self._numbers[port]
        except KeyError:
            raise NotFoundError("the gate has no such port", subject=port) from None


def allowed(text: str, protocol: int = 0, port: int = 0) -> Allowed:
    """An entry from a prefix's text. Raises UsageError."""
    try:
        return Allowed(ip_network(text), protocol, port)
    except ValueError as error:
        raise UsageError(f"this is no prefix: {error}", subject=text) from None


def _entry(allowed: Allowed) -> tuple[list[int], int, int, int]:
    prefix = allowed.prefix
    packed, bits = prefix.network_address.packed, prefix.prefixlen
    if isinstance(prefix, IPv4Network):
        packed, bits = _MAPPED.network_address.packed[:12] + packed, bits + 96
    return list(packed), bits, allowed.protocol, allowed.port
