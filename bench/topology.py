"""One client and one server, each in a namespace of its own, joined by a router in a third: what every case runs on.

    client eth0 ── veth ── to-client  [router]  to-server ── veth ── eth0 server

Every case has three namespaces of its own, alike but for what filters in the router, so that rounds can alternate between
cases without setting anything up. Nothing here filters.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bench.commands import BenchError, inside, run
from bench.policy import CLIENT, FAMILIES, MACS, SERVER

_ADDRESSES = {"client": CLIENT, "server": SERVER}
_PREFIX_BITS = {4: 24, 6: 64}
# Clients open and close thousands of connections a second: their ports may be used again while the last use ages.
_WORKLOAD_SETTINGS = {"net/ipv4/tcp_tw_reuse": "1", "net/ipv4/ip_local_port_range": "16384 65535"}
_ROUTER_SETTINGS = {"net/ipv4/ip_forward": "1", "net/ipv6/conf/all/forwarding": "1"}
# Every address is known to be unique; looking for duplicates would keep IPv6 silent for the first seconds.
_COMMON_SETTINGS = {"net/ipv6/conf/default/accept_dad": "0", "net/ipv6/conf/default/router_solicitations": "0"}


@dataclass(frozen=True, slots=True)
class Topology:
    """The names of one case's namespaces; ``tag`` is short and unique on this machine."""

    tag: str

    @property
    def client(self) -> str:
        """The namespace that opens connections."""
        return f"hwbench-{self.tag}-client"

    @property
    def server(self) -> str:
        """The namespace that accepts them."""
        return f"hwbench-{self.tag}-server"

    @property
    def router(self) -> str:
        """The host's own namespace, in which the workloads' ports are."""
        return f"hwbench-{self.tag}-router"

    def port(self, workload: str) -> str:
        """The device on the router's side of ``client`` or ``server``."""
        return f"to-{workload}"


@contextmanager
def built(tag: str) -> Iterator[Topology]:
    """Build a topology, with the workloads' ports still down, and take every part of it away again."""
    topology = Topology(tag)
    try:
        _build(topology)
        yield topology
    finally:
        _remove(topology)


def set_ports_up(topology: Topology) -> None:
    """Bring the workloads' ports up, where nobody else does."""
    for workload in _ADDRESSES:
        _ip(topology.router, "link", "set", topology.port(workload), "up")


def _build(topology: Topology) -> None:
    for namespace in (topology.client, topology.server, topology.router):
        run(["ip", "netns", "add", namespace])
        _configure(namespace, _COMMON_SETTINGS)
        _ip(namespace, "link", "set", "lo", "up")
    _configure(topology.router, _ROUTER_SETTINGS)
    for workload, namespace in (("client", topology.client), ("server", topology.server)):
        port = topology.port(workload)
        peer = ("peer", "name", "eth0", "address", MACS[workload], "netns", namespace)
        _ip(topology.router, "link", "add", port, "type", "veth", *peer)
        _configure(namespace, _WORKLOAD_SETTINGS)
        for family in FAMILIES:
            address = _ADDRESSES[workload][family]
            gateway, bits = f"{address[:-1]}1", _PREFIX_BITS[family]
            _ip(topology.router, "addr", "add", f"{gateway}/{bits}", "dev", port)
            _ip(namespace, "addr", "add", f"{address}/{bits}", "dev", "eth0")
        _ip(namespace, "link", "set", "eth0", "up")
        for family in FAMILIES:
            gateway = f"{_ADDRESSES[workload][family][:-1]}1"
            _ip(namespace, f"-{family}", "route", "add", "default", "via", gateway, "dev", "eth0")


def _ip(namespace: str, *arguments: str) -> None:
    run([*inside(namespace), "ip", *arguments])


def _configure(namespace: str, settings: dict[str, str]) -> None:
    """Write sysctls: /proc/sys/net shows the namespace of who opens it."""
    for name, value in settings.items():
        run([*inside(namespace), "tee", f"/proc/sys/{name}"], given=value)


def _remove(topology: Topology) -> None:
    """The namespaces take their devices along."""
    for namespace in (topology.client, topology.server, topology.router):
        try:
            run(["ip", "netns", "del", namespace])
        except BenchError:
            continue  # never made
