"""Whether the kernel hands over super-packets of 64 KiB or single packets changes no verdict.

Judged by what the receiving sockets get, with segmentation offload on and off. The negative control has no datapath.
"""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from hostward.datapath.kernel import open_enforcer
from hostward.datapath.tables import Capacity
from tests.netns.pair import Pair, inside_of, run

pytestmark = pytest.mark.netns

CAPACITY = Capacity(endpoints=8, flows=40_000, cells=4_096, refs=16_384, prefixes=1_024, decisions=256, class_sets=8)
OFFLOADS = ("tso", "gso", "gro", "tx-udp-segmentation")
UDP_SEGMENT = 103  # <linux/udp.h>
SEGMENTS, SEGMENT_BYTES = 20, 1_000
STREAM_BYTES = 2_000_000


def switch(pair: Pair, state: str) -> None:
    for name in "ab":
        for prefix, device in ((inside_of(pair.namespace(name)), "eth0"), ((), pair.device(name))):
            run(*prefix, "ethtool", "-K", device, *(word for offload in OFFLOADS for word in (offload, state)))


def segments_arriving(pair: Pair, port: int, family: int) -> int:
    """Of one send() that the kernel cuts into datagrams, sooner or later."""
    receiver, sender = pair.socket("b", socket.SOCK_DGRAM, family), pair.socket("a", socket.SOCK_DGRAM, family)
    with receiver, sender:
        receiver.bind((pair.address("b", family), port))
        receiver.settimeout(0.4)
        sender.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, SEGMENT_BYTES)
        sender.sendto(bytes(SEGMENTS * SEGMENT_BYTES), (pair.address("b", family), port))
        count = 0
        while True:
            try:
                count += len(receiver.recv(65_536)) == SEGMENT_BYTES
            except TimeoutError:
                return count


def bytes_arriving(pair: Pair, port: int, family: int) -> int:
    """Of one stream, as long as its receiver reads."""
    with (
        pair.socket("b", socket.SOCK_STREAM, family) as listener,
        pair.socket("a", socket.SOCK_STREAM, family) as client,
    ):
        listener.bind((pair.address("b", family), port))
        listener.listen()
        try:
            client.connect((pair.address("b", family), port))
        except TimeoutError:
            return 0
        server, _ = listener.accept()
        with server:
            server.settimeout(5)
            client.settimeout(5)
            writer = threading.Thread(target=client.sendall, args=(bytes(STREAM_BYTES),))
            writer.start()
            count = 0
            while count < STREAM_BYTES:
                count += len(server.recv(1 << 20))
            writer.join()
            return count


def outcome(pair: Pair, family: int) -> dict[str, int]:
    return {
        "allowed datagrams": segments_arriving(pair, 80, family),
        "denied datagrams": segments_arriving(pair, 81, family),
        "allowed stream": bytes_arriving(pair, 80, family),
        "denied stream": bytes_arriving(pair, 81, family),
    }


ALLOWED = {"allowed datagrams": SEGMENTS, "allowed stream": STREAM_BYTES}


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("state", ["on", "off"])
def test_verdicts_are_the_same_with_offload_and_without(pair: Pair, pins: Path, state: str, family: int) -> None:
    enforcer = open_enforcer(pins, capacity=CAPACITY)
    enforcer.enforce(pair.slice(1))
    switch(pair, state)
    assert outcome(pair, family) == {**ALLOWED, "denied datagrams": 0, "denied stream": 0}
    reasons = {reason for (_, reason), packets in enforcer.counters().by_reason.items() if packets}
    assert reasons - {"multicast"} == {"policy"}, "but for the stacks' own listener reports"


@pytest.mark.parametrize("state", ["on", "off"])
def test_without_the_datapath_everything_arrives(pair: Pair, state: str) -> None:
    """The negative control."""
    pair.set_up()
    switch(pair, state)
    assert outcome(pair, 4) == {**ALLOWED, "denied datagrams": SEGMENTS, "denied stream": STREAM_BYTES}
