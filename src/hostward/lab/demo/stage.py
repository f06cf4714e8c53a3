"""The three-tier lab as the demo uses it: who is who, honest servers, sinks with their markers, evidence."""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from hostward.lab import frames
from hostward.lab.attacks import Attack, attacks_on, scans_on
from hostward.lab.demo.claims import require
from hostward.lab.host import network_of
from hostward.lab.inside import packet_socket
from hostward.lab.lab import Lab
from hostward.lab.network import BRIDGE, UPLINK
from hostward.lab.sink import Sink, count
from hostward.lab.topology import Kind, LabEndpoint
from hostward.lab.traffic import DENIED_LIMIT_S, EchoServers, Probe, Stream, flow_needle

WEB, WEB_2, APP, APP_VM, DB = "acme/web-1", "acme/web-2", "acme/app-1", "acme/app-2", "acme/db-1"
EVIL = ("mallory/evil-1", "mallory/evil-2", "mallory/evil-3")
CLIENT = "client"
TCP, UDP = socket.SOCK_STREAM, socket.SOCK_DGRAM
EVIDENCE_LIMIT_S = 6.0
# What a frame that was sent before gets to cross a host's bridge, if it does.
_HOP_S = 0.1

# Who may reach whom: how a sink's marker comes to it. The VM's marker ends at a listener that it runs itself.
_MARKERS = {
    WEB: (CLIENT, 80),
    WEB_2: (CLIENT, 80),
    APP: (WEB, 8080),
    APP_VM: (WEB, 8080),
    DB: (APP, 5432),
    EVIL[0]: (EVIL[1], 9000),
    EVIL[1]: (EVIL[0], 9000),
    EVIL[2]: (EVIL[0], 9000),
}
_SERVICES = {
    "web": ((80, TCP), (443, TCP), (22, TCP)),
    "app": ((8080, TCP), (8125, UDP), (9125, UDP), (22, TCP)),
    "db": ((5432, TCP), (22, TCP)),
    "evil": ((9000, TCP), (80, TCP)),
}


@dataclass(frozen=True, slots=True)
class Wire:
    """Where a marker is put on a wire instead of its sender's own, and from which MAC, so that no switch learns wrongly.

    ``pause_s`` is waited before: for a way that is shorter than the attack's.
    """

    namespace: str
    device: str
    mac: str
    pause_s: float = 0.0


class Stage:
    """One run's view of the lab."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.servers = EchoServers()
        # Sender and marker on one CPU: its backlog keeps their order (see Sink).
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

    def serve(self) -> None:
        """Start every namespace endpoint's services; the client outside offers mail, which nobody may reach."""
        for endpoint in self.lab.topology.endpoints.values():
            if endpoint.kind is Kind.NAMESPACE:
                for address in endpoint.addresses:
                    for port, kind in _SERVICES[endpoint.labels["role"]]:
                        self.servers.listen(self.namespace(endpoint.id), address, port, kind)
        for version in (4, 6):
            self.servers.listen(self.namespace(CLIENT), self.address(CLIENT, version), 25, TCP)
        self.servers.start()

    def namespace(self, name: str) -> str:
        """The path of a node's network namespace."""
        state = self.lab.state
        if name in self.lab.topology.outside:
            return f"/run/netns/{state.namespace('outside', name)}"
        return f"/run/netns/{self.lab.namespace_of(self.lab.endpoint(name))}"

    def address(self, name: str, version: int) -> str:
        """A node's address."""
        outside = self.lab.topology.outside
        return outside[name].address(version) if name in outside else self.lab.endpoint(name).address(version)

    def sink(self, name: str) -> Sink:
        """A sink where packets for a node end: on its own interface, or for a machine where its tap lets them out."""
        if name not in self.lab.topology.outside:
            endpoint = self.lab.endpoint(name)
            if endpoint.kind is Kind.VM:
                return Sink(network_of(self.lab.state.holders[endpoint.host]), endpoint.device, outgoing=True)
        return Sink(self.namespace(name), "eth0", outgoing=False)

    def outside(self) -> Wire:
        """The client's wire: for markers whose sender has no network."""
        return Wire(self.namespace(CLIENT), "eth0", self.mac(CLIENT))

    def within(self, host: str) -> Wire:
        """A host's own bridge: for markers to a host that has no network."""
        return Wire(network_of(self.lab.state.holders[host]), BRIDGE, self.mac(CLIENT), pause_s=_HOP_S)

    def marker(self, name: str, wire: Wire | None = None) -> Callable[[], bytes]:
        """How to send a node the marker that must pass: an allowed peer's SYN, made by hand.

        It needs no ARP and no answer, both of which an undefended network would already have lost to the attacker.
        """
        sender, port = _MARKERS[name]
        origin = wire or Wire(self.namespace(sender), "eth0", self.mac(sender))
        source, target = self.address(sender, 4), self.address(name, 4)

        def mark() -> bytes:
            source_port = 20_000 + secrets.randbelow(10_000)
            segment = frames.ip(source, target, frames.TCP, frames.tcp(source, target, (source_port, port)))
            frame = frames.ethernet(origin.mac, self.mac(name), frames.ETHERTYPE_IPV4, segment)
            time.sleep(origin.pause_s)
            with packet_socket(origin.namespace, origin.device) as put:
                put.send(frame)
            return flow_needle(source, source_port, target, port)

        return mark

    def mac(self, name: str) -> str:
        """A node's MAC."""
        outside = self.lab.topology.outside
        return outside[name].mac if name in outside else self.lab.endpoint(name).mac

    def probe(self, source: str, destination: str, port: int, kind: int, version: int) -> Probe:
        """A probe between two nodes."""
        return Probe(
            self.namespace(source), self.address(source, version), self.address(destination, version), port, kind
        )

    def stream(self, source: str, destination: str, port: int, version: int = 4) -> Stream:
        """A stream between two nodes."""
        return Stream(self.namespace(source), self.address(source, version), self.address(destination, version), port)

    def denied(self, source: str, destination: str, port: int, kind: int, version: int) -> None:
        """Require that a probe gets no answer and that nothing of it arrives."""
        with self.sink(destination) as sink:
            probe = self.probe(source, destination, port, kind, version)
            answered = probe.reach(DENIED_LIMIT_S)
            arrived = count(sink.collect(self.marker(destination)), probe.needle)
        require(not answered and not arrived, f"{arrived} packets from {source} arrived at {destination}")

    def attack(self, attacker: str, victim: str, borrowed: str, wire: Wire | None = None) -> dict[str, tuple[int, int]]:
        """Everything but scans that one endpoint tries against another: by attack, (frames sent, frames at the victim)."""
        nonce = secrets.token_bytes(8)
        sender = self.lab.endpoint(attacker)
        attacks = attacks_on(sender, self.lab.endpoint(victim), self.lab.endpoint(borrowed), nonce)
        return self._judge(sender, victim, attacks, nonce, wire)

    def scan(self, attacker: str, victim: str) -> dict[str, tuple[int, int]]:
        """Port scans, told as ``attack`` tells."""
        nonce = secrets.token_bytes(8)
        sender = self.lab.endpoint(attacker)
        return self._judge(sender, victim, scans_on(sender, self.lab.endpoint(victim), nonce), nonce)

    def _judge(
        self, sender: LabEndpoint, victim: str, attacks: list[Attack], nonce: bytes, wire: Wire | None = None
    ) -> dict[str, tuple[int, int]]:
        result: dict[str, tuple[int, int]] = {}
        for attack in attacks:
            with self.sink(victim) as sink:
                self.send(sender, attack)
                result[attack.name] = len(attack.frames), count(sink.collect(self.marker(victim, wire)), nonce)
        return result

    def leaves(self, source: str, destination: str, port: int) -> bool:
        """Whether an allowed SYN of an endpoint gets as far as its host's uplink, which is before any gate."""
        addresses = self.address(source, 4), self.address(destination, 4)
        source_port, nonce = 20_000 + secrets.randbelow(10_000), secrets.token_bytes(16)
        segment = frames.ip(*addresses, frames.TCP, frames.tcp(*addresses, (source_port, port)))
        host = self.within(self.lab.endpoint(source).host)

        def mark() -> bytes:
            time.sleep(host.pause_s)
            with packet_socket(host.namespace, host.device) as wire:
                wire.send(frames.ethernet(host.mac, self.mac(destination), frames.ETHERTYPE_EXPERIMENTAL, nonce))
            return nonce

        with Sink(host.namespace, UPLINK, outgoing=True) as sink:
            with packet_socket(self.namespace(source), "eth0") as wire:
                wire.send(frames.ethernet(self.mac(source), self.mac(destination), frames.ETHERTYPE_IPV4, segment))
            return count(sink.collect(mark), flow_needle(addresses[0], source_port, addresses[1], port)) > 0

    def send(self, attacker: LabEndpoint, attack: Attack) -> None:
        """Put an attack's frames on the attacker's wire."""
        with packet_socket(self.namespace(attacker.id), "eth0") as wire:
            for frame in attack.frames:
                wire.send(frame)

    def evidence(
        self, since: datetime, wanted: Callable[[dict[str, Any]], bool], *, reasons: frozenset[str] = frozenset()
    ) -> list[dict[str, Any]]:
        """Denied flows since a moment, as `hostward observe` shows them: at least one, and one for each of ``reasons``."""
        deadline_s = time.monotonic() + EVIDENCE_LIMIT_S
        while True:
            flows = self.lab.operator.flows(since=since.isoformat())
            found = [flow for flow in flows if flow["verdict"] in ("deny", "invalid") and wanted(flow)]
            missing = sorted(reasons - {str(flow["reason"]) for flow in found}) or ([] if found else ["any"])
            if not missing:
                return found
            require(time.monotonic() < deadline_s, f"`hostward observe` tells of no denial for {', '.join(missing)}")
            time.sleep(0.05)

    def close(self) -> None:
        """Stop the servers."""
        self.servers.close()


def now() -> datetime:
    """This moment, for ``evidence``."""
    return datetime.now(UTC)


def told(flows: list[dict[str, Any]]) -> str:
    """Denials in short: how many packets, by which rule, in which revision, why."""
    lines: Counter[tuple[str, str, int]] = Counter()
    for flow in flows:
        lines[str(flow["reason"]), str(flow["rule"]), int(flow["revision"])] += int(flow["packets"])
    return "\n".join(
        f"{packets} packets: {reason} by {rule}, revision {revision}"
        for (reason, rule, revision), packets in lines.most_common()
    )
