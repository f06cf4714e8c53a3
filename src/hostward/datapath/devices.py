"""Network devices by netlink: what can carry an endpoint, where it is, and what its workload's side says of itself."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

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
_KINDS = ("veth", "tun")


def namespace_path(netns: str) -> str:
    """The file of a network namespace named as in ``Port.netns``."""
    return netns if netns.startswith("/") else f"/run/netns/{netns}"


@contextmanager
def _netlink(netns: str) -> Iterator[IPRoute]:
    try:
        socket = IPRoute(netns=namespace_path(netns)) if netns else IPRoute()
    except OSError as error:
        raise DeviceError(
            f"the network namespace cannot be entered: {error.strerror or error}",
            subject=netns,
            hint="check the name with `ip netns list`",
        ) from error
    with socket:
        yield socket


def find_ifindex(port: Port) -> int | None:
    """The index of a port's device in its namespace, None if it is not there."""
    if not port.netns:
        # The common case, without a netlink socket.
        try:
            return int(Path(f"/sys/class/net/{port.device}/ifindex").read_text())
        except OSError:
            pass
    try:
        with _netlink(port.netns) as netlink:
            found = netlink.link_lookup(ifname=port.device)
    except (DeviceError, NetlinkError):
        return None
    return int(found[0]) if found else None


def set_up(port: Port, ifindex: int) -> None:
    """Bring a port up, once it enforces. Raises DeviceError."""
    try:
        with _netlink(port.netns) as netlink:
            netlink.link("set", index=ifindex, state="up")
    except NetlinkError as error:
        raise DeviceError(f"cannot be set up: {error}", subject=port.device) from error


def inspect(port: Port) -> DeviceFacts:
    """What a device is. Raises DeviceError, with the reason, if it can never be a port."""
    with _netlink(port.netns) as netlink:
        found = netlink.link_lookup(ifname=port.device)
        if not found:
            raise DeviceError(
                "there is no such device" + (f" in namespace {port.netns}" if port.netns else ""),
                subject=port.device,
                hint="check the name with `ip link`",
            )
        link = netlink.link("get", index=found[0])[0]
        info = link.get_attr("IFLA_LINKINFO")
        kind = str(info.get_attr("IFLA_INFO_KIND")) if info is not None else ""
        _refuse(port, kind)
        if kind != "veth":
            return DeviceFacts("tap", "", ())
        return _veth_peer(netlink, link)


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
    if kind not in _KINDS:
        raise DeviceError(
            f"it is {'a ' + kind if kind else 'no virtual port'}, and an endpoint's port is a veth or a tap",
            subject=subject,
            hint="vhost-user, DPDK and physical ports bypass the tc hooks; use a veth or a tap",
        )


def _veth_peer(netlink: IPRoute, link: object) -> DeviceFacts:
    """The workload's side: its MAC and global addresses, as far as the kernel lets them be read from here."""
    get = link.get_attr  # type: ignore[attr-defined]
    peer, namespace = get("IFLA_LINK"), get("IFLA_LINK_NETNSID")
    if not peer:
        return DeviceFacts("veth", "", ())
    where = {} if namespace is None else {"target_netnsid": namespace}
    try:
        other = netlink.link("get", index=peer, **where)[0]
        addresses = netlink.get_addr(index=peer, **where)
    except (NetlinkError, IndexError):
        return DeviceFacts("veth", "", ())
    texts = tuple(
        str(address.get_attr("IFA_ADDRESS"))
        for address in addresses
        if address["scope"] == 0 and address["index"] == peer
    )
    return DeviceFacts("veth", str(other.get_attr("IFLA_ADDRESS")), texts)
