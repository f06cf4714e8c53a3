"""Real traffic between two workloads, sampled and sent as sFlow: what collectors of others make of it, counted at a sink.

Every datagram is also read by the letter of the specifications (tests/netns/sflow_wire.py).
"""

from __future__ import annotations

import socket
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from hostward.agent.sflow import SflowSender, SflowSettings
from hostward.datapath.devices import port_statistics
from hostward.datapath.kernel import KernelEnforcer
from hostward.model.sample import SampleCounts, error_percent
from hostward.model.slice import HostSlice
from tests.netns.pair import Pair, in_namespace
from tests.netns.sflow_collectors import RCVBUFFORCE, SFLOW_PORT, Room, by_sfacctd, by_sfcapd, by_tshark, needs
from tests.netns.sflow_wire import Datagram, decode
from tests.netns.test_life import comes_back, enforcer

pytestmark = pytest.mark.netns

DROPPED_BY_ACL = 1 << 30 | 258


@pytest.fixture
def room() -> Iterator[Room]:
    made = Room(f"hwc{uuid.uuid4().hex[:6]}")
    try:
        yield made
    finally:
        made.close()


@dataclass
class Burst:
    """What `a` sent, what reached `b`'s socket, and what was sampled of `a` meanwhile."""

    sent: int
    arrived: int
    counts: SampleCounts
    datagrams: list[bytes]
    failed: int

    def decoded(self) -> list[Datagram]:
        return [decode(datagram) for datagram in self.datagrams]


class Sampling:
    """A pair of which `a` is sampled, and a sender in the collectors' room."""

    def __init__(self, pair: Pair, pins: Path, room: Room, rate: int) -> None:
        self.pair, self.room = pair, room
        self.held: KernelEnforcer = enforcer(pins)
        self._revision = 1
        self.sample(0)
        assert comes_back(pair, 80)
        self.sample(rate)
        self.sender = SflowSender(SflowSettings("127.0.0.1", SFLOW_PORT), "h1")
        # The socket is its namespace's for life, whoever uses it.
        in_namespace(room.name, self.sender.connect)

    def sample(self, rate: int) -> None:
        self._revision += 1
        made: HostSlice = self.pair.slice(self._revision)
        endpoints = {n: replace(e, sampling=rate if n == "acme/a" else 0) for n, e in made.endpoints.items()}
        self.held.enforce(replace(made, endpoints=endpoints))

    def counts(self) -> SampleCounts:
        return self.held.sample_counts()["acme/a"][2]

    def pump(self) -> None:
        """What the agent does ten times a second."""
        while taken := self.held.drain_samples(4_096):
            self.sender.send_samples(taken, self.held.programmer.slice.endpoints)

    def burst(self, count: int, port: int = 80, size: int = 100) -> Burst:
        """`a` sends datagrams to `b`, as fast as the receiver follows."""
        before = self.counts()
        receiver, sender = (self.pair.socket(name, socket.SOCK_DGRAM) for name in "ba")
        arrived = 0
        with receiver, sender:
            receiver.bind((self.pair.address("b"), port))
            receiver.setsockopt(socket.SOL_SOCKET, RCVBUFFORCE, 16 << 20)
            receiver.setblocking(False)
            sender.bind((self.pair.address("a"), 4_000))
            for number in range(count):
                sender.sendto(number.to_bytes(4, "big") + bytes(size - 4), (self.pair.address("b"), port))
                if number % 500 == 499 or number == count - 1:
                    self.pump()
                    time.sleep(0.02)
                    arrived += _read_all(receiver)
        self.pump()
        after = self.counts()
        counts = SampleCounts(after.pool - before.pool, after.taken - before.taken, after.lost - before.lost)
        return Burst(count, arrived, counts, self.room.received(), self.sender.samples_failed)


def _read_all(receiver: socket.socket) -> int:
    found = 0
    while True:
        try:
            receiver.recv(2_048)
        except BlockingIOError:
            return found
        found += 1


def test_every_packet_and_every_loss_is_told_where_each_is_taken(pair: Pair, pins: Path, room: Room) -> None:
    sampling = Sampling(pair, pins, room, 1)
    burst = sampling.burst(6_000)
    assert burst.arrived == burst.sent
    assert burst.failed == 0
    for _ in range(20):
        # Whatever else `a` says meanwhile (ARP, ND) is in the pool as well, and told as well, at the next draining.
        counts = sampling.counts()
        samples = [sample for datagram in burst.decoded() for sample in datagram.samples]
        if counts.taken == len(samples) + counts.lost:
            break
        sampling.pump()
        burst.datagrams += sampling.room.received()
    web = [s for s in samples if 2100 in s.records and s.records[2100]["remote"][1] == 80]
    assert counts.pool == counts.taken == len(samples) + counts.lost
    assert len(web) + counts.lost >= burst.sent >= len(web)
    assert [d.sequence for d in burst.decoded()] == list(range(1, len(burst.datagrams) + 1))
    assert [s.sequence for s in samples] == list(range(1, len(samples) + 1))
    assert max(map(len, burst.datagrams)) <= 1_400
    last = samples[-1].fields
    # Up to the last one that was told every packet was, or is counted as lost.
    assert (last["rate"], last["pool"]) == (1, len(samples) + last["drops"])
    assert last["drops"] <= counts.lost
    ifindex = int(Path(f"/sys/class/net/{pair.device('a')}/ifindex").read_text())
    assert {s.source for s in samples} == {(0, ifindex)}
    one = web[0]
    assert (one.fields["input"], one.fields["output"]) == (ifindex, 0)
    assert one.records[1004] == {"source": "acme/a", "destination": "acme/b"}
    assert one.records[2100]["local"] == (pair.address("a"), 4_000)
    assert one.records[1]["frame_length"] == 142


def test_dropped_packets_say_why(pair: Pair, pins: Path, room: Room) -> None:
    sampling = Sampling(pair, pins, room, 1)
    burst = sampling.burst(200, port=81)
    assert burst.arrived == 0
    samples = [sample for datagram in burst.decoded() for sample in datagram.samples]
    dropped = [sample for sample in samples if 1042 in sample.records and 2100 in sample.records]
    assert len(dropped) == 200
    assert {sample.fields["output"] for sample in dropped} == {DROPPED_BY_ACL}
    assert {sample.records[1042]["reason"] for sample in dropped} == {"hostward/policy"}


def test_collectors_of_others_read_every_sample(pair: Pair, pins: Path, room: Room, tmp_path: Path) -> None:
    needs("sfcapd", "nfdump", "sfacctd", "tshark")
    sampling = Sampling(pair, pins, room, 1)
    passing, dropped = sampling.burst(400), sampling.burst(100, port=81)
    assert (passing.arrived, dropped.arrived) == (400, 0)
    datagrams = passing.datagrams + dropped.datagrams
    ends = {(pair.address("a"), 4_000, pair.address("b"), port): n for port, n in ((80, 400), (81, 100))}
    flows = Counter(
        (f["src4_addr"], f["src_port"], f["dst4_addr"], f["dst_port"])
        for f in by_sfcapd(room, datagrams, tmp_path / "sfcapd")
        if f["proto"] == 17
    )
    assert {key: n for key, n in flows.items() if key in ends} == ends
    sums: Counter[tuple[str, int, str, int]] = Counter()
    for line in by_sfacctd(room, datagrams, tmp_path / "sfacctd"):
        if line["iface_in"]:  # sfacctd gives a frame without addresses (ARP) those of the packet before
            sums[line["ip_src"], line["port_src"], line["ip_dst"], line["port_dst"]] += line["packets"]
    assert {key: n for key, n in sums.items() if key in ends} == ends
    shown = by_tshark(
        datagrams,
        tmp_path / "tshark",
        "_ws.malformed",
        "udp.dstport",
        "sflow.flow_sample.sampling_rate",
        "sflow_5.extended_user.source_user",
    )
    assert len(shown) == len(datagrams)
    assert not any(malformed for malformed, *_ in shown)
    ports = Counter(port for _, found, *_ in shown for port in found.split(",")[1:])  # the first is the datagram's own
    assert (ports["80"], ports["81"]) == (400, 100)
    assert {rate for *_, rates, _ in shown for rate in rates.split(",")} == {"1"}
    assert {user for *_, users in shown for user in users.split(",")} >= {"acme/a"}


def test_what_collectors_scale_up_is_right_within_the_error(pair: Pair, pins: Path, room: Room, tmp_path: Path) -> None:
    needs("sfacctd")
    sampling = Sampling(pair, pins, room, 20)
    burst = sampling.burst(40_000)
    assert burst.arrived == burst.sent
    assert (burst.counts.lost, burst.failed) == (0, 0)
    lines = by_sfacctd(room, burst.datagrams, tmp_path / "sfacctd")
    found = sum(line["packets"] for line in lines if line["port_dst"] == 80)
    samples = found // 20
    # Three standard deviations, where the interval has 1.96: this is one trial, with new random numbers each time.
    assert abs(found - burst.sent) <= found * error_percent(samples) / 100 * 3 / 1.96
    frames = sum(line["bytes"] for line in lines if line["port_dst"] == 80)
    assert frames == found * 142


def test_counters_of_ports_endpoints_and_the_host(pair: Pair, pins: Path, room: Room) -> None:
    sampling = Sampling(pair, pins, room, 1_000)
    sampling.burst(1_000)
    endpoints = sampling.held.programmer.slice.endpoints
    ports = port_statistics({name: endpoint.port for name, endpoint in endpoints.items()})
    sampling.room.received()
    sampling.sender.send_counters(endpoints, sampling.held.programmer.slots, ports)
    samples = [sample for datagram in map(decode, room.received()) for sample in datagram.samples]
    by_source = {sample.source: sample.records for sample in samples}
    slot, ifindex = sampling.held.programmer.slots["acme/a"], ports["acme/a"].ifindex
    port = by_source[0, ifindex][1]
    assert port["in_packets"] >= 1_000
    assert port["in_octets"] >= 142_000
    assert port["status"] == 3
    logical = by_source[3, slot]
    assert logical[2000]["name"] == "acme/a"
    assert (logical[2104]["tx_packets"], logical[2104]["tx_bytes"]) == (port["in_packets"], port["in_octets"])
    host = by_source[2, 1]
    assert host[2000]["name"] == "h1"
    assert host[2100]["domains"] == 2
    assert host[2100]["memory"] > host[2100]["memory_free"] > 0


def test_a_collector_that_is_not_there_costs_nothing_and_is_counted(pair: Pair, pins: Path, room: Room) -> None:
    sampling = Sampling(pair, pins, room, 1)
    room.deafen()
    for _ in range(3):
        burst = sampling.burst(50)
        assert burst.arrived == 50
    assert sampling.sender.samples_failed > 0
    assert sampling.sender.samples + sampling.sender.samples_failed >= 150
