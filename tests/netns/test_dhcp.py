"""DHCP servers that a network names: nobody else's answer reaches an endpoint, and nobody else is asked.

Real frames from the policy's text on; what arrives is counted at the workload's own device. The negative control is the
same policy without the names, where a stranger's answer arrives.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hostward.datapath.kernel import KernelEnforcer, open_enforcer
from hostward.datapath.layout import config_of
from hostward.datapath.tables import Capacity
from hostward.model.endpoint import Endpoint, Port
from hostward.model.slice import HostSlice
from hostward.policy import Numbers, compile_policy, parse_sources
from tests.netns import frames as f
from tests.netns.hooks import on_every_hook
from tests.netns.pair import Pair
from tests.netns.wire import arriving
from tests.unit.policy.build import NOW

pytestmark = pytest.mark.netns

CAPACITY = Capacity(endpoints=8, flows=140_000, cells=4_096, refs=16_384, prefixes=1_024, decisions=256, class_sets=8)
SERVER, ROGUE = {4: "10.0.0.50", 6: "fe80::50"}, {4: "10.0.0.66", 6: "fe80::66"}
SERVER_MAC = "02:00:00:00:00:50"
EVERYBODY = {4: "255.255.255.255", 6: "ff02::1:2"}
EVERYBODY_MAC = {4: "ff:ff:ff:ff:ff:ff", 6: "33:33:00:01:00:02"}
NAMED = f"dhcp: [{SERVER[4]}, '{SERVER[6]}']"


def slice_of(pair: Pair, revision: int, names: str) -> HostSlice:
    """`a` on a host of its own; ``names`` stands in its network."""
    texts = {
        "acme.yaml": "tenant: acme\nrules: [allow own to own on tcp/80]\n",
        "platform.yaml": f"platform:\n  networks:\n    default: {{pools: [10.0.0.0/8, 'fd00::/8']{names}}}\n",
    }
    policies = parse_sources([(name, text.encode()) for name, text in texts.items()])
    own = (pair.address("a"), pair.address("a", 6))
    endpoints = [Endpoint("acme", "a", {}, pair.mac("a"), own, "h", Port(pair.device("a")))]
    return compile_policy(policies, endpoints, Numbers.empty(), NOW).slice_for("h", revision)


def message(family: int, source: str, destination: str, *, asks: bool, client: str) -> bytes:
    """A good datagram of a client or a server."""
    ports = ((68, 67) if family == 4 else (546, 547))[:: 1 if asks else -1]
    content = f.dhcp(client, operation=1 if asks else 2) if family == 4 else bytes((1 if asks else 2, 0, 0, 7))
    packet = f.ip(source, destination, f.UDP, f.udp(*ports, content))
    if family == 4:
        # Or a bridge that asks netfilter drops it.
        packet = packet[:10] + f.checksum(packet[:20]).to_bytes(2, "big") + packet[12:]
    return packet


def answers(pair: Pair, family: int) -> dict[str, bytes]:
    """What comes to `a` as from servers, by whose it is."""
    own = pair.address("a") if family == 4 else f.linked_local(pair.mac("a"))
    mapped = {"a mapped address": f"::ffff:{SERVER[4]}"} if family == 6 else {}
    ethertype = f.IPV4 if family == 4 else f.IPV6
    return {
        whose: f.ethernet(
            message(family, source, own, asks=False, client=pair.mac("a")),
            source=SERVER_MAC,
            destination=pair.mac("a"),
            ethertype=ethertype,
        )
        for whose, source in {"the server": SERVER[family], "a rogue": ROGUE[family], **mapped}.items()
    }


def questions(pair: Pair, family: int) -> dict[str, bytes]:
    """What `a` asks, by whom."""
    own = pair.address("a") if family == 4 else f.linked_local(pair.mac("a"))
    asked = {
        "the server": (SERVER[family], pair.mac("b")),
        "a rogue": (ROGUE[family], pair.mac("b")),
        "everybody": (EVERYBODY[family], EVERYBODY_MAC[family]),
        "another group": ("10.0.0.255" if family == 4 else "ff02::1", EVERYBODY_MAC[family]),
    }
    ethertype = f.IPV4 if family == 4 else f.IPV6
    return {
        whom: f.ethernet(
            message(family, own, destination, asks=True, client=pair.mac("a")),
            source=pair.mac("a"),
            destination=mac,
            ethertype=ethertype,
        )
        for whom, (destination, mac) in asked.items()
    }


def enforced(pair: Pair, pins: Path, names: str, hook: str = "") -> KernelEnforcer:
    held: KernelEnforcer = open_enforcer(pins, capacity=CAPACITY, hook=hook)
    held.enforce(slice_of(pair, 1, names))
    pair.set_up()
    # A bridge forwards once it has seen a port's carrier.
    for _ in range(20):
        if arriving(pair, {"it": questions(pair, 4)["everybody"]}, sender="a", at="b"):
            return held
    raise AssertionError("nothing is forwarded")


@on_every_hook
@pytest.mark.parametrize("family", [4, 6])
def test_only_a_named_server_answers_and_is_asked(pair: Pair, pins: Path, hook: str, family: int) -> None:
    held = enforced(pair, pins, f", {NAMED}", hook)
    before = held.counters().by_reason.get(("acme/a", "dhcp-spoof"), 0)
    assert arriving(pair, answers(pair, family), sender="network", at="a") == {"the server"}
    assert arriving(pair, questions(pair, family), sender="a", at="b") == {"the server", "everybody"}
    refused = len(answers(pair, family)) - 1 + len(questions(pair, family)) - 2
    assert held.counters().by_reason["acme/a", "dhcp-spoof"] - before == refused
    held.enforce(slice_of(pair, 2, ""))
    assert "a rogue" in arriving(pair, answers(pair, family), sender="network", at="a"), "the control: none is named"
    assert "a rogue" in arriving(pair, questions(pair, family), sender="a", at="b")
    assert not held.repair()


@pytest.mark.parametrize("family", [4, 6])
def test_a_network_that_names_none_of_a_family_has_none(pair: Pair, pins: Path, family: int) -> None:
    held = enforced(pair, pins, ", dhcp: []")
    assert arriving(pair, answers(pair, family), sender="network", at="a") == set()
    assert arriving(pair, questions(pair, family), sender="a", at="b") == {"everybody"}
    assert held.counters().by_reason["acme/a", "dhcp-spoof"] > 0


def test_names_that_were_taken_out_of_the_kernel_are_put_back(pair: Pair, pins: Path) -> None:
    held = enforced(pair, pins, f", {NAMED}")
    programmer = held.programmer
    layout = programmer.layout
    open_to_all = replace(config_of(layout, layout.slice.endpoints["acme/a"]), dhcp=None)
    programmer.tables.write_endpoint(programmer.slots["acme/a"], open_to_all)
    assert "a rogue" in arriving(pair, answers(pair, 4), sender="network", at="a")
    assert any("acme/a" in line for line in held.repair())
    assert arriving(pair, answers(pair, 4), sender="network", at="a") == {"the server"}
