"""One endpoint, `acme/a`, whose loaded programs are run on frames: no device, no sockets, and an exact answer each time.

Its peer `b` may be opened at ports 80 (TCP, UDP, SCTP), by ping and by ESP, and may itself open port 443 and ping.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from hostward.datapath.kernel import OBJECT, KernelEnforcer, open_enforcer
from hostward.datapath.tables import Capacity, TcpPickup
from hostward.model.endpoint import Port, Quota
from hostward.model.slice import ClassSet, Decision, HostSlice, LocalEndpoint, Row
from tests.netns.frames import IPV4, IPV6, OWN_MAC, PEER_MAC, ethernet, ip

ENDPOINT = "acme/a"
OWN, OWN6 = "10.0.0.1", "fd00::1"
PEER, PEER6 = "10.0.0.2", "fd00::2"
STRANGER, STRANGER6 = "10.0.0.77", "fd00::77"  # in a pool, and nobody has it
CAPACITY = Capacity(endpoints=4, flows=1_024, cells=256, refs=2_048, prefixes=64, decisions=32, class_sets=4)
_DENY, _ALLOW, _WOULD_DENY = 1, 2, 3
_PORTS = ((0, 0), (80, 1), (81, 0), (443, 2), (444, 0), (8080, 5), (8081, 0))
_CLASSES = ClassSet(
    1, _PORTS, _PORTS, _PORTS, ((0, 0), (8, 3), (9, 0)), ((0, 0), (128, 3), (129, 0)), ((0, 0), (50, 4), (51, 0))
)


def slice_of(revision: int, *, quota: int = 64, egress_allowed: bool = True) -> HostSlice:
    """See the module's docstring; port 8080 would be denied."""
    opened = _ALLOW if egress_allowed else _DENY
    rows = {
        1: Row(1, 1, (_DENY, opened, _DENY, opened, opened, _WOULD_DENY)),
        2: Row(2, 1, (_DENY, _DENY, _ALLOW, _ALLOW, _DENY, _WOULD_DENY)),
    }
    decisions = {
        _DENY: Decision(_DENY, "deny", ("acme/default-deny",)),
        _ALLOW: Decision(_ALLOW, "allow", ("acme/web",)),
        _WOULD_DENY: Decision(_WOULD_DENY, "would-deny", ("acme/trial",)),
    }
    addresses = {(0, "0.0.0.0/0"): 1, (0, "::/0"): 1, (0, "10.0.0.0/8"): 2, (0, "fd00::/8"): 2}
    addresses.update({(0, f"{OWN}/32"): 300, (0, f"{OWN6}/128"): 300, (0, f"{PEER}/32"): 301, (0, f"{PEER6}/128"): 301})
    endpoint = LocalEndpoint(
        ENDPOINT, "acme", 0, OWN_MAC, {OWN: 300, OWN6: 300}, Port("hw-absent"), replace(Quota(), flows=quota)
    )
    tables = {(300, "egress"): {301: 1}, (300, "ingress"): {301: 2}}
    return HostSlice(revision, {0: "default"}, {ENDPOINT: endpoint}, addresses, {1: _CLASSES}, rows, tables, decisions)


@dataclass(frozen=True)
class Outcome:
    """What became of a frame, and what was counted for it (empty: nothing)."""

    passed: bool
    reason: str = ""


PASSED = Outcome(True)


def denied(reason: str) -> Outcome:
    return Outcome(False, reason)


class Probe:
    """Frames into the programs of ``ENDPOINT``."""

    def __init__(
        self, pins: Path, *, quota: int = 64, tcp_pickup: TcpPickup = TcpPickup.STRICT, object_file: Path = OBJECT
    ) -> None:
        self.enforcer: KernelEnforcer = open_enforcer(
            pins, capacity=CAPACITY, tcp_pickup=tcp_pickup, object_file=object_file
        )
        self.enforcer.enforce(slice_of(1, quota=quota))

    def send(self, direction: str, frame: bytes) -> Outcome:
        """Run the program of a direction on a frame; exactly one reason is counted for a frame that does not pass."""
        before = self._reasons()
        passed, _ = self.enforcer.port_of(ENDPOINT).run(direction, frame, 1)
        counted = [
            reason for reason, packets in self._reasons().items() for _ in range(packets - before.get(reason, 0))
        ]
        assert len(counted) <= 1, counted
        assert passed or counted, "a packet was dropped without a reason"
        return Outcome(passed, counted[0] if counted else "")

    def _reasons(self) -> dict[str, int]:
        return {reason: count for (_, reason), count in self.enforcer.counters().by_reason.items() if count}

    def out(self, family: int, protocol: int, payload: bytes = b"") -> Outcome:
        """A well-formed packet from the endpoint to its peer."""
        return self.send("egress", outward(packet(family, "egress", protocol, payload)))

    def back(self, family: int, protocol: int, payload: bytes = b"") -> Outcome:
        """A well-formed packet from the peer to the endpoint."""
        return self.send("ingress", inward(packet(family, "ingress", protocol, payload)))


def packet(family: int, direction: str, protocol: int, payload: bytes = b"") -> bytes:
    """An IP packet between the endpoint and its peer."""
    own, peer = (OWN, PEER) if family == 4 else (OWN6, PEER6)
    return ip(own, peer, protocol, payload) if direction == "egress" else ip(peer, own, protocol, payload)


def outward(payload: bytes, **changes: object) -> bytes:
    """A frame from the endpoint to its peer around an IP packet."""
    return _frame(payload, OWN_MAC, PEER_MAC, changes)


def inward(payload: bytes, **changes: object) -> bytes:
    """A frame from the peer to the endpoint around an IP packet."""
    return _frame(payload, PEER_MAC, OWN_MAC, changes)


def _frame(payload: bytes, source: str, destination: str, changes: dict[str, object]) -> bytes:
    ethertype = IPV6 if payload[:1] and payload[0] >> 4 == 6 else IPV4
    return ethernet(payload, **{"source": source, "destination": destination, "ethertype": ethertype, **changes})  # type: ignore[arg-type]
