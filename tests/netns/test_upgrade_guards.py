"""What a guard has done to an endpoint goes on while, and after, an older version's datapath is replaced.

What arrives is counted at sockets; the control of every silence is the same upgrade after the same scan, where the scan is
only told.
"""

from __future__ import annotations

import gc
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from hostward.datapath.kernel import KernelEnforcer, open_enforcer
from hostward.model.endpoint import EndpointState
from hostward.model.guard import GuardKind, Response
from tests.netns.older import compile_version
from tests.netns.pair import Pair
from tests.netns.test_guard_responses import CAPACITY, PORT, Stream, opened, scan, slice_of
from tests.netns.test_upgrade import UNDERSTOOD

pytestmark = pytest.mark.netns

FOR_SCAN = "for vertical-scan"


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_version(tmp_path_factory.mktemp("older"), UNDERSTOOD)


class Knocking:
    """`a` sends datagrams to an open port of `b` without end; which arrive is known when it is over."""

    def __init__(self, pair: Pair) -> None:
        self._over = threading.Event()
        self._sender, self._receiver = pair.socket("a", socket.SOCK_DGRAM), pair.socket("b", socket.SOCK_DGRAM)
        self._receiver.bind((pair.address("b"), PORT))
        self._sender.bind((pair.address("a"), 0))
        self._target = (pair.address("b"), PORT)
        self.sent = 0
        self._thread = threading.Thread(target=self._knock)
        self._thread.start()

    def _knock(self) -> None:
        while not self._over.wait(0.001):
            self._sender.sendto(b"knock", self._target)
            self.sent += 1

    def finish(self) -> int:
        """How many have arrived."""
        self._over.set()
        self._thread.join()
        self._receiver.setblocking(False)
        arrived = 0
        with self._sender, self._receiver:
            try:
                while self._receiver.recv(16):
                    arrived += 1
            except BlockingIOError:
                return arrived
        return arrived


@contextmanager
def scanned(
    pair: Pair, pins: Path, older: Path, response: Response, **of_a: object
) -> Iterator[tuple[Stream, ExitStack]]:
    """`a` has scanned under the older version, and that version's agent is gone."""
    held = open_enforcer(pins, capacity=CAPACITY, object_file=older)
    held.enforce(slice_of(pair, 1, response, **of_a))
    with ExitStack() as stack:
        stream = Stream(pair, stack)
        assert stream.carries()
        scan(pair)
        del held
        gc.collect()
        yield stream, stack


def upgraded(pair: Pair, pins: Path, response: Response, **of_a: object) -> KernelEnforcer:
    held = open_enforcer(pins, capacity=CAPACITY)
    held.enforce(slice_of(pair, 2, response, **of_a))
    assert not (pins / f"maps_{UNDERSTOOD}").exists()
    return held


def standing(held: KernelEnforcer) -> tuple[EndpointState, str]:
    status = held.statuses()["acme/a"]
    return status.state, status.reason


@pytest.mark.parametrize("released", [0, 1], ids=["never-released", "released-before"])
def test_who_was_quarantined_is_so_during_and_after_the_upgrade(
    pair: Pair, pins: Path, older: Path, released: int
) -> None:
    with scanned(pair, pins, older, Response.QUARANTINE, released=released) as (stream, _):
        assert stream.is_silent()
        knocking = Knocking(pair)
        try:
            # That it was released once, before it scanned, is nothing that an upgrade repeats.
            held = upgraded(pair, pins, Response.QUARANTINE, released=released)
        finally:
            arrived = knocking.finish()
        assert arrived == 0
        assert knocking.sent > 0
        assert stream.is_silent()
        assert standing(held) == (EndpointState.QUARANTINED, f"quarantined {FOR_SCAN}")
        assert held.readings().recognised[GuardKind.VERTICAL_SCAN.value] == 1
        assert not held.repair()
        assert stream.is_silent()
        held.enforce(slice_of(pair, 3, Response.QUARANTINE, released=3))
        assert stream.carries()
        assert standing(held) == (EndpointState.ENFORCED, "")


def test_control_who_was_only_told_of_goes_on(pair: Pair, pins: Path, older: Path) -> None:
    with scanned(pair, pins, older, Response.ALERT) as (stream, stack):
        knocking = Knocking(pair)
        try:
            held = upgraded(pair, pins, Response.ALERT)
        finally:
            arrived = knocking.finish()
        assert arrived > 0
        assert stream.carries()
        assert opened(pair, 40, stack) == 40
        assert standing(held) == (EndpointState.ENFORCED, "")


def test_who_was_throttled_is_so_after_the_upgrade(pair: Pair, pins: Path, older: Path) -> None:
    with scanned(pair, pins, older, Response.THROTTLE) as (stream, stack):
        held = upgraded(pair, pins, Response.THROTTLE)
        assert stream.carries()
        # At once five, and five a second.
        assert opened(pair, 40, stack) <= 12
        assert standing(held) == (EndpointState.THROTTLED, f"throttled {FOR_SCAN}")
        held.enforce(slice_of(pair, 3, Response.THROTTLE, released=3))
        assert opened(pair, 40, stack) == 40
        assert standing(held) == (EndpointState.ENFORCED, "")


def test_who_was_quarantined_by_command_is_so_after_the_upgrade(pair: Pair, pins: Path, older: Path) -> None:
    held = open_enforcer(pins, capacity=CAPACITY, object_file=older)
    held.enforce(slice_of(pair, 1, Response.IGNORE))
    with ExitStack() as stack:
        stream = Stream(pair, stack)
        assert stream.carries()
        held.enforce(slice_of(pair, 2, Response.IGNORE, held=True))
        assert stream.is_silent()
        del held
        gc.collect()
        held = upgraded(pair, pins, Response.IGNORE, held=True)
        assert stream.is_silent()
        assert standing(held) == (EndpointState.QUARANTINED, "quarantined by command")
        held.enforce(slice_of(pair, 3, Response.IGNORE, released=3))
        assert stream.carries()
