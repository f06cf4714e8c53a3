"""TCP connections whose beginning the datapath did not see: denied, or picked up where the host is set to."""

from __future__ import annotations

from pathlib import Path

import pytest

from hostward.datapath.kernel import KernelEnforcer, open_enforcer
from hostward.datapath.tables import Capacity, TcpPickup
from tests.netns import frames as f
from tests.netns.frames import ACK, FIN, PSH, RST, SYN, TCP
from tests.netns.pair import DENY, Pair
from tests.netns.probe import PASSED, Probe, denied
from tests.netns.test_life import Stream, arrives, comes_back
from tests.netns.test_tcp_sequences import state_of

pytestmark = pytest.mark.netns

CAPACITY = Capacity(endpoints=8, flows=40_000, cells=4_096, refs=16_384, prefixes=1_024, decisions=256, class_sets=8)
OUT, BACK = 1_000_000, 3_000_000_000  # what the endpoint and its peer have sent so far
FAR = 1 << 30


@pytest.fixture(params=[4, 6])
def family(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def probe(pins: Path) -> Probe:
    return Probe(pins, tcp_pickup=TcpPickup.PICK_UP)


def out(probe: Probe, family: int, flags: int = ACK, *, port: int = 80, seq: int = OUT, ack: int = BACK) -> object:
    return probe.out(family, TCP, f.tcp(4000, port, flags, b"data", seq=seq, ack=ack, window=500))


def back(probe: Probe, family: int, flags: int = ACK, *, port: int = 80, seq: int = BACK, ack: int = OUT) -> object:
    return probe.back(family, TCP, f.tcp(port, 4000, flags, b"data", seq=seq, ack=ack, window=500))


@pytest.mark.parametrize("before", ["attached", "its flow was lost"])
@pytest.mark.parametrize("mode", TcpPickup)
def test_a_live_connection_goes_on_only_where_it_is_picked_up(
    pair: Pair, pins: Path, mode: TcpPickup, before: str
) -> None:
    def enforced() -> KernelEnforcer:
        enforcer: KernelEnforcer = open_enforcer(pins, capacity=CAPACITY, tcp_pickup=mode)
        enforcer.enforce(pair.slice(1))
        return enforcer

    if before == "attached":
        pair.set_up()
        assert comes_back(pair, 80)
        stream = Stream(pair)
        enforcer = enforced()
    else:
        enforcer = enforced()
        stream = Stream(pair)
        forget_flows(enforcer)
    try:
        assert stream.carries() is (mode is TcpPickup.PICK_UP)
        assert not arrives(pair, 81)
        if mode is TcpPickup.PICK_UP:
            assert {flow.state for flow in enforcer.flows("acme/a") if flow.protocol == TCP} == {"established"}
            enforcer.enforce(pair.slice(2, cell=DENY))
            assert not stream.carries(), "revoked like any other"
        else:
            counted = enforcer.counters().by_reason
            assert sum(packets for (_, reason), packets in counted.items() if reason == "no-flow") > 0
    finally:
        stream.close()


def forget_flows(enforcer: KernelEnforcer) -> None:
    tables, layout = enforcer.programmer._tables, enforcer.programmer.layout
    for slot in layout.slots.values():
        tables.clear_slot(slot)


@pytest.mark.parametrize("flags", [SYN | ACK, FIN | ACK, RST, RST | ACK])
def test_nothing_that_begins_or_ends_a_connection_picks_one_up(probe: Probe, family: int, flags: int) -> None:
    assert out(probe, family, flags) == denied("no-flow")
    assert state_of(probe, family, (4000, 80)) == "none"


def test_what_policy_denies_is_not_picked_up(probe: Probe, family: int) -> None:
    assert out(probe, family, port=81) == denied("policy")
    assert back(probe, family, port=81) == denied("policy")


@pytest.mark.parametrize("first", ["the opener", "the other side"])
def test_windows_are_enforced_once_both_directions_were_heard(probe: Probe, family: int, first: str) -> None:
    turns = (out, back) if first == "the opener" else (back, out)
    assert turns[0](probe, family) == PASSED
    assert state_of(probe, family, (4000, 80)) == "answered"
    assert turns[1](probe, family) == PASSED
    assert state_of(probe, family, (4000, 80)) == "established"
    for send, seq, ack in ((out, OUT, BACK), (back, BACK, OUT)):
        assert send(probe, family, PSH | ACK, seq=seq + FAR, ack=ack) == denied("tcp-window")
        assert send(probe, family, PSH | ACK, seq=seq - FAR, ack=ack) == denied("tcp-window")
        assert send(probe, family, PSH | ACK, seq=seq, ack=ack + FAR) == denied("tcp-window")
        assert send(probe, family, RST, seq=seq + FAR) == denied("tcp-window")
        assert send(probe, family, PSH | ACK, seq=seq + 4, ack=ack + 4) == PASSED
    assert back(probe, family, FIN | ACK, seq=BACK + 8, ack=OUT + 8) == PASSED
    assert state_of(probe, family, (4000, 80)) == "closing"


def test_the_first_words_of_the_other_direction_have_to_fit_what_was_heard(probe: Probe, family: int) -> None:
    assert out(probe, family) == PASSED
    assert back(probe, family, ack=OUT + FAR) == denied("tcp-window")
    assert back(probe, family, RST, seq=BACK + 7) == PASSED
    assert state_of(probe, family, (4000, 80)) == "answered", "in window, and no RST that its receiver takes"
    assert back(probe, family) == PASSED
    assert state_of(probe, family, (4000, 80)) == "established"
