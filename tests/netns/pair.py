"""Two workloads, `a` and `b`, each in a namespace of its own behind a veth on one bridge, and sockets inside them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from hostward.model.endpoint import Port
from hostward.model.slice import ClassSet, Decision, HostSlice, LocalEndpoint, Row

T = TypeVar("T")
A, B = 300, 301
# Every way a row can go on TCP port 80 (class 1), everything else (class 0) and ICMP echo (class 2).
DENY, ALLOW, PING = 1, 2, 3
DECISIONS = {
    DENY: Decision(DENY, "deny", ("acme/default-deny",)),
    ALLOW: Decision(ALLOW, "allow", ("acme/web",)),
    PING: Decision(PING, "allow", ("acme/ping",)),
}
CLASSES = ClassSet(
    id=1,
    tcp=((0, 0), (80, 1), (81, 0)),
    udp=((0, 0), (80, 1), (81, 0)),
    sctp=((0, 0),),
    icmp=((0, 0), (8, 2), (9, 0)),
    icmpv6=((0, 0), (128, 2), (129, 0)),
    proto=((0, 0),),
)


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=20)


def inside_of(namespace: str) -> tuple[str, ...]:
    """What goes before a command to run it in a namespace; `ip -n` would remount /, which a chroot does not let it."""
    return ("nsenter", f"--net=/run/netns/{namespace}")


class Pair:
    """`build` and `remove` are the fixture's; the rest is for tests."""

    def __init__(self, tag: str, names: str = "ab") -> None:
        self.tag = tag
        self.names = names
        self.bridge = f"hwb{tag}"

    def namespace(self, name: str) -> str:
        return f"hw{name}{self.tag}"

    def device(self, name: str) -> str:
        return f"hwv{name}{self.tag}"

    def mac(self, name: str) -> str:
        return f"02:00:00:00:00:0{self.names.index(name) + 1}"

    def address(self, name: str, family: int = 4) -> str:
        number = self.names.index(name) + 1
        return f"10.0.0.{number}" if family == 4 else f"fd00::{number}"

    def build(self) -> None:
        run("ip", "link", "add", self.bridge, "type", "bridge", "mcast_snooping", "0")
        Path(f"/proc/sys/net/ipv6/conf/{self.bridge}/disable_ipv6").write_text("1")
        run("ip", "link", "set", self.bridge, "up")
        for name in self.names:
            inside, device = self.namespace(name), self.device(name)
            run("ip", "netns", "add", inside)
            run(
                "ip",
                "link",
                "add",
                device,
                "type",
                "veth",
                "peer",
                "name",
                "eth0",
                "netns",
                inside,
                "address",
                self.mac(name),
            )
            Path(f"/proc/sys/net/ipv6/conf/{device}/disable_ipv6").write_text("1")
            run("ip", "link", "set", device, "master", self.bridge)
            for family, bits in ((4, "24"), (6, "64")):
                extra = ("nodad",) if family == 6 else ()
                run(
                    *inside_of(inside),
                    "ip",
                    "addr",
                    "add",
                    f"{self.address(name, family)}/{bits}",
                    "dev",
                    "eth0",
                    *extra,
                )
            run(*inside_of(inside), "ip", "link", "set", "lo", "up")
            run(*inside_of(inside), "ip", "link", "set", "eth0", "up")

    def remove(self) -> None:
        for name in self.names:
            subprocess.run(["ip", "netns", "del", self.namespace(name)], capture_output=True, check=False)
            subprocess.run(["ip", "link", "del", self.device(name)], capture_output=True, check=False)
        subprocess.run(["ip", "link", "del", self.bridge], capture_output=True, check=False)

    def set_up(self) -> None:
        """Bring both ports up without Hostward: the negative control."""
        for name in self.names:
            run("ip", "link", "set", self.device(name), "up")

    def hardware(self, namespace: str, device: str) -> str:
        """The MAC of a device in a named namespace."""
        shown = subprocess.run(
            [*inside_of(namespace), "ip", "-json", "link", "show", "dev", device],
            check=True,
            capture_output=True,
            text=True,
        )
        return str(json.loads(shown.stdout)[0]["address"])

    def socket_in(self, namespace: str, kind: socket.SocketKind) -> socket.socket:
        """A socket in a namespace that is no workload's."""
        made = in_namespace(namespace, lambda: socket.socket(socket.AF_INET, kind))
        made.settimeout(0.3)
        return made

    def inside(self, name: str, work: Callable[[], T]) -> T:
        """Run something in a workload's namespace, on a thread of its own."""
        return in_namespace(self.namespace(name), work)

    def socket(self, name: str, kind: socket.SocketKind, family: int = 4) -> socket.socket:
        """A socket of a workload; it stays in its namespace wherever it is used."""
        made = self.inside(name, lambda: socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6, kind))
        made.settimeout(1.0)
        return made

    def slice(self, revision: int, *, cell: int = ALLOW, names: str = "ab", peer_of_a: int = A) -> HostSlice:
        """`a` may open port 80 at `b` if ``cell`` says so, and both may ping; ``peer_of_a`` relabels `a`'s address."""
        rows = {1: Row(1, 1, (DENY, cell, PING)), 2: Row(2, 1, (DENY, DENY, PING)), 3: Row(3, 1, (DENY, DENY, DENY))}
        identities = {"a": peer_of_a, "b": B}
        addresses = {(0, "0.0.0.0/0"): 1, (0, "::/0"): 1, (0, "10.0.0.0/8"): 2, (0, "fd00::/8"): 2}
        endpoints = {}
        for name in names:
            own = {self.address(name, 4): identities[name], self.address(name, 6): identities[name]}
            addresses.update(
                {(0, f"{own_address}/{32 if '.' in own_address else 128}"): identities[name] for own_address in own}
            )
            endpoints[f"acme/{name}"] = LocalEndpoint(
                f"acme/{name}", "acme", 0, self.mac(name), own, Port(self.device(name))
            )
        tables = {
            (A, "egress"): {B: 1, A: 2},
            (A, "ingress"): {B: 2, A: 2},
            (B, "egress"): {A: 2, B: 2},
            (B, "ingress"): {A: 1, B: 2},
            (302, "egress"): {B: 3},
            (302, "ingress"): {B: 3},
        }
        wanted = {identities[name] for name in names}
        tables = {key: table for key, table in tables.items() if key[0] in wanted}
        if peer_of_a != A and (B, "ingress") in tables:
            tables[B, "ingress"] = {peer_of_a: 3, B: 2}
        return HostSlice(revision, {0: "default"}, endpoints, addresses, {1: CLASSES}, rows, tables, DECISIONS)


def in_namespace(namespace: str, work: Callable[[], T]) -> T:
    """Run something in a named namespace, on a thread of its own: a thread that has moved is never used again."""
    results: list[T | BaseException] = []

    def move_and_work() -> None:
        try:
            enter(f"/run/netns/{namespace}")
            results.append(work())
        except BaseException as error:
            results.append(error)

    thread = threading.Thread(target=move_and_work)
    thread.start()
    thread.join()
    if isinstance(results[0], BaseException):
        raise results[0]
    return results[0]


def enter(path: str) -> None:
    """Move the calling thread into a network namespace."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    fd = os.open(path, os.O_RDONLY)
    try:
        if libc.setns(fd, 0x40000000):  # CLONE_NEWNET
            raise OSError(ctypes.get_errno(), "setns", path)
    finally:
        os.close(fd)
