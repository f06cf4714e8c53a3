"""Tenants' weighted shares of a host's uplink: classes of a hierarchical token bucket for each tenant, on its device.

The datapath writes a tenant's class into each packet that it lets out (``struct hw_endpoint.priority``), whatever the
workload wrote there, so that the share does not depend on how many flows, endpoints or packets a tenant has; what a tenant
leaves is divided among the others by weight, at once. Queues are the kernel's (tc-htb(8)): the datapath drops and
never waits. What the machine itself sends has a class of weight one.

Below a tenant's share lies the class that the datapath names, and beside it one for each receiver that told this host how
fast the tenant may send to it (``agent.feedback``). ``bpf/uplink.bpf.c`` moves packets there, while there are any.
"""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hostward import _core
from hostward.datapath.devices import find_ifindex, namespace_path
from hostward.errors import DatapathError, DeviceError
from hostward.model.endpoint import Port

OBJECT = Path(__file__).parent.parent / "bpf" / "uplink.bpf.o"
# The qdisc's handle, and the upper half of what the datapath writes.
_MAJOR = 0x4857
_ROOT, _MACHINE, _FIRST = 1, 2, 16
# Above each tenant's class, which has the number without this bit, its share; classes with a ceiling come behind.
_SHARE, _FIRST_CEILING, _BEHIND = 0x4000, 0x8000, 0xFFFF
# Excess is divided by quantum: at least a full frame for the smallest weight, and tc refuses more than 200,000.
_QUANTUM_MIN, _QUANTUM_MAX = 1_514, 200_000
_LIMIT_S = 10.0
# What waits in a class whose ceiling is lifted has so long to leave; removing a class drops its queue.
_DRAIN_S = 5.0
# By the leaf of other classes, that of one with a ceiling: it is there to be full, so memory is bounded.
_HELD_LEAVES = {"fq_codel": "fq_codel memory_limit 8000000", "pfifo": "bfifo limit 4000000"}


@dataclass(frozen=True, slots=True)
class UplinkSettings:
    """The device through which the host's endpoints leave it, and how much it carries.

    ``downlink_bits_per_s`` is what it carries the other way, for which senders are told their part; 0: they are not.
    """

    device: str
    bits_per_s: int
    netns: str = ""
    downlink_bits_per_s: int = 0


@dataclass(frozen=True, slots=True)
class Ceiling:
    """How fast a tenant may send to a receiver's addresses, until ``until_ns`` on the monotonic clock."""

    tenant: str
    receiver: int
    bits_per_s: int
    addresses: Sequence[str]
    until_ns: int


# A tenant and a receiver.
_Pair = tuple[str, int]


class Uplink:
    """Owns the root queueing discipline of one device, and its own filter there. Callable from any thread.

    A device that is away, or a kernel that refuses, keeps nobody from enforcing a revision: it is told once, and tried
    again with each ``mend``.
    """

    def __init__(self, settings: UplinkSettings) -> None:
        self.settings = settings
        self._lock = threading.Lock()
        self._programs: _core.Uplink | None = None
        self._weights: Mapping[str, int] = {}
        self._classes: dict[str, int] = {}
        self._ceilings: dict[_Pair, Ceiling] = {}
        self._restrained: dict[_Pair, int] = {}  # the class of each pair with a ceiling
        self._draining: dict[_Pair, tuple[int, float]] = {}  # classes without one, and when they go
        self._set: dict[int, str] = {}  # the classes as they stand; empty until the root is there
        self._moves = True  # whether the filter may be there: an agent before this one may have left it
        self._leaf = ""
        self._problem = ""
        self._told = ""

    @property
    def programs(self) -> _core.Uplink:
        """The programs of the uplink, loaded when they are first wanted. Raises DatapathError."""
        if self._programs is None:
            try:
                self._programs = _core.Uplink(str(OBJECT))
            except _core.CoreError as error:
                raise DatapathError(str(error), subject=str(OBJECT), hint="run `make build`") from error
        return self._programs

    @property
    def ceilings(self) -> int:
        """How many ceilings are in force."""
        return len(self._restrained)

    @property
    def draining(self) -> bool:
        """Whether ``restrain`` has something to remove later."""
        return bool(self._draining)

    def ifindex(self) -> int:
        """The device's index now. Raises DeviceError."""
        found = find_ifindex(Port(self.settings.device, self.settings.netns))
        if found is None:
            raise DeviceError("the device is not there", subject=self.settings.device)
        return found

    def divide(self, weights: Mapping[str, int]) -> Mapping[str, int]:
        """Divide the uplink among these tenants and return what the datapath writes into each one's packets.

        A tenant keeps its class for as long as it has one.
        """
        with self._lock:
            if dict(weights) == dict(self._weights):
                return self._priorities()
            kept = {tenant: minor for tenant, minor in self._classes.items() if tenant in weights}
            free = (minor for minor in range(_FIRST, _SHARE) if minor not in self._classes.values())
            self._classes = {tenant: kept.get(tenant) or next(free) for tenant in weights}
            self._weights = dict(weights)
            for pair in [pair for pair in (*self._restrained, *self._draining) if pair[0] not in weights]:
                self._ceilings.pop(pair, None)
                self._restrained.pop(pair, None)
                self._draining.pop(pair, None)
            self._apply()
            return self._priorities()

    def restrain(self, ceilings: Iterable[Ceiling]) -> None:
        """Have exactly these ceilings; those of tenants that have no endpoint here are nothing.

        Raises DeviceError if they could not be set; ``mend`` tries again.
        """
        with self._lock:
            wanted = {(one.tenant, one.receiver): one for one in ceilings if one.tenant in self._classes}
            if not wanted and not self._restrained and not self._draining:
                return
            now_s = time.monotonic()
            for pair in [pair for pair in self._restrained if pair not in wanted]:
                self._draining[pair] = (self._restrained.pop(pair), now_s + _DRAIN_S)
            taken = {*self._restrained.values(), *(minor for minor, _ in self._draining.values())}
            free = (minor for minor in range(_FIRST_CEILING, _BEHIND) if minor not in taken)
            for pair in wanted:
                if pair not in self._restrained:
                    self._restrained[pair] = self._draining.pop(pair, (0, 0.0))[0] or next(free)
            self._draining = {pair: known for pair, known in self._draining.items() if known[1] > now_s}
            self._ceilings = wanted
            self._apply()
            if self._problem:
                raise DeviceError(self._problem, subject=self.settings.device)

    def mend(self) -> list[str]:
        """Restore what somebody changed, and try again what failed; a line for what was wrong."""
        with self._lock:
            device = self.settings.device
            if not self._weights or (not self._problem and self._is_there()):
                return []
            before = self._problem
            self._set.clear()
            self._apply()
            if self._problem:
                told, self._told = self._told, self._problem
                return [] if told == self._problem else [f"uplink {device}: {self._problem}"]
            self._told = ""
            return [f"uplink {device}: its shares {'could not be set, and are set now' if before else 'were gone'}"]

    def _is_there(self) -> bool:
        try:
            roots = json.loads(self._run("-j", "qdisc", "show", "dev", self.settings.device, "root") or "[]")
        except (DeviceError, ValueError):
            return False
        return any(root.get("handle") == f"{_MAJOR:x}:" for root in roots)

    def _apply(self) -> None:
        """Bring the kernel from what is set to what is wanted: classes first, then who goes there, then what is gone."""
        self._problem = ""
        try:
            if not self._set:
                self._begin()
            wanted = dict(self._classes_wanted())
            self._tc(self._changes(wanted))
            self._move()
            # Later: packets on their way may still name one. The lower ones first, a class with others below it stays.
            gone = sorted((minor for minor in self._set if minor not in wanted), key=_is_share)
            self._tc([f"class del dev {self.settings.device} classid {_id(minor)}" for minor in gone])
            self._set = wanted
        except (DatapathError, DeviceError) as error:
            self._problem = str(error)
            self._set.clear()

    def _priorities(self) -> Mapping[str, int]:
        return {tenant: _MAJOR << 16 | minor for tenant, minor in self._classes.items()}

    def _begin(self) -> None:
        """An empty root, in place of what an agent before this one left: the kernel cannot change one as a whole."""
        device = self.settings.device
        self._leaf = self._leaf_kind()
        stale = [f"qdisc del dev {device} root"] if self._is_there() else []
        self._tc([*stale, f"qdisc replace dev {device} root handle {_MAJOR:x}: htb default {_MACHINE:x}"])

    def _leaf_kind(self) -> str:
        """Flows of one tenant are fair to each other where the kernel has fq_codel."""
        probe = subprocess.run(
            [*self._command(), "qdisc", "add", "dev", "lo", "root", "fq_codel"], capture_output=True, check=False
        )
        if probe.returncode:
            return "pfifo"
        subprocess.run([*self._command(), "qdisc", "del", "dev", "lo", "root"], capture_output=True, check=False)
        return "fq_codel"

    def _classes_wanted(self) -> Iterator[tuple[int, str]]:
        """Every class, as tc(8) is told of it, the upper ones first."""
        whole = self.settings.bits_per_s
        everybody = {_MACHINE: 1, **{self._classes[tenant]: weight for tenant, weight in self._weights.items()}}
        total, most = sum(everybody.values()), max(everybody.values())
        scale = min(_QUANTUM_MAX / most, 10 * _QUANTUM_MIN)
        yield _ROOT, f"parent {_id(0)} classid {_id(_ROOT)} htb rate {whole}bit quantum 60000"
        yield _MACHINE, _class(_ROOT, _MACHINE, whole // total, whole, scale)
        below: dict[str, list[tuple[int, int]]] = {}
        for pair, minor in self._restrained.items():
            below.setdefault(pair[0], []).append((minor, min(whole, self._ceilings[pair].bits_per_s)))
        for pair, (minor, _) in self._draining.items():
            below.setdefault(pair[0], []).append((minor, whole))
        for tenant, weight in self._weights.items():
            rest, share, held = self._classes[tenant], whole * weight // total, below.get(tenant, [])
            # What is sure to each is a part of what is sure to the tenant; the rest they borrow from it.
            part, quantum = share // (1 + len(held)), weight * scale / (1 + len(held))
            yield rest | _SHARE, _class(_ROOT, rest | _SHARE, share, whole, weight * scale)
            yield rest, _class(rest | _SHARE, rest, part, whole, quantum)
            for minor, ceiling in held:
                yield minor, _class(rest | _SHARE, minor, min(part, ceiling), ceiling, quantum)

    def _changes(self, wanted: Mapping[int, str]) -> list[str]:
        lines: list[str] = []
        device = self.settings.device
        for minor, line in wanted.items():
            if self._set.get(minor) != line:
                lines.append(f"class replace dev {device} {line}")
            if minor not in self._set and minor != _ROOT and not _is_share(minor):
                leaf = self._leaf if minor < _FIRST_CEILING else _HELD_LEAVES[self._leaf]
                lines.append(f"qdisc replace dev {device} parent {_id(minor)} {leaf}")
        return lines

    def _move(self) -> None:
        """Have packets to restrained receivers go to their classes, also after somebody took the filter away."""
        moves = [
            (_MAJOR << 16 | self._classes[pair[0]], address, _MAJOR << 16 | minor, self._ceilings[pair].until_ns)
            for pair, minor in self._restrained.items()
            for address in self._ceilings[pair].addresses
        ]
        if not moves and not self._moves:
            return
        try:
            self.programs.restrain(self.settings.netns, self.ifindex(), moves)
        except (_core.CoreError, ValueError) as error:
            raise DatapathError(f"its ceilings cannot be set: {error}") from error
        self._moves = bool(moves)

    def _command(self) -> list[str]:
        netns = self.settings.netns
        enter = ["nsenter", f"--net={namespace_path(netns)}"] if netns else []
        return [*enter, "tc"]

    def _tc(self, lines: list[str]) -> None:
        if lines:
            self._run("-batch", "-", given="\n".join(lines) + "\n")

    def _run(self, *arguments: str, given: str = "") -> str:
        done = subprocess.run(
            [*self._command(), *arguments], input=given, capture_output=True, text=True, timeout=_LIMIT_S, check=False
        )
        if done.returncode:
            said = done.stderr.strip().splitlines() or ["tc failed"]
            raise DeviceError(f"its shares cannot be set: {said[0]}")
        return done.stdout


def _is_share(minor: int) -> bool:
    return _SHARE <= minor < _FIRST_CEILING


def _class(parent: int, minor: int, rate: int, ceiling: int, quantum: float) -> str:
    return (
        f"parent {_id(parent)} classid {_id(minor)} htb rate {max(1, rate)}bit ceil {ceiling}bit "
        f"quantum {max(_QUANTUM_MIN, int(quantum))}"
    )


def _id(minor: int) -> str:
    return f"{_MAJOR:x}:{minor:x}" if minor else f"{_MAJOR:x}:"
