"""Network devices: what can carry an endpoint, where it is, and what its workload's side says of itself.

Asked of ip(8), which enters another namespace in a process of its own: nothing here moves the agent's threads.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from hostward.datapath.enforcer import DeviceFacts
from hostward.errors import DeviceError
from hostward.model.endpoint import Port

# Why a kind of device cannot be a port: its packets would not pass the datapath, or not only this workload's would.
_REFUSED_KINDS = {
    "macvtap": "its packets bypass the tc hooks of the host's side; give the VM a tap instead",
    "macvlan": "it has no host's side; use a veth pair",
    "ipvlan": "it has no host's side; use a veth pair",
    "ipvtap": "its packets bypass the tc hooks of the host's side; give the VM a tap instead",
    "bridge": "it carries many workloads; name the workload's own port",
    "bond": "it carries many workloads; name the workload's own port",
    "vxlan": "it is part of the fabric, not a workload's port",
    "dummy": "nothing can be attached behind it",
    "vlan": "it is part of the fabric, not a workload's port",
}
_NAMESPACES = Path("/run/netns")
_LIMIT_S = 10.0


def namespace_path(netns: str) -> str:
    """The file of a network namespace named as in ``Port.netns``."""
    return netns if netns.startswith("/") else str(_NAMESPACES / netns)


def find_ifindex(port: Port) -> int | None:
    """The index of a port's device in its namespace, None if it is not there."""
    if not port.netns:
        try:
            return int(Path(f"/sys/class/net/{port.device}/ifindex").read_text())
        except OSError:
            return None
    links = _ip(port.netns, "link", "show", "dev", port.device)
    return int(links[0]["ifindex"]) if links else None


def received_bytes(port: Port) -> int | None:
    """What a device has received since it exists, None if it is not there."""
    if not port.netns:
        try:
            return int(Path(f"/sys/class/net/{port.device}/statistics/rx_bytes").read_text())
        except OSError:
            return None
    links = _ip(port.netns, "-s", "link", "show", "dev", port.device)
    return int(links[0]["stats64"]["rx"]["bytes"]) if links else None


@dataclass(frozen=True, slots=True)
class PortStatistics:
    """What a device counted since it exists, of each direction: bytes, packets, errors, drops."""

    ifindex: int
    up: bool
    bits_per_s: int  # 0: not known
    received: tuple[int, int, int, int]
    sent: tuple[int, int, int, int]


def port_statistics(ports: Mapping[str, Port]) -> Mapping[str, PortStatistics]:
    """What the devices of these ports counted, by the same names; one that is not there is left out."""
    found: dict[str, PortStatistics] = {}
    for netns in {port.netns for port in ports.values()}:
        links = {str(link["ifname"]): link for link in _ip(netns, "-s", "link", "show")}
        for name, port in ports.items():
            if port.netns == netns and port.device in links:
                found[name] = _statistics(links[port.device])
    return found


def _statistics(link: Mapping[str, Any]) -> PortStatistics:
    counted = link.get("stats64", {})
    ways = [
        tuple(int(counted.get(way, {}).get(what, 0)) for what in ("bytes", "packets", "errors", "dropped"))
        for way in ("rx", "tx")
    ]
    received, sent = ((way[0], way[1], way[2], way[3]) for way in ways)
    return PortStatistics(int(link["ifindex"]), "UP" in link.get("flags", ()), 0, received, sent)


def set_up(port: Port) -> None:
    """Bring a port up, once it enforces. Raises DeviceError."""
    command = [*_enter(port.netns), "ip", "link", "set", "dev", port.device, "up"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S, check=False)
    if done.returncode:
        raise DeviceError(f"cannot be set up: {done.stderr.strip()}", subject=port.device)


def inspect(port: Port) -> DeviceFacts:
    """What a device is. Raises DeviceError, with the reason, if it can never be a port."""
    if port.netns and not os.path.exists(namespace_path(port.netns)):
        raise DeviceError("there is no such network namespace", subject=port.netns, hint="check `ip netns list`")
    links = _ip(port.netns, "-d", "link", "show", "dev", port.device)
    if not links:
        where = f" in namespace {port.netns}" if port.netns else ""
        raise DeviceError(f"there is no such device{where}", subject=port.device, hint="check the name with `ip link`")
    link = links[0]
    kind = str(link.get("linkinfo", {}).get("info_kind", ""))
    _refuse(port, kind)
    return _veth_peer(link) if kind == "veth" else DeviceFacts("tap", "", ())


def workload_namespaces(netns: str = "") -> Mapping[str, int]:
    """The namespaces of the workloads' sides of the veths in a network namespace, by the host's side and as numbered there.

    The kernel gives another namespace its number when it is asked, and takes it away with the namespace. A device whose
    other side is here, or which has none, is left out.
    """
    links = _ip(netns, "link", "show", "type", "veth")
    return {str(link["ifname"]): int(link["link_netnsid"]) for link in links if link.get("link_netnsid", -1) >= 0}


def machine_addresses(namespaces: Iterable[str] = ()) -> frozenset[str]:
    """Every address of global scope in the machine's own network namespace and in the given ones."""
    return frozenset(
        str(ip_address(address["local"]))
        for netns in {"", *namespaces}
        for link in _ip(netns, "address", "show", "scope", "global")
        for address in link.get("addr_info", ())
        if address.get("local")
    )


def refuse_uplink(port: Port) -> None:
    """Raise DeviceError for a device by which the machine itself is reached: filtered, it would cut the machine off."""
    carried = [
        str(address["local"])
        for link in _ip(port.netns, "address", "show", "scope", "global", "dev", port.device)
        for address in link.get("addr_info", ())
        if address.get("local")
    ]
    if any(_ip(port.netns, family, "route", "show", "default", "dev", port.device) for family in ("-4", "-6")):
        carried.append("the default route")
    if carried:
        raise DeviceError(
            f"it carries the machine's own {', '.join(carried)}: as a workload's port it would cut the machine off",
            subject=port.device,
            hint="name the workload's own port; if it is this one, move what it carries to a bridge or another device",
        )


def _refuse(port: Port, kind: str) -> None:
    subject = port.device
    if not port.netns and os.path.exists(f"/sys/class/net/{subject}/device/physfn"):
        raise DeviceError(
            "it is an SR-IOV virtual function: its packets never pass the host's kernel",
            subject=subject,
            hint="attach the workload by a veth or a tap; a VF needs enforcement in the NIC",
        )
    if kind in _REFUSED_KINDS:
        raise DeviceError(f"a {kind} cannot be an endpoint's port", subject=subject, hint=_REFUSED_KINDS[kind])
    if kind not in ("veth", "tun"):
        raise DeviceError(
            f"it is {'a ' + kind if kind else 'no virtual port'}, and an endpoint's port is a veth or a tap",
            subject=subject,
            hint="vhost-user, DPDK and physical ports bypass the tc hooks; use a veth or a tap",
        )


def _veth_peer(link: Mapping[str, Any]) -> DeviceFacts:
    """The workload's side, where its namespace has a name on this host; otherwise the operator has to say."""
    peer, here = link.get("link_index"), link.get("ifindex")
    names = sorted(os.listdir(_NAMESPACES)) if _NAMESPACES.is_dir() else []
    for name in names if peer else ():
        for other in _ip(name, "-d", "addr", "show"):
            if other.get("ifindex") != peer or other.get("link_index") != here:
                continue
            if other.get("linkinfo", {}).get("info_kind", "veth") != "veth":
                continue
            addresses = [a["local"] for a in other.get("addr_info", ()) if a.get("scope") == "global"]
            return DeviceFacts("veth", str(other.get("address", "")), tuple(addresses))
    return DeviceFacts("veth", "", ())


def _enter(netns: str) -> list[str]:
    return ["nsenter", f"--net={namespace_path(netns)}"] if netns else []


def _ip(netns: str, *arguments: str) -> list[dict[str, Any]]:
    """What ip(8) answers, as JSON; nothing if it fails (no such device, or a namespace that may not be entered)."""
    command = [*_enter(netns), "ip", "-json", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S, check=False)
    if done.returncode or not done.stdout.strip():
        return []
    links: list[dict[str, Any]] = json.loads(done.stdout)
    return [link for link in links if link]
