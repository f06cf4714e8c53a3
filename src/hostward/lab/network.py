"""The lab's wires: fabric, management network, hosts' bridges, endpoints' ports. Filters nothing and starts no daemon.

Ports are made down and stay down: whoever enforces brings them up (invariant 6). Every node reaches every other on one
Ethernet; addresses are host routes, so that no router stands between an attacker and its victim.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from pathlib import Path

from hostward.lab.processes import run
from hostward.lab.topology import Kind, LabEndpoint, OutsideNode

# The management network is no part of any endpoint's world; 192.0.2.0/24 is TEST-NET-1 (RFC 5737).
CONTROLLER_ADDRESS = "192.0.2.1"
UPLINK = "uplink"
BRIDGE = "br0"
GATE_HOST, GATE_FABRIC = "host0", "fabric0"
# Snooping would lose group traffic before a sink could judge it; nf_call would let a machine's own firewall have a say.
_BRIDGE_OPTIONS = "mcast_snooping 0 stp_state 0 forward_delay 0 nf_call_iptables 0 nf_call_ip6tables 0"


def ip_batch(namespace: str, lines: Iterable[str]) -> None:
    """Run ip(8) commands in a network namespace: a name of `ip netns`, or a path. Raises HostwardError."""
    run([*enter(namespace), "ip", "-batch", "-"], given="\n".join(lines) + "\n")


def enter(namespace: str) -> list[str]:
    """What to put before a command to run it in a network namespace, and in no other kind of namespace."""
    return ["nsenter", f"--net={namespace if namespace.startswith('/') else f'/run/netns/{namespace}'}", "--"]


def make_namespace(name: str) -> None:
    """Make a named network namespace with its loopback up."""
    run(["ip", "netns", "add", name])
    run([*enter(name), "ip", "link", "set", "lo", "up"])


def make_switch(namespace: str) -> None:
    """A bridge that only forwards: the namespace itself is no IPv6 node on it."""
    _silence(namespace)
    ip_batch(namespace, [f"link add {BRIDGE} type bridge {_BRIDGE_OPTIONS}", f"link set {BRIDGE} up"])


def wire_host(index: int, host: str, host_namespace: str, fabric: str, management: str) -> None:
    """Give a host its bridge, its uplink into the fabric and its management interface."""
    make_switch(host_namespace)
    for switch, inside in ((fabric, UPLINK), (management, "mgmt0")):
        ip_batch(
            switch,
            [
                f"link add port-{index} type veth peer name {inside}-{index}",
                f"link set port-{index} alias {host} master {BRIDGE} up",
            ],
        )
        move_device(switch, f"{inside}-{index}", host_namespace, new_name=inside)
    ip_batch(
        host_namespace,
        [
            f"link set {UPLINK} master {BRIDGE} up",
            f"addr add {management_address(index)}/24 dev mgmt0",
            "link set mgmt0 up",
        ],
    )


def wire_gate(index: int, gate: str, fabric: str, management: str, host_namespace: str) -> None:
    """Put a gate into a host's uplink, in a namespace of its own, and on the management network.

    The host's wire and the fabric's end there on a bridge, so that whoever attaches to both ends decides what passes.
    """
    make_switch(gate)
    ip_batch(host_namespace, [f"link del {UPLINK}"])
    ip_batch(
        gate,
        [
            f"link add {GATE_HOST} type veth peer name {UPLINK}-{index}",
            f"link set {GATE_HOST} master {BRIDGE} up",
        ],
    )
    move_device(gate, f"{UPLINK}-{index}", host_namespace, new_name=UPLINK)
    ip_batch(host_namespace, [f"link set {UPLINK} master {BRIDGE} up"])
    ip_batch(
        fabric,
        [
            f"link add port-{index} type veth peer name {GATE_FABRIC} netns {gate}",
            f"link set port-{index} master {BRIDGE} up",
        ],
    )
    ip_batch(gate, [f"link set {GATE_FABRIC} master {BRIDGE} up"])
    ip_batch(
        management,
        [f"link add gate-{index} type veth peer name mgmt0 netns {gate}", f"link set gate-{index} master {BRIDGE} up"],
    )
    ip_batch(gate, [f"addr add {gate_address(index)}/24 dev mgmt0", "link set mgmt0 up"])


def gate_address(index: int) -> str:
    """The address of the gate of host number ``index`` on the management network."""
    return str(ipaddress.ip_address(CONTROLLER_ADDRESS) + 109 + index)


def move_device(namespace: str, device: str, target: str, *, new_name: str = "") -> None:
    """Move a device into the network namespace at the path ``target``."""
    renaming = ["name", new_name] if new_name else []
    run([*enter(namespace), "ip", "link", "set", device, *renaming, "netns", target])


def management_address(index: int) -> str:
    """The address of host number ``index`` on the management network."""
    return str(ipaddress.ip_address(CONTROLLER_ADDRESS) + 9 + index)


def wire_controller(namespace: str, management: str) -> None:
    """Put the controller's namespace on the management network."""
    ip_batch(
        management,
        [f"link add port-c type veth peer name eth0 netns {namespace}", f"link set port-c master {BRIDGE} up"],
    )
    ip_batch(namespace, [f"addr add {CONTROLLER_ADDRESS}/24 dev eth0", "link set eth0 up"])


def wire_outside(node: OutsideNode, index: int, namespace: str, fabric: str) -> None:
    """Put a node on the fabric itself, behind no host."""
    ip_batch(
        fabric,
        [
            f"link add outside-{index} type veth peer name eth0 address {node.mac} netns {namespace}",
            f"link set outside-{index} master {BRIDGE} up",
        ],
    )
    _address(namespace, node.addresses)


def wire_endpoint(endpoint: LabEndpoint, namespace: str, host_namespace: str) -> None:
    """Make an endpoint's port on its host's bridge, down; and its workload's side, addressed."""
    device = endpoint.device
    if endpoint.kind is Kind.VM:
        ip_batch(host_namespace, [f"tuntap add dev {device} mode tap", f"link set {device} master {BRIDGE}"])
        return
    ip_batch(
        host_namespace,
        [
            f"link add {device} type veth peer name eth0 address {endpoint.mac} netns {namespace}",
            f"link set {device} master {BRIDGE}",
        ],
    )
    _address(namespace, endpoint.addresses)


def set_ports(host_namespace: str, devices: Iterable[str], state: str) -> None:
    """Force ports ``up`` or ``down`` by hand; only for showing what happens without a defence."""
    ip_batch(host_namespace, [f"link set {device} {state}" for device in devices])


def restart_port(namespace: str, device: str) -> None:
    """Take a wire down and up: the switches on both its ends forget who is behind it."""
    ip_batch(namespace, [f"link set {device} down", f"link set {device} up"])


def forget_neighbours(namespace: str) -> None:
    """Empty a node's neighbour tables."""
    run([*enter(namespace), "ip", "neigh", "flush", "dev", "eth0"])


def _address(namespace: str, addresses: Iterable[str]) -> None:
    lines: list[str] = []
    families = set()
    for address in addresses:
        version = ipaddress.ip_address(address).version
        families.add(version)
        # Duplicate address detection waits for a carrier that only comes with enforcement.
        lines.append(f"addr add {address}/{32 if version == 4 else 128} dev eth0{' nodad' if version == 6 else ''}")
    lines.append("link set eth0 up")
    lines += [f"-{version} route add default dev eth0" for version in sorted(families)]
    for line in lines:  # one by one: a batch cannot change its family for the routes
        run([*enter(namespace), "ip", *line.split()])


def _silence(namespace: str) -> None:
    settings = ["net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1"]
    if Path("/proc/sys/net/bridge").is_dir():
        # Else the machine's own firewall drops malformed packets, and cuts padding off, before a sink sees them.
        settings += [f"net.bridge.bridge-nf-call-{table}=0" for table in ("iptables", "ip6tables", "arptables")]
    run([*enter(namespace), "sysctl", "-qw", *settings])
