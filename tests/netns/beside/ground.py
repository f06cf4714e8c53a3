"""One wire through Hostward and one through nftables with conntrack, from the same sender to the same sink.

`a` is the endpoint and `b` its peer, both without a stack of their own: what answers is the test. Hostward filters `a`'s
port on the pair's bridge; the other wire is routed by a namespace whose forward chain is the policy. Whatever is sent is
followed by a marker that both let pass, so that what has not arrived before it was dropped.
"""

from __future__ import annotations

import socket
import struct
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from hostward.datapath.kernel import KernelEnforcer, open_enforcer
from hostward.datapath.tables import Capacity
from hostward.model.endpoint import Endpoint, Port
from hostward.policy import Numbers, compile_policy, parse_sources
from tests.netns import frames as f
from tests.netns.pair import Pair, inside_of, run

_EVERYTHING = 3  # ETH_P_ALL
_CAPACITY = Capacity(endpoints=4, flows=32_768, cells=1_024, refs=2_048, prefixes=256, decisions=128, class_sets=8)
_NOW = datetime(2026, 11, 28, tzinfo=UTC)
_MARKER_PORT = 7
_ROUTER_MAC = {"a": "02:00:00:00:01:01", "b": "02:00:00:00:01:02"}
# A marker arrives, or something is broken: not a time that anything is measured by.
_MARKER_TIMEOUT_S = 20
_SYSCTLS = {
    "net/ipv4/ip_forward": "1",
    "net/ipv4/conf/all/rp_filter": "0",
    "net/ipv4/conf/default/rp_filter": "0",
    "net/ipv4/conf/all/send_redirects": "0",
    "net/ipv4/conf/default/send_redirects": "0",
    "net/ipv6/conf/all/forwarding": "1",
    "net/netfilter/nf_conntrack_tcp_be_liberal": "0",
    "net/netfilter/nf_conntrack_tcp_loose": "0",
    # The frames of the tests carry none.
    "net/netfilter/nf_conntrack_checksum": "0",
}


@dataclass(frozen=True, order=True)
class Rule:
    """Who may open what: ``opener`` is `a` or `b`, ``protocol`` tcp, udp or echo."""

    opener: str
    protocol: str
    ports: tuple[int, int] = (0, 0)

    @property
    def hostward(self) -> str:
        """The rule in the policy's language."""
        other = "b" if self.opener == "a" else "a"
        if self.protocol == "echo":
            return f"allow {self.opener} to {other} on icmp/echo-request, icmpv6/echo-request"
        return f"allow {self.opener} to {other} on {self.protocol}/{self.ports[0]}-{self.ports[1]}"

    def nftables(self, family: int) -> str:
        """The same of a forward chain."""
        word, number = ("ip", "4") if family == 4 else ("ip6", "6")
        ends = f"{word} saddr ${self.opener}{number} {word} daddr ${'b' if self.opener == 'a' else 'a'}{number}"
        what = f"{self.protocol} dport {self.ports[0]}-{self.ports[1]}"
        if self.protocol == "echo":
            what = f"{'icmp' if family == 4 else 'icmpv6'} type echo-request"
        return f'ct state new iifname "r{self.opener}" {ends} {what} accept'


_MARKER_RULE = Rule("a", "udp", (_MARKER_PORT, _MARKER_PORT))


class Beside:
    """Both wires. ``build`` and ``remove`` are the fixture's."""

    def __init__(self, pair: Pair, pins: Path) -> None:
        self.pair, self._pins = pair, pins
        self.router = f"hwr{pair.tag}"
        self.enforcer: KernelEnforcer = open_enforcer(pins, capacity=_CAPACITY)
        self._sockets: dict[tuple[str, str], socket.socket] = {}
        self._marks = 0

    def build(self) -> None:
        run("ip", "netns", "add", self.router)
        for path, value in _SYSCTLS.items():
            self._sysctl(self.router, path, value)
        for name in "ab":
            inside = self.pair.namespace(name)
            mac = ("address", self.pair.mac(name))
            far = ("peer", "name", f"r{name}", "netns", self.router, "address", _ROUTER_MAC[name])
            run(*inside_of(inside), "ip", "addr", "flush", "dev", "eth0")
            run("ip", "link", "add", f"hwx{name}{self.pair.tag}", *mac, "type", "veth", *far)
            run("ip", "link", "set", f"hwx{name}{self.pair.tag}", "netns", inside, "name", "eth1")
            self._sysctl(inside, "net/ipv6/conf/all/disable_ipv6", "1")
            run(*inside_of(inside), "ip", "link", "set", "eth1", "up")
            self._route(name)
        self.pair.set_up()
        for name in "ab":
            for device in ("eth0", "eth1"):
                self._sockets[name, device] = self._open(name, device)
        self.adopt([])

    def _route(self, name: str) -> None:
        """Everything for this end leaves by its wire: the router needs to find nothing out."""
        device, router = f"r{name}", inside_of(self.router)
        run(*router, "ip", "link", "set", device, "up")
        for family in (4, 6):
            address = self.pair.address(name, family)
            run(*router, "ip", f"-{family}", "route", "add", address, "dev", device)
            hardware = ("lladdr", self.pair.mac(name), "nud", "permanent")
            run(*router, "ip", f"-{family}", "neigh", "replace", address, *hardware, "dev", device)

    @staticmethod
    def _sysctl(namespace: str, path: str, value: str) -> None:
        run(*inside_of(namespace), "sh", "-c", f"echo {value} > /proc/sys/{path}")

    def _open(self, name: str, device: str) -> socket.socket:
        def opened() -> socket.socket:
            made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_EVERYTHING))
            made.bind((device, _EVERYTHING))
            return made

        made = self.pair.inside(name, opened)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        made.settimeout(_MARKER_TIMEOUT_S)
        return made

    def remove(self) -> None:
        for opened in self._sockets.values():
            opened.close()
        subprocess.run(["ip", "netns", "del", self.router], capture_output=True, check=False)

    def adopt(self, rules: Sequence[Rule]) -> None:
        """The same policy on both wires."""
        every = (_MARKER_RULE, *rules)
        lines = "\n".join(f"  - {rule.hostward}" for rule in every)
        text = f"tenant: acme\ngroups: {{a: role=a, b: role=b}}\nrules:\n{lines}\n"
        endpoints = [
            Endpoint(
                "acme", name, {"role": name}, self.pair.mac(name),
                (self.pair.address(name), self.pair.address(name, 6)), f"h{name}", Port(self.pair.device(name)),
            )
            for name in "ab"
        ]  # fmt: skip
        policies = parse_sources([("acme.yaml", text.encode())])
        compiled = compile_policy(policies, endpoints, Numbers.empty(), _NOW)
        self.enforcer.enforce(compiled.slice_for("ha", self.enforcer.revision + 1))
        self._load_nftables(every)
        self._mark("a", "b")

    def _load_nftables(self, rules: Sequence[Rule]) -> None:
        defined = [f"define {name}{n} = {self.pair.address(name, n)}" for name in "ab" for n in (4, 6)]
        lines = [rule.nftables(family) for rule in rules for family in (4, 6)]
        chain = ["ct state invalid drop", "ct state established,related accept", *lines]
        body = "\n".join(chain)
        text = "\n".join((
            *defined, "flush ruleset", "table inet beside {", "chain forward {",
            "type filter hook forward priority 0; policy drop;", body, "}", "}", "",
        ))  # fmt: skip
        subprocess.run([*inside_of(self.router), "nft", "-f", "-"], input=text, text=True, check=True, timeout=20)

    def carry(self, sender: str, packets: Sequence[bytes]) -> tuple[list[bytes], list[bytes]]:
        """Send IP packets from one end to the other over both wires; what arrives by Hostward, and by nftables."""
        sink = "b" if sender == "a" else "a"
        for packet in packets:
            for device in ("eth0", "eth1"):
                self._sockets[sender, device].send(self._framed(sender, sink, device, packet))
        found = self._mark(sender, sink)
        return found["eth0"], found["eth1"]

    def _framed(self, sender: str, sink: str, device: str, packet: bytes) -> bytes:
        to = self.pair.mac(sink) if device == "eth0" else _ROUTER_MAC[sender]
        ethertype = f.IPV4 if packet[0] >> 4 == 4 else f.IPV6
        return f.ethernet(packet, source=self.pair.mac(sender), destination=to, ethertype=ethertype)

    def _mark(self, sender: str, sink: str) -> dict[str, list[bytes]]:
        """What arrived before a marker did."""
        self._marks += 1
        content = struct.pack("!Q", self._marks)
        ports = (_MARKER_PORT + 1, _MARKER_PORT) if sender == "a" else (_MARKER_PORT, _MARKER_PORT + 1)
        ends = self.pair.address(sender), self.pair.address(sink)
        marker = with_checksum(f.ipv4(*ends, f.UDP, f.udp(*ports, content)))
        found: dict[str, list[bytes]] = {}
        for device in ("eth0", "eth1"):
            self._sockets[sender, device].send(self._framed(sender, sink, device, marker))
            found[device] = self._until(self._sockets[sink, device], marker[20:])
        return found

    def _until(self, sink: socket.socket, marker: bytes) -> list[bytes]:
        found: list[bytes] = []
        while True:
            frame, address = sink.recvfrom(65_536)
            if address[2] == socket.PACKET_OUTGOING or frame[12:14] not in (b"\x08\x00", b"\x86\xdd"):
                continue
            if frame[34:].startswith(marker):
                return found
            found.append(frame[14:])


def with_checksum(packet: bytes) -> bytes:
    """An IPv4 header needs its checksum where it is routed."""
    if packet[0] >> 4 == 6:
        return packet
    packet = packet[:10] + b"\0\0" + packet[12:]
    return packet[:10] + struct.pack("!H", f.checksum(packet[:20])) + packet[12:]
