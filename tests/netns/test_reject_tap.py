"""`reject` through a tap, as a virtual machine has one: the frames of the test are the guest's, and what it reads is what
the guest is sent.
"""

from __future__ import annotations

import fcntl
import os
import select
import struct
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hostward.datapath.kernel import KernelEnforcer, open_enforcer
from hostward.model.endpoint import EndpointState, Port
from tests.netns import frames as f
from tests.netns.hooks import on_every_hook
from tests.netns.pair import DENY, Pair, run
from tests.netns.test_reject import CAPACITY, FAMILIES, REJECT, SIDES, is_answer, sides, slice_of
from tests.netns.wire import framed

pytestmark = pytest.mark.netns

_TUNSETIFF, _TAP, _NO_PI = 0x400454CA, 0x0002, 0x1000  # linux/if_tun.h


class Tap:
    """A tap in the place of `a`'s veth, and the guest's end of it."""

    def __init__(self, pair: Pair) -> None:
        self.name = f"hwt{pair.tag}"
        self.guest = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(self.guest, _TUNSETIFF, struct.pack("16sH22x", self.name.encode(), _TAP | _NO_PI))
        Path(f"/proc/sys/net/ipv6/conf/{self.name}/disable_ipv6").write_text("1")
        run("ip", "link", "set", self.name, "master", pair.bridge)

    def answers(self, frame: bytes, seconds: float) -> list[bytes]:
        """What comes back of resets and ICMP errors, at most one, while a frame is sent again and again."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            os.write(self.guest, frame)
            while select.select([self.guest], [], [], 0.1)[0]:
                got = os.read(self.guest, 65_536)
                if is_answer(got):
                    return [got]
        return []

    def drain(self) -> None:
        while select.select([self.guest], [], [], 0.2)[0]:
            os.read(self.guest, 65_536)


@pytest.fixture
def tap(pair: Pair) -> Iterator[Tap]:
    made = Tap(pair)
    try:
        yield made
    finally:
        os.close(made.guest)  # and the device goes with it


def enforce(held: KernelEnforcer, pair: Pair, tap: Tap, revision: int, **decisions: int) -> None:
    desired = slice_of(pair, revision, **decisions)
    endpoints = dict(desired.endpoints)
    endpoints["acme/a"] = replace(endpoints["acme/a"], port=Port(tap.name))
    statuses = held.enforce(replace(desired, endpoints=endpoints))
    assert {status.state for status in statuses.values()} == {EndpointState.ENFORCED}, statuses


@on_every_hook
@SIDES
@FAMILIES
@pytest.mark.parametrize("protocol", [f.TCP, f.UDP])
def test_a_guest_hears_that_it_is_rejected(
    pair: Pair, tap: Tap, pins: Path, hook: str, side: str, family: int, protocol: int
) -> None:
    content = f.tcp(4_000, 80, f.SYN) if protocol == f.TCP else f.udp(4_000, 80, bytes(64))
    packet = f.ip(pair.address("a", family), pair.address("b", family), protocol, content)
    asked = framed(pair, "a", "b", packet)
    held = open_enforcer(pins, capacity=CAPACITY, hook=hook)
    enforce(held, pair, tap, 1, **sides(side, REJECT))
    (answer,) = tap.answers(asked, 20)
    assert answer[:6] == asked[6:12]
    first, size = (26, 4) if family == 4 else (22, 16)
    assert answer[first : first + size] == asked[first + size : first + 2 * size], "as from whom it asked"
    enforce(held, pair, tap, 2, **sides(side, DENY))
    tap.drain()
    assert tap.answers(asked, 1) == [], "the control: the same denial without `reject`"
