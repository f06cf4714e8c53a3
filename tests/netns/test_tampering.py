"""Root takes hooks away by hand: what still holds, what is mended, and what the older hook cannot keep."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from hostward.model.endpoint import EndpointState
from tests.netns.hooks import on_every_hook
from tests.netns.pair import Pair, run
from tests.netns.test_life import arrives, comes_back, enforcer

pytestmark = pytest.mark.netns


@on_every_hook
def test_a_deleted_qdisc_is_mended(pair: Pair, pins: Path, hook: str) -> None:
    """With tcx the verdict does not hang on the qdisc; with clsact it goes with it, until the agent looks again."""
    held = enforcer(pins, hook)
    held.enforce(pair.slice(1))
    assert not arrives(pair, 81)
    for name in "ab":
        run("tc", "qdisc", "del", "dev", pair.device(name), "clsact")
    assert comes_back(pair, 81) if hook == "clsact" else not arrives(pair, 81)
    lines = held.repair()
    assert {line.partition(":")[0] for line in lines} == {"acme/a", "acme/b"}
    assert not arrives(pair, 81)
    assert comes_back(pair, 80)
    assert not held.repair()


@on_every_hook
def test_a_device_made_anew_under_its_old_name_is_closed_and_filtered(pair: Pair, pins: Path, hook: str) -> None:
    held = enforcer(pins, hook)
    held.enforce(pair.slice(1))
    assert comes_back(pair, 80)
    device, inside = pair.device("a"), pair.namespace("a")
    run("ip", "link", "del", device)
    assert held.statuses()["acme/a"].state is EndpointState.DETACHED
    peer = ("peer", "name", "eth0", "netns", inside, "address", pair.mac("a"))
    run("ip", "link", "add", device, "type", "veth", *peer)
    run("ip", "link", "set", device, "master", pair.bridge)
    run("ip", "-n", inside, "addr", "add", f"{pair.address('a')}/24", "dev", "eth0")
    run("ip", "-n", inside, "link", "set", "eth0", "up")
    assert held.statuses()["acme/a"].state is EndpointState.DETACHED, "another device by the same name is not its port"
    assert any(line.startswith("acme/a") for line in held.repair())
    assert held.statuses()["acme/a"].state is EndpointState.ENFORCED
    assert comes_back(pair, 80)
    assert not arrives(pair, 81)


@on_every_hook
def test_what_a_device_in_another_namespace_lets_through(pair: Pair, pins: Path, hook: str) -> None:
    """The kernel destroys qdiscs when a device moves: only a tcx link goes with it. The status tells either way."""
    held = enforcer(pins, hook)
    held.enforce(pair.slice(1))
    device, elsewhere = pair.device("a"), f"hwx{pair.tag}"
    run("ip", "netns", "add", elsewhere)
    try:
        run("ip", "link", "set", device, "netns", elsewhere)
        assert held.statuses()["acme/a"].state is EndpointState.DETACHED
        run("ip", "-n", elsewhere, "addr", "add", "10.0.0.9/24", "dev", device)
        run("ip", "-n", elsewhere, "link", "set", device, "up")
        hardware = pair.hardware(elsewhere, device)
        run("ip", "-n", pair.namespace("a"), "neigh", "replace", "10.0.0.9", "lladdr", hardware, "dev", "eth0")
        receiver = pair.socket_in(elsewhere, socket.SOCK_DGRAM)
        with pair.socket("a", socket.SOCK_DGRAM) as sender, receiver:
            receiver.bind(("10.0.0.9", 99))
            received = b""
            deadline = time.monotonic() + 4
            while not received and time.monotonic() < deadline:
                sender.sendto(b"knock", ("10.0.0.9", 99))
                try:
                    received = receiver.recv(16)
                except TimeoutError:
                    continue
            assert bool(received) is (hook == "clsact")
    finally:
        run("ip", "netns", "del", elsewhere)
