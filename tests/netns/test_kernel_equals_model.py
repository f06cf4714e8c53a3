"""The loaded programs against the model of the tables: the same slices, the same packets, the same verdicts and reasons.

The property tests of the programmer believe the model; this is why they may.
"""

from __future__ import annotations

from itertools import cycle
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hostward.datapath.kernel import KernelEnforcer, open_enforcer
from hostward.datapath.memory import MemoryTables
from hostward.datapath.programmer import Programmer
from hostward.model.slice import HostSlice
from tests.netns import frames as f
from tests.property.slices import CAPACITY, LOCALS, PORTS, REMOTES, slices

pytestmark = pytest.mark.netns

_PASSING = {"allow", "would-deny"}
_ROUTER_MAC = "02:00:00:00:00:ee"
# Each question has a source port of its own: no earlier one's flow answers it.
_SOURCE_PORTS = cycle(range(1_024, 65_536))


def model_of(value: HostSlice) -> tuple[MemoryTables, Programmer]:
    tables = MemoryTables(CAPACITY)
    programmer = Programmer(tables, {})
    for name, endpoint in value.endpoints.items():
        programmer.claim_slot(name)
        programmer.configure(endpoint)
    programmer.program(value)
    return tables, programmer


def opening(protocol: int, source: int, destination: int) -> bytes:
    """The header of a packet that opens a flow."""
    if protocol == f.TCP:
        return f.tcp(source, destination, f.SYN)
    return (f.udp if protocol == f.UDP else f.sctp)(source, destination)


def ask_kernel(
    enforcer: KernelEnforcer, value: HostSlice, name: str, direction: str, packet: bytes
) -> tuple[bool, str]:
    """Whether a packet passes, and the reason that was counted."""
    own = value.endpoints[name].mac
    ends = (own, _ROUTER_MAC) if direction == "egress" else (_ROUTER_MAC, own)
    frame = f.ethernet(packet, source=ends[0], destination=ends[1], ethertype=f.IPV4)
    before = enforcer.counters().by_reason
    passed, _ = enforcer.port_of(name).run(direction, frame, 1)
    after = enforcer.counters().by_reason
    reasons = [reason for (endpoint, reason), packets in after.items() if packets > before.get((endpoint, reason), 0)]
    assert len(reasons) <= 1
    return passed, reasons[0] if reasons else ""


@pytest.fixture
def enforcer(pins: Path) -> KernelEnforcer:
    return open_enforcer(pins, capacity=CAPACITY)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), value=slices(1))
def test_the_kernel_and_the_model_give_the_same_verdicts(
    enforcer: KernelEnforcer, data: st.DataObject, value: HostSlice
) -> None:
    # Slices follow each other in one kernel: whatever the one before left behind is part of the trial.
    enforcer.enforce(value)
    tables, programmer = model_of(value)
    questions = st.tuples(
        st.sampled_from(("egress", "ingress")),
        st.sampled_from(REMOTES),
        st.sampled_from(PORTS),
        st.sampled_from((f.TCP, f.UDP, f.SCTP)),
    )
    for name in value.endpoints:
        for direction, remote, port, protocol in data.draw(st.lists(questions, max_size=12)):
            local = LOCALS[name]
            expected = tables.decide(programmer.slots[name], direction, local, remote, protocol, port)
            header = opening(protocol, next(_SOURCE_PORTS), port)
            ends = (local, remote) if direction == "egress" else (remote, local)
            given_answer = ask_kernel(enforcer, value, name, direction, f.ipv4(*ends, protocol, header))
            assert given_answer == (expected.verdict in _PASSING, expected.reason), (name, direction, remote, port)
