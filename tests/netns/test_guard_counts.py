"""What a guard recognises, exactly: frames into the loaded programs of one endpoint, without devices.

Packets and connections are counted one by one: silent at the threshold, heard with the next. Distinct addresses and ports
are counted as marks that may fall together (never apart), for which thresholds allow: some below it is silence for
certain, and a dozen beyond it are heard but for one case in many millions.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from hostward.datapath.guards import GuardState, count_of, marks_of
from hostward.datapath.kernel import KernelEnforcer, open_enforcer
from hostward.model.endpoint import EndpointState
from hostward.model.guard import Guard, GuardEvent, GuardKind, Response, Watch
from tests.netns import frames as f
from tests.netns import probe as p

pytestmark = pytest.mark.netns

CAPACITY = replace(p.CAPACITY, flows=4_096)
THRESHOLD = 40
BELOW, MARGIN = THRESHOLD - 4, 12
GRACE_LIMIT_S = 30


def guard(kind: GuardKind, response: Response = Response.ALERT, above: int = THRESHOLD) -> Guard:
    """One kind is watched, the others are ignored."""
    return tuple(Watch(response if each is kind else Response.IGNORE, above) for each in GuardKind)


class Guarded:
    """The endpoint `acme/a` with a guard, and everything else in its pool allowed at port 80."""

    def __init__(self, pins: Path, watched: Guard, *, quota: int = 2_048) -> None:
        self.enforcer: KernelEnforcer = open_enforcer(pins, capacity=CAPACITY)
        self.watched, self.quota = watched, quota
        self.enforcer.enforce(self.slice(1))

    def slice(self, revision: int, **changes: object):  # type: ignore[no-untyped-def]
        base = p.slice_of(revision, quota=self.quota)
        endpoint = replace(base.endpoints[p.ENDPOINT], guard=self.watched, **changes)  # type: ignore[arg-type]
        addresses = {**base.addresses, (0, "10.1.0.0/16"): 301, (0, "fd00:1::/32"): 301}
        return replace(base, endpoints={p.ENDPOINT: endpoint}, addresses=addresses)

    def out(self, remote: str, payload: bytes, protocol: int = f.TCP, **changes: object) -> bool:
        own = p.OWN6 if ":" in remote else p.OWN
        frame = p.outward(f.ip(own, remote, protocol, payload), **changes)
        return self.enforcer.port_of(p.ENDPOINT).run("egress", frame, 1)[0]

    def back(self, remote: str, payload: bytes, protocol: int = f.TCP) -> bool:
        own = p.OWN6 if ":" in remote else p.OWN
        return self.enforcer.port_of(p.ENDPOINT).run("ingress", p.inward(f.ip(remote, own, protocol, payload)), 1)[0]

    def alerts(self) -> list[GuardEvent]:
        self.enforcer.drain_events(100_000)
        return list(self.enforcer.drain_alerts())

    def alerts_after_grace(self) -> list[GuardEvent]:
        """Flows that nobody answers are judged some seconds later, by the agent if by nobody else."""
        deadline = time.monotonic() + GRACE_LIMIT_S
        while time.monotonic() < deadline:
            if found := self.alerts():
                return found
            time.sleep(0.1)
        return []

    def judged(self) -> list[GuardEvent]:
        """The same, where nothing is expected: until a flow that was opened later was judged, by its own alert."""
        time.sleep(3)
        return self.alerts()

    @property
    def state(self) -> GuardState:
        return GuardState.read(self.enforcer._core, self.enforcer.port_of(p.ENDPOINT).slot)

    @property
    def standing(self) -> tuple[EndpointState, str]:
        return self.state.standing


def syn(port: int = 80, source: int = 40_000) -> bytes:
    return f.tcp(source, port, f.SYN)


def address(number: int, family: int = 4) -> str:
    return f"10.1.{number >> 8}.{number & 255}" if family == 4 else f"fd00:1::{number:x}"


@pytest.mark.parametrize("family", [4, 6])
def test_a_horizontal_scan_that_is_refused_is_recognised_beyond_the_threshold(pins: Path, family: int) -> None:
    held = Guarded(pins, guard(GuardKind.HORIZONTAL_SCAN))
    for number in range(BELOW):
        for _ in range(3):
            assert not held.out(address(number, family), syn(81))
    assert held.alerts() == []
    for number in range(BELOW, THRESHOLD + MARGIN):
        held.out(address(number, family), syn(81))
    (alert,) = held.alerts()
    assert (alert.kind, alert.response, alert.endpoint) == (GuardKind.HORIZONTAL_SCAN, Response.ALERT, p.ENDPOINT)
    assert BELOW < alert.count <= THRESHOLD + MARGIN
    assert (alert.destination_port, alert.protocol) == (81, f.TCP)
    # Once a window.
    for number in range(200):
        held.out(address(number, family), syn(81))
    assert held.alerts() == []
    assert held.state.recognised[GuardKind.HORIZONTAL_SCAN] == 1


def test_a_vertical_scan_is_recognised_at_its_target_whatever_comes_between(pins: Path) -> None:
    held = Guarded(pins, guard(GuardKind.VERTICAL_SCAN))
    for port in range(1_000, 1_000 + BELOW):
        held.out(address(0), syn(port))
        held.out(address(port), syn(port))
    assert held.alerts() == []
    # The target found its place at the latest after some dozen ports; then each port counts.
    for port in range(2_000, 2_000 + 3 * THRESHOLD):
        held.out(address(0), syn(port))
        held.out(address(port), syn(port))
    (alert,) = held.alerts()
    assert (alert.kind, alert.destination) == (GuardKind.VERTICAL_SCAN, address(0))


def test_many_ports_of_many_peers_are_no_vertical_scan(pins: Path) -> None:
    held = Guarded(pins, guard(GuardKind.VERTICAL_SCAN))
    for number in range(1_000):
        held.out(address(number), syn(1_000 + number))
    assert held.alerts() == []


def test_spoofed_packets_are_counted_one_by_one(pins: Path) -> None:
    held = Guarded(pins, guard(GuardKind.SPOOF))
    frame = p.outward(f.ip("10.0.0.9", p.PEER, f.UDP, f.udp(9, 80)))
    for _ in range(THRESHOLD):
        assert not held.enforcer.port_of(p.ENDPOINT).run("egress", frame, 1)[0]
    assert held.alerts() == []
    held.out(p.PEER, syn(), source="02:00:00:00:00:55")
    (alert,) = held.alerts()
    assert (alert.kind, alert.count) == (GuardKind.SPOOF, THRESHOLD + 1)


def test_what_others_forge_is_not_held_against_the_endpoint(pins: Path) -> None:
    held = Guarded(pins, guard(GuardKind.SPOOF, above=1))
    for _ in range(20):
        assert not held.back(p.PEER, f.tcp(80, 40_000, f.SYN)[:4])
        frame = p.inward(f.ip(p.PEER, p.OWN, f.UDP, f.udp(80, 9)), source=f.OWN_MAC)
        assert not held.enforcer.port_of(p.ENDPOINT).run("ingress", frame, 1)[0]
    assert held.alerts() == []


def test_a_syn_flood_is_recognised_when_nobody_has_answered(pins: Path) -> None:
    held = Guarded(pins, guard(GuardKind.SYN_FLOOD))
    for source in range(THRESHOLD):
        assert held.out(p.PEER, syn(source=40_000 + source))
    assert held.judged() == []
    assert held.out(p.PEER, syn(source=50_000))
    (alert,) = held.alerts_after_grace()
    assert (alert.kind, alert.count, alert.destination_port) == (GuardKind.SYN_FLOOD, THRESHOLD + 1, 80)


def test_a_syn_flood_beyond_the_quota_is_recognised_at_once(pins: Path) -> None:
    held = Guarded(pins, guard(GuardKind.SYN_FLOOD), quota=64)
    for source in range(1_000):
        held.out(p.PEER, syn(source=40_000 + source))
    assert [alert.kind for alert in held.alerts()] == [GuardKind.SYN_FLOOD]


def test_a_horizontal_scan_that_is_let_out_is_recognised_when_nobody_has_answered(pins: Path) -> None:
    held = Guarded(pins, guard(GuardKind.HORIZONTAL_SCAN))
    for number in range(THRESHOLD + MARGIN):
        assert held.out(address(number), f.udp(9, 80), f.UDP)
    assert held.alerts() == []
    (alert,) = held.alerts_after_grace()
    assert alert.kind is GuardKind.HORIZONTAL_SCAN


def test_ports_that_answer_with_a_reset_are_a_scan(pins: Path) -> None:
    held = Guarded(pins, guard(GuardKind.HORIZONTAL_SCAN))
    for number in range(THRESHOLD + MARGIN):
        assert held.out(address(number), f.tcp(40_000, 80, f.SYN, seq=1))
        assert held.back(address(number), f.tcp(80, 40_000, f.RST | f.ACK, seq=0, ack=2))
    assert [alert.kind for alert in held.alerts()] == [GuardKind.HORIZONTAL_SCAN]


def test_what_is_answered_is_nothing(pins: Path) -> None:
    """A crawler: many more distinct peers than any threshold, some of them dead."""
    held = Guarded(pins, tuple(Watch(Response.QUARANTINE, 20) for _ in GuardKind))
    for number in range(1_000):
        assert held.out(address(number), f.tcp(40_000, 80, f.SYN, seq=1))
        if number % 40 == 0:
            continue
        assert held.back(address(number), f.tcp(80, 40_000, f.SYN | f.ACK, seq=7, ack=2))
        assert held.out(address(number), f.tcp(40_000, 80, f.ACK, seq=2, ack=8))
    assert held.judged() == []
    assert held.standing == (EndpointState.ENFORCED, "")


def test_what_is_ignored_is_not_even_counted(pins: Path) -> None:
    held = Guarded(pins, tuple(Watch(Response.IGNORE, 1) for _ in GuardKind))
    for number in range(300):
        held.out(address(number), syn(81 + number))
    assert held.alerts() == []
    assert set(held.state.recognised.values()) == {0}


def test_an_alert_that_is_read_after_a_release_is_of_a_revision_before_it(pins: Path) -> None:
    held = Guarded(pins, guard(GuardKind.SPOOF, Response.QUARANTINE))

    def forge() -> None:
        for _ in range(THRESHOLD + 1):
            assert not held.out(p.PEER, syn(), source="02:00:00:00:00:55")
        assert held.standing[0] is EndpointState.QUARANTINED

    forge()
    held.enforcer.enforce(held.slice(5, released=5))
    assert held.standing[0] is EndpointState.ENFORCED
    assert [alert.revision for alert in held.alerts()] == [4]
    # The control: it does so again, and nobody has released it since.
    forge()
    assert [alert.revision for alert in held.alerts()] == [5]


def test_marks_and_counts_are_each_others_inverse() -> None:
    for kind in GuardKind:
        assert all(abs(count_of(kind, marks_of(kind, count)) - count) <= 1 for count in range(200))
