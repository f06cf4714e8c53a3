"""Real sockets between two namespaces: what passes, what does not arrive, and what outlives whom.

Arrival is judged at the receiving socket. Each denial has its negative control: the same packet arrives without Hostward.
"""

from __future__ import annotations

import gc
import socket
import time
from pathlib import Path

import pytest

from hostward.datapath.kernel import KernelEnforcer, open_enforcer
from hostward.datapath.tables import Capacity
from hostward.model.endpoint import EndpointState
from tests.netns.hooks import needs_tcx, on_every_hook
from tests.netns.pair import ALLOW, DENY, Pair, inside_of, run

CAPACITY = Capacity(endpoints=8, flows=40_000, cells=4_096, refs=16_384, prefixes=1_024, decisions=256, class_sets=8)


def enforcer(pins: Path, hook: str = "") -> KernelEnforcer:
    return open_enforcer(pins, capacity=CAPACITY, hook=hook)


def arrives(pair: Pair, port: int, family: int = 4) -> bool:
    """Whether a datagram from `a` reaches `b`."""
    receiver = pair.socket("b", socket.SOCK_DGRAM, family)
    sender = pair.socket("a", socket.SOCK_DGRAM, family)
    with receiver, sender:
        receiver.bind((pair.address("b", family), port))
        receiver.settimeout(0.3)
        sender.sendto(b"knock", (pair.address("b", family), port))
        try:
            return receiver.recv(16) == b"knock"
        except TimeoutError:
            return False


def comes_back(pair: Pair, port: int, family: int = 4) -> bool:
    """Whether datagrams arrive, at last: the kernel looks at a new carrier once a second, and resolves neighbours anew."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if arrives(pair, port, family):
            return True
    return False


class Stream:
    """A TCP connection from `a` to `b`:80 that both ends keep open."""

    def __init__(self, pair: Pair) -> None:
        listener = pair.socket("b", socket.SOCK_STREAM)
        listener.bind((pair.address("b"), 80))
        listener.listen()
        self.client = pair.socket("a", socket.SOCK_STREAM)
        self.client.settimeout(10)
        self.client.connect((pair.address("b"), 80))
        self.server, _ = listener.accept()
        listener.close()
        self.server.settimeout(1.0)

    def carries(self) -> bool:
        """Whether one more message gets through."""
        self.client.send(b"x")
        try:
            return self.server.recv(1) == b"x"
        except TimeoutError:
            return False

    def close(self) -> None:
        self.client.close()
        self.server.close()


@pytest.mark.netns
@pytest.mark.parametrize("family", [4, 6])
def test_without_hostward_everything_arrives(pair: Pair, family: int) -> None:
    pair.set_up()
    assert comes_back(pair, 80, family)
    assert comes_back(pair, 81, family)


@pytest.mark.netns
@on_every_hook
@pytest.mark.parametrize("family", [4, 6])
def test_only_what_a_rule_allows_arrives(pair: Pair, pins: Path, family: int, hook: str) -> None:
    held = enforcer(pins, hook)
    statuses = held.enforce(pair.slice(1))
    assert {status.state for status in statuses.values()} == {EndpointState.ENFORCED}
    assert comes_back(pair, 80, family)
    assert not arrives(pair, 81, family)
    denied = [event for event in held.drain_events(1_000) if event.reason == "policy"]
    assert {(event.rules, event.revision, event.destination_port) for event in denied} == {
        (("acme/default-deny",), 1, 81)
    }


@pytest.mark.netns
def test_a_stream_outlives_the_agent_and_is_picked_up(pair: Pair, pins: Path) -> None:
    held = enforcer(pins)
    held.enforce(pair.slice(1))
    stream = Stream(pair)
    try:
        assert stream.carries()
        del held
        gc.collect()
        assert stream.carries()
        assert not arrives(pair, 81)
        again = enforcer(pins)
        assert again.enforce(pair.slice(2))["acme/a"].state is EndpointState.ENFORCED
        assert stream.carries()
        assert not arrives(pair, 81)
        assert again.counters().by_rule[ALLOW][0] > 0
    finally:
        stream.close()


@pytest.mark.netns
def test_a_revoked_rule_stops_a_live_stream_at_once(pair: Pair, pins: Path) -> None:
    held = enforcer(pins)
    held.enforce(pair.slice(1))
    stream = Stream(pair)
    try:
        assert stream.carries()
        held.enforce(pair.slice(2, cell=DENY))
        assert not stream.carries()
    finally:
        stream.close()


@pytest.mark.netns
def test_a_relabelled_peer_loses_its_live_stream(pair: Pair, pins: Path) -> None:
    held = enforcer(pins)
    held.enforce(pair.slice(1))
    stream = Stream(pair)
    try:
        assert stream.carries()
        held.enforce(pair.slice(2, peer_of_a=302))
        assert not stream.carries()
    finally:
        stream.close()


@pytest.mark.netns
@needs_tcx
def test_a_link_pin_removed_by_hand_closes_the_port_until_it_is_mended(pair: Pair, pins: Path) -> None:
    held = enforcer(pins, "tcx")
    held.enforce(pair.slice(1))
    assert comes_back(pair, 80)
    assert not held.repair()
    link = next((pins / "ports").glob("*@acme@a")) / "egress_link"
    link.unlink()
    assert not arrives(pair, 80)
    assert any("acme/a" in line and "pin is gone" in line for line in held.repair())
    assert comes_back(pair, 80)


@pytest.mark.netns
def test_a_changed_table_is_mended(pair: Pair, pins: Path) -> None:
    held = enforcer(pins)
    held.enforce(pair.slice(1, cell=DENY))
    assert not arrives(pair, 80)
    extent = next(iter(held.programmer.layout.rows.values()))
    # Somebody with root makes every cell of a row an allow.
    allow = next(slot for decision, slot in held.programmer.layout.decisions.items() if decision.verdict == "allow")
    for extent in held.programmer.layout.rows.values():
        held._tables.write_cells(extent.first, [allow] * extent.count)
    assert comes_back(pair, 80)
    assert any("row" in line for line in held.repair())
    assert not arrives(pair, 80)


@pytest.mark.netns
@on_every_hook
def test_a_device_moved_to_another_namespace_is_detached_and_picked_up(pair: Pair, pins: Path, hook: str) -> None:
    held = enforcer(pins, hook)
    held.enforce(pair.slice(1))
    assert comes_back(pair, 80)
    device, elsewhere = pair.device("a"), f"hwx{pair.tag}"
    run("ip", "netns", "add", elsewhere)
    try:
        run("ip", "link", "set", device, "netns", elsewhere)
        assert not arrives(pair, 80)
        held.repair()
        assert held.statuses()["acme/a"].state is EndpointState.DETACHED
        assert held.statuses()["acme/b"].state is EndpointState.ENFORCED
        run(*inside_of(elsewhere), "ip", "link", "set", device, "netns", "1")
        run("ip", "link", "set", device, "master", pair.bridge)
        held.repair()
        assert comes_back(pair, 80)
        assert not arrives(pair, 81)
    finally:
        run("ip", "netns", "del", elsewhere)


@pytest.mark.netns
@pytest.mark.parametrize("protected", [False, pytest.param(True, marks=needs_tcx)])
def test_a_tcx_link_goes_with_its_device_into_another_namespace(pair: Pair, pins: Path, protected: bool) -> None:
    """Without Hostward a packet reaches the device in its new namespace; with it, the program still denies it there."""
    device, elsewhere = pair.device("a"), f"hwx{pair.tag}"
    if protected:
        enforcer(pins, "tcx").enforce(pair.slice(1))
    else:
        pair.set_up()
    run("ip", "netns", "add", elsewhere)
    try:
        run("ip", "link", "set", device, "netns", elsewhere)
        run(*inside_of(elsewhere), "ip", "addr", "add", "10.0.0.9/24", "dev", device)
        run(*inside_of(elsewhere), "ip", "link", "set", device, "up")
        sender = pair.socket("a", socket.SOCK_DGRAM)
        mac = pair.hardware(elsewhere, device)
        run(*inside_of(pair.namespace("a")), "ip", "neigh", "replace", "10.0.0.9", "lladdr", mac, "dev", "eth0")
        receiver = pair.socket_in(elsewhere, socket.SOCK_DGRAM)
        with sender, receiver:
            receiver.bind(("10.0.0.9", 99))
            received = 0
            deadline = time.monotonic() + 4
            while not received and time.monotonic() < deadline:
                sender.sendto(b"knock", ("10.0.0.9", 99))
                try:
                    received = len(receiver.recv(16))
                except TimeoutError:
                    continue
            assert bool(received) is not protected
    finally:
        run("ip", "netns", "del", elsewhere)


@pytest.mark.netns
def test_an_endpoint_has_no_network_before_its_first_revision(pair: Pair, pins: Path) -> None:
    held = enforcer(pins)
    held.enforce(pair.slice(1, names="b"))
    run("ip", "link", "set", pair.device("a"), "up")
    # `a` is not Hostward's yet and its address is in a pool: to `b` it is an unknown peer.
    assert not arrives(pair, 80)
    held.enforce(pair.slice(2))
    assert comes_back(pair, 80)


@pytest.mark.netns
def test_a_removed_endpoint_stays_closed(pair: Pair, pins: Path) -> None:
    held = enforcer(pins)
    held.enforce(pair.slice(1))
    assert comes_back(pair, 80)
    held.enforce(pair.slice(2, names="b"))
    assert not arrives(pair, 80)
    assert "acme/a" not in held.statuses()
