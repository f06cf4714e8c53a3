"""The places for datagrams: until when one is remembered, two processors at one of them, and whose a flood takes.

What a fragment's verdict is by itself stands in test_fragments.py.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from pathlib import Path

import pytest

from hostward.datapath.kernel import open_enforcer
from tests.netns import frames as f
from tests.netns import probe as p
from tests.netns.abi6 import bpftool, words
from tests.netns.flood import Flood, Sink, comes_to, opened, unread
from tests.netns.older import SOURCES, compile_object
from tests.netns.pair import Pair
from tests.netns.test_floods import (
    CAPACITY,
    FAMILIES,
    FLOODER,
    NEIGHBOUR,
    OPEN,
    SOMEBODY,
    WAYS,
    denied,
    slice_of,
    three,
)
from tests.netns.test_fragments import DIRECTIONS, ORPHAN, Piece, Sender, datagram, frame, pieces, probe

__all__ = ["probe", "three"]  # fixtures
pytestmark = pytest.mark.netns

_COARSE = 6  # CLOCK_MONOTONIC_COARSE: what the datapath's ticks advance with
_BEGUN = slice(8, 16)  # of struct hw_datagram
LIFE_S = 10


def age(pins: Path, seconds: float) -> None:
    """Makes every datagram that is remembered so much older: no clock that jiffies follow can be moved."""
    (places,) = pins.glob("maps_*/hw_datagrams")
    aged = 0
    for entry in bpftool("map", "dump", "pinned", str(places)):
        key, value = (bytearray(int(byte, 16) for byte in entry[part]) for part in ("key", "value"))
        begun = int.from_bytes(value[_BEGUN], "little")
        if begun:
            value[_BEGUN] = (begun - round(seconds * 1e9)).to_bytes(8, "little")
            bpftool("map", "update", "pinned", str(places), "key", *words(key), "value", *words(value))
            aged += 1
    assert aged


@FAMILIES
@DIRECTIONS
def test_a_datagram_is_remembered_for_ten_seconds(probe: p.Probe, pins: Path, family: int, direction: str) -> None:
    first, second, third = pieces(datagram(), 16, 40)
    sender = Sender(probe, family, direction)
    begun = time.clock_gettime(_COARSE)
    assert sender(first) == p.PASSED
    age(pins, LIFE_S - 6)
    assert sender(second) == p.PASSED
    assert time.clock_gettime(_COARSE) - begun < 5, "the machine was too slow to tell"
    age(pins, 6)
    assert sender(third) == ORPHAN
    # The name may mean another datagram from now on.
    assert sender.all([first, third]) == [p.PASSED, p.PASSED]


RACES = 400


def run_together(*works: Callable[[], object]) -> None:
    """Each on a thread of its own, from one moment on."""
    gate = threading.Barrier(len(works))

    def work(one: Callable[[], object]) -> None:
        gate.wait()
        one()

    with ThreadPoolExecutor(len(works)) as pool:
        for future in [pool.submit(work, one) for one in works]:
            future.result()


@FAMILIES
@DIRECTIONS
def test_each_fragment_passes_once_whatever_processors_send_it(probe: p.Probe, family: int, direction: str) -> None:
    """Each sends all of a datagram's fragments, in another order, many times: what passed is in the flow's count."""
    port = probe.enforcer.port_of(p.ENDPOINT)
    first, *rest = pieces(datagram(), 16, 24, 32, 40, 48)
    for name in range(1, RACES + 1):
        assert port.run(direction, frame(family, direction, f.UDP, first, name), 1)[0]
        each = [frame(family, direction, f.UDP, piece, name) for piece in rest]

        def send(order: Sequence[bytes]) -> None:
            for one in order:
                port.run(direction, one, 20)

        run_together(lambda each=each: send(each), lambda each=each: send(each[::-1]))  # type: ignore[misc]
    (flow,) = probe.enforcer.flows(p.ENDPOINT)
    assert sum(flow.packets) == RACES * (1 + len(rest))


@FAMILIES
@DIRECTIONS
def test_one_first_fragment_passes_whatever_processors_send_one(probe: p.Probe, family: int, direction: str) -> None:
    """Two of one name, of two flows: the rest of the datagram belongs to one of them, so only that one may pass."""
    port = probe.enforcer.port_of(p.ENDPOINT)
    firsts = [pieces(f.udp(source, 80, bytes(64)), 32)[0] for source in (4_000, 4_001)]
    for name in range(1, RACES + 1):
        both = [frame(family, direction, f.UDP, first, name) for first in firsts]
        run_together(*(lambda one=one: port.run(direction, one, 20) for one in both))  # type: ignore[misc]
    refused = sum(probe.enforcer.counters().by_reason.values())
    assert RACES * 2 * 20 - refused == RACES


DATAGRAMS = 20
FIRSTS = 4_000


def first_fragments(three: Pair, family: int, way: str) -> list[bytes]:
    """The beginnings of datagrams that never end, each of a name of its own, all of one flow."""
    ends, macs = (three.address("a", family), SOMEBODY[family]), (three.mac("a"), three.mac("b"))
    if way == "ingress":
        ends, macs = ends[::-1], macs[::-1]
    first = Piece(0, f.udp(4_000, OPEN, bytes(56)))
    return [fragment(family, ends, macs, first, name) for name in range(FIRSTS)]


def checked(ends: tuple[str, str], content: bytes) -> bytes:
    """A datagram with its checksum, without which no receiver takes one over IPv6."""
    packed = b"".join(ip_address(end).packed for end in ends)
    total = f.checksum(packed + struct.pack("!IBBBB", len(content), 0, 0, 0, f.UDP) + content)
    return content[:6] + total.to_bytes(2, "big") + content[8:]


def arriving(three: Pair, family: int, flood: Flood) -> int:
    """How many of the neighbour's datagrams `b` puts together, when a round of the flood comes between fragments."""
    ends, size = (three.address("c", family), three.address("b", family)), 64
    macs, over = (three.mac("c"), three.mac("b")), threading.Event()

    def pour() -> None:
        while not over.is_set():
            flood.pour()

    pouring = threading.Thread(target=pour)
    with three.socket("b", socket.SOCK_DGRAM, family) as server, opened(three, "c") as wire:
        server.bind((ends[1], OPEN))
        server.settimeout(0.3)
        found = 0
        pouring.start()
        try:
            for name in range(DATAGRAMS):
                content = checked(ends, f.udp(4_000, OPEN, bytes((name,)) * size))
                for piece in pieces(content, 24, 48):
                    wire.send(fragment(family, ends, macs, piece, name))
                    reached = flood.sent + 2 * FIRSTS
                    while flood.sent < reached:
                        time.sleep(0.001)
                with contextlib.suppress(TimeoutError):
                    found += server.recv(size + 1) == bytes((name,)) * size
        finally:
            over.set()
            pouring.join()
        return found


def fragment(family: int, ends: tuple[str, str], macs: tuple[str, str], piece: Piece, name: int) -> bytes:
    """A fragment of the datagram of that name on the wire."""
    if family == 4:
        packet = bytearray(f.ipv4(*ends, f.UDP, piece.content, fragment=piece.offset // 8 | piece.more << 13))
        packet[4:6] = name.to_bytes(2, "big")
        packet[10:12] = bytes(2)
        packet[10:12] = f.checksum(bytes(packet[:20])).to_bytes(2, "big")
    else:
        header = bytearray(f.fragment_header(f.UDP, offset=piece.offset // 8, more=piece.more))
        header[4:8] = name.to_bytes(4, "big")
        packet = bytearray(f.ipv6(*ends, f.FRAGMENT, bytes(header) + piece.content))
    ethertype = f.IPV4 if family == 4 else f.IPV6
    return f.ethernet(bytes(packet), source=macs[0], destination=macs[1], ethertype=ethertype)


@FAMILIES
@WAYS
def test_a_flood_of_first_fragments_displaces_its_senders_own_alone(
    three: Pair, pins: Path, family: int, way: str
) -> None:
    held = open_enforcer(pins, capacity=CAPACITY)
    held.enforce(slice_of(three))
    sender, at = ("a", "b") if way == "egress" else ("b", "a")
    flood = Flood(three, sender, first_fragments(three, family, way))
    sink = Sink(three, at, SOMEBODY[family], source=way == "ingress")
    ignored = unread(three, "a") + unread(three, "b")

    def met() -> int:
        dropped = unread(three, "a") + unread(three, "b") - ignored
        return sink.arrived() + denied(held, FLOODER).total() + dropped

    with flood.socket, sink.socket:
        assert arriving(three, family, flood) == DATAGRAMS
        assert denied(held, NEIGHBOUR) == Counter()
        # The same names again, within 10 s: those that are still remembered are denied.
        assert comes_to(flood.sent, met)
        assert set(denied(held, FLOODER)) <= {"fragment-overlap"}


def with_shared_places(folder: Path) -> Path:
    """The datapath without what separates endpoints: all have the first slot's places."""
    copy = folder / "bpf"
    shutil.copytree(SOURCES, copy)
    header = copy / "fragment.h"
    text, found = re.subn(r"return p->key\.slot \* HW_DATAGRAMS_PER_ENDPOINT \+ ", "return ", header.read_text())
    assert found == 1
    header.write_text(text)
    return compile_object(copy, folder)


@FAMILIES
def test_control_with_shared_places_a_neighbours_datagrams_are_lost(
    three: Pair, pins: Path, tmp_path: Path, family: int
) -> None:
    held = open_enforcer(pins, capacity=CAPACITY, object_file=with_shared_places(tmp_path))
    held.enforce(slice_of(three))
    flood = Flood(three, "a", first_fragments(three, family, "egress"))
    with flood.socket:
        assert arriving(three, family, flood) == 0
        assert denied(held, NEIGHBOUR)["fragment-orphan"] > 0
