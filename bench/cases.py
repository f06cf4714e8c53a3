"""What is compared: nothing attached, Hostward, and nftables in two forms; how each is set up and what it counted."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from bench.commands import BenchError, inside, run
from bench.policy import hostward_slice, nftables_linear, nftables_sets, rules_of
from bench.topology import Topology, set_ports_up
from hostward.datapath.kernel import KernelEnforcer, open_enforcer
from hostward.datapath.tables import Capacity
from hostward.model.endpoint import EndpointState, Port, Quota
from hostward.model.slice import HostSlice

_BPFFS = Path("/sys/fs/bpf")
# Connections of one second outlive it in every tracker; the kernel's own default for conntrack is the same number.
_QUOTA = Quota(flows=262_144)
_CAPACITY = Capacity(endpoints=4, flows=2 * _QUOTA.flows)


class Filter(Enum):
    """What stands between client and server."""

    NONE = "unprotected"
    HOSTWARD = "hostward"
    NFTABLES_RULES = "nftables-rules"
    NFTABLES_SETS = "nftables-sets"


@dataclass(frozen=True, slots=True)
class Case:
    """A filter with a policy of so many rules; without a filter there are none."""

    filter: Filter
    rules: int = 0

    @property
    def name(self) -> str:
        """The case in results: ``hostward/1000``."""
        return f"{self.filter.value}/{self.rules}" if self.rules else self.filter.value


UNPROTECTED = Case(Filter.NONE)


@dataclass(frozen=True, slots=True)
class Seen:
    """What a filter counted of its own: packets that allow rules decided, and packets denied.

    Hostward counts every packet of a flow; the nftables cases count the one that opens it, to spare them the others.
    """

    allowed: int
    denied: int


Counting = Callable[[], Seen]


@contextmanager
def protected(case: Case, topology: Topology) -> Iterator[Counting]:
    """Put a case's filter into a topology and bring the ports up; yields what reads its counters."""
    match case.filter:
        case Filter.NONE:
            set_ports_up(topology)
            yield lambda: Seen(0, 0)
        case Filter.HOSTWARD:
            with _hostward(case.rules, topology) as counting:
                yield counting
        case Filter.NFTABLES_RULES | Filter.NFTABLES_SETS:
            text = nftables_linear if case.filter is Filter.NFTABLES_RULES else nftables_sets
            run([*inside(topology.router), "nft", "-f", "-"], given=text(rules_of(case.rules)))
            set_ports_up(topology)
            yield lambda: _nftables_seen(topology)


@contextmanager
def _hostward(rules: int, topology: Topology) -> Iterator[Counting]:
    """Both ports enforced by the real datapath, from a slice of the real compiler; pins of its own, gone afterwards."""
    ports = {workload: Port(topology.port(workload), topology.router) for workload in ("client", "server")}
    desired = hostward_slice(rules_of(rules), ports, _QUOTA)
    try:
        pins = Path(tempfile.mkdtemp(prefix="hostward-bench-", dir=_BPFFS))
    except OSError as error:
        raise BenchError(str(error), subject=str(_BPFFS), hint="mount bpffs there: scripts/mounts") from error
    try:
        enforcer = open_enforcer(pins, capacity=_CAPACITY)
        for name, status in enforcer.enforce(desired).items():
            if status.state is not EndpointState.ENFORCED:
                raise BenchError(f"is {status.state.value}: {status.reason}", subject=name)
        yield lambda: _hostward_seen(enforcer, desired)
        enforcer.close()
    finally:
        shutil.rmtree(pins, ignore_errors=True)


def _hostward_seen(enforcer: KernelEnforcer, desired: HostSlice) -> Seen:
    allowed = denied = 0
    for number, (packets, _) in enforcer.counters().by_rule.items():
        if desired.decisions[number].verdict == "allow":
            allowed += packets
        else:
            denied += packets
    return Seen(allowed, denied)


def _nftables_seen(topology: Topology) -> Seen:
    listed = run([*inside(topology.router), "nft", "--json", "list", "counters"])
    packets = {
        item["counter"]["name"]: int(item["counter"]["packets"])
        for item in json.loads(listed)["nftables"]
        if "counter" in item
    }
    return Seen(packets["opened"], packets["denied"])
