"""What samples say of single frames, and that what is counted of them is exact. The frames are run through the programs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hostward.datapath.layout import config_of
from hostward.model.sample import SampleCounts
from hostward.model.slice import HostSlice
from tests.netns import frames as f
from tests.netns.frames import ARP, BROADCAST, OTHER_MAC, OWN_MAC, TCP, UDP
from tests.netns.probe import ENDPOINT, OWN, PEER, Probe, inward, outward, packet, slice_of

pytestmark = pytest.mark.netns

WEB = f.udp(4000, 80, b"hello")
IN = f.udp(4000, 443, b"hello")


def sampled(revision: int, rate: int) -> HostSlice:
    made = slice_of(revision)
    return replace(made, endpoints={name: replace(e, sampling=rate) for name, e in made.endpoints.items()})


class Sampled(Probe):
    """A probe whose endpoint is sampled."""

    def __init__(self, pins: Path, rate: int) -> None:
        super().__init__(pins)
        self._revision = 1
        self.sample(rate)

    def sample(self, rate: int) -> None:
        self._revision += 1
        self.enforcer.enforce(sampled(self._revision, rate))

    def repeat(self, direction: str, frame: bytes, times: int) -> None:
        self.enforcer.port_of(ENDPOINT).run(direction, frame, times)

    def counts(self) -> SampleCounts:
        return self.enforcer.sample_counts()[ENDPOINT][2]

    def drain(self) -> int:
        drained = 0
        while taken := self.enforcer.drain_samples(4_096):
            drained += len(taken)
        return drained


@pytest.fixture
def probe(pins: Path) -> Sampled:
    return Sampled(pins, 1)


def last(probe: Sampled) -> tuple[str, str, str, str]:
    """Of the one sample that waits: direction, verdict, reason and rule."""
    (taken,) = probe.enforcer.drain_samples(10)
    told = taken.told
    return told.direction, told.verdict, told.reason, told.rules[0] if told.rules else ""


def test_a_sample_says_what_became_of_its_packet_and_by_which_rule(probe: Sampled) -> None:
    allowed = ("egress", "allow", "", "acme/web")
    cases = [
        ("opens a flow", "egress", outward(packet(4, "egress", UDP, WEB)), allowed),
        ("belongs to it", "egress", outward(packet(4, "egress", UDP, WEB)), allowed),
        ("answers it", "ingress", inward(packet(4, "ingress", UDP, f.udp(80, 4000, b"x"))), ("ingress", *allowed[1:])),
        ("in IPv6", "egress", outward(packet(6, "egress", UDP, WEB)), allowed),
        ("denied by a rule", "egress", outward(packet(4, "egress", UDP, f.udp(4000, 81))),
         ("egress", "deny", "policy", "acme/default-deny")),
        ("denied on its way in", "ingress", inward(packet(4, "ingress", UDP, f.udp(4000, 80))),
         ("ingress", "deny", "policy", "acme/default-deny")),
        ("would be denied", "egress", outward(packet(4, "egress", UDP, f.udp(4000, 8080))),
         ("egress", "would-deny", "policy", "acme/trial")),
        ("in another's name", "egress", outward(packet(4, "egress", UDP, WEB), source=OTHER_MAC),
         ("egress", "deny", "mac-spoof", "hostward/mac-spoof")),
        ("malformed", "egress", outward(f.ipv4(OWN, PEER, UDP, WEB, header_words=4)),
         ("egress", "invalid", "ip-header", "hostward/ip-header")),
        ("of no flow", "egress", outward(packet(4, "egress", TCP, f.tcp(4000, 80, f.ACK))),
         ("egress", "invalid", "no-flow", "hostward/no-flow")),
        ("checked and not ruled", "egress",
         outward(f.arp(1, OWN_MAC, OWN, "00:00:00:00:00:00", PEER), destination=BROADCAST, ethertype=ARP),
         ("egress", "allow", "", "")),
    ]  # fmt: skip
    found = []
    for what, direction, frame, _ in cases:
        probe.send(direction, frame)
        found.append((what, last(probe)))
    assert found == [(what, expected) for what, _, _, expected in cases]


def test_a_sample_has_the_packet_s_first_bytes_and_its_whole_length(probe: Sampled) -> None:
    for length in (0, 1, 86, 87, 500, 1_400):
        frame = outward(packet(4, "egress", UDP, f.udp(4000, 80, bytes(range(256)) * 6)[: 8 + length]))
        probe.send("egress", frame)
        (taken,) = probe.enforcer.drain_samples(10)
        assert taken.told.bytes == len(frame)
        assert taken.raw.header == frame[:128]
        assert (taken.told.source, taken.told.source_port) == (OWN, 4000)
        assert (taken.told.destination, taken.told.destination_port) == (PEER, 80)


def test_an_endpoint_that_is_not_sampled_counts_and_sends_nothing(pins: Path) -> None:
    probe = Sampled(pins, 0)
    probe.repeat("egress", outward(packet(4, "egress", UDP, WEB)), 1_000)
    assert probe.counts() == SampleCounts()
    assert probe.drain() == 0


def test_pool_and_losses_are_exact_where_more_is_taken_than_there_is_room_for(probe: Sampled) -> None:
    frame = outward(packet(4, "egress", UDP, WEB))
    probe.repeat("egress", frame, 30_000)
    counts = probe.counts()
    assert (counts.pool, counts.taken) == (30_000, 30_000)
    assert counts.lost > 0
    assert probe.drain() == counts.taken - counts.lost


def test_the_pool_is_exact_at_any_rate(pins: Path) -> None:
    probe = Sampled(pins, 100)
    frame = outward(packet(4, "egress", UDP, WEB))
    for times in (1, 7, 1_000, 9_999):
        before = probe.counts()
        probe.repeat("egress", frame, times)
        assert probe.counts().pool - before.pool == times
    counts = probe.counts()
    # 110 are expected, with a standard deviation of 10.4.
    assert 50 < counts.taken < 170
    assert probe.drain() == counts.taken - counts.lost


def test_a_rate_changes_at_run_time_and_touches_no_flow(pins: Path) -> None:
    probe = Sampled(pins, 0)
    frame = outward(packet(4, "egress", UDP, WEB))
    probe.send("egress", frame)
    (before,) = probe.enforcer.flows(ENDPOINT)
    probe.sample(1)
    probe.repeat("egress", frame, 10)
    assert [taken.told.rate for taken in probe.enforcer.drain_samples(100)] == [1] * 10
    probe.sample(10_000_000)
    probe.repeat("egress", frame, 10)
    assert probe.counts() == SampleCounts(20, 10, 0)
    probe.sample(0)
    probe.repeat("egress", frame, 10)
    assert probe.counts() == SampleCounts(20, 10, 0)
    (after,) = probe.enforcer.flows(ENDPOINT)
    assert (after.local, after.remote) == (before.local, before.remote)
    assert (before.packets, after.packets) == ((1, 0), (31, 0))


def test_a_rate_that_was_changed_by_hand_is_mended(probe: Sampled) -> None:
    programmer = probe.enforcer.programmer
    other = replace(config_of(programmer.layout, programmer.slice.endpoints[ENDPOINT]), sampling=7)
    programmer.tables.write_endpoint(programmer.slots[ENDPOINT], other)
    assert any("sampling" in repair for repair in probe.enforcer.repair())
    probe.repeat("egress", outward(packet(4, "egress", UDP, WEB)), 5)
    assert probe.counts().taken == 5


def test_what_was_counted_is_kept_when_its_endpoint_goes(probe: Sampled) -> None:
    probe.repeat("egress", outward(packet(4, "egress", UDP, WEB)), 25)
    probe.enforcer.enforce(replace(sampled(9, 1), endpoints={}, tables={}))
    assert probe.enforcer.readings().samples == SampleCounts(25, 25, 0)
    probe.enforcer.enforce(sampled(10, 1))
    assert probe.counts() == SampleCounts()


def test_sampling_counts_neither_more_nor_less_in_the_other_direction(pins: Path) -> None:
    probe = Sampled(pins, 1)
    probe.send("egress", outward(packet(4, "egress", TCP, f.tcp(4000, 80, f.SYN))))
    probe.send("ingress", inward(packet(4, "ingress", UDP, IN)))
    assert [taken.told.direction for taken in probe.enforcer.drain_samples(10)] == ["egress", "ingress"]
