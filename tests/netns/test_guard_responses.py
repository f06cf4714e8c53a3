"""What a guard does to an endpoint that scans: real sockets between namespaces, counted where the packets should arrive.

`a` may open port 80 at `b` and nothing else, so each other port that it tries is refused. The control of every response
is the same scan while it is ignored.
"""

from __future__ import annotations

import itertools
import select
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from hostward.datapath.kernel import KernelEnforcer, open_enforcer
from hostward.datapath.tables import Capacity
from hostward.model.endpoint import EndpointState
from hostward.model.guard import GuardKind, Response, Watch
from hostward.model.slice import HostSlice
from tests.netns.pair import Pair

pytestmark = pytest.mark.netns

CAPACITY = Capacity(endpoints=8, flows=40_000, cells=4_096, refs=16_384, prefixes=1_024, decisions=256, class_sets=8)
THRESHOLD = 20
PORT = 80
_SCANNED = range(1_000, 1_000 + 6 * THRESHOLD)
_ARRIVES_S, _SILENT_S = 30.0, 1.5
_messages = itertools.count(1)


def slice_of(pair: Pair, revision: int, response: Response, **of_a: object) -> HostSlice:
    base = pair.slice(revision)
    watched = tuple(
        Watch(response if kind is GuardKind.VERTICAL_SCAN else Response.IGNORE, THRESHOLD) for kind in GuardKind
    )
    guarded = replace(base.endpoints["acme/a"], guard=watched, **of_a)  # type: ignore[arg-type]
    return replace(base, endpoints={**base.endpoints, "acme/a": guarded})


def scan(pair: Pair) -> None:
    """One datagram to each of many ports that no rule allows."""
    with pair.socket("a", socket.SOCK_DGRAM) as prober:
        for port in _SCANNED:
            prober.sendto(b"?", (pair.address("b"), port))


class Stream:
    """An established connection from `a` to `b`, and what of it arrives at either end."""

    def __init__(self, pair: Pair, stack: ExitStack) -> None:
        listener = stack.enter_context(pair.socket("b", socket.SOCK_STREAM))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((pair.address("b"), PORT))
        listener.listen(256)
        self.listener = listener
        self.client = stack.enter_context(pair.socket("a", socket.SOCK_STREAM))
        self.client.settimeout(_ARRIVES_S)
        self.client.connect((pair.address("b"), PORT))
        listener.settimeout(_ARRIVES_S)
        self.server = stack.enter_context(listener.accept()[0])

    def _heard(self, limit_s: float) -> list[bool]:
        return [_carries(*ends, limit_s) for ends in ((self.client, self.server), (self.server, self.client))]

    def carries(self, limit_s: float = _ARRIVES_S) -> bool:
        """Whether a message of each side arrives at the other, within a time."""
        return all(self._heard(limit_s))

    def is_silent(self) -> bool:
        """Whether neither side hears the other."""
        return not any(self._heard(_SILENT_S))


def _carries(source: socket.socket, sink: socket.socket, limit_s: float) -> bool:
    message = next(_messages).to_bytes(8, "big")
    source.sendall(message)
    held, end = b"", time.monotonic() + limit_s
    while message not in held:
        if not select.select([sink], [], [], max(0.0, end - time.monotonic()))[0]:
            return False
        held += sink.recv(4_096)
    return True


def opened(pair: Pair, count: int, stack: ExitStack) -> int:
    """How many of so many connections, begun at once, `b` has answered shortly after."""
    clients = []
    for _ in range(count):
        client = stack.enter_context(pair.socket("a", socket.SOCK_STREAM))
        client.setblocking(False)
        client.connect_ex((pair.address("b"), PORT))
        clients.append(client)
    # Before the SYNs come again a second later: those would be let through a few at a time.
    time.sleep(0.5)
    _, ready, _ = select.select([], clients, [], 0)
    return sum(not client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) for client in ready)


@contextmanager
def guarded(pair: Pair, pins: Path, response: Response) -> Iterator[tuple[KernelEnforcer, Stream, ExitStack]]:
    enforcer = open_enforcer(pins, capacity=CAPACITY)
    enforcer.enforce(slice_of(pair, 1, response))
    with ExitStack() as stack:
        stream = Stream(pair, stack)
        assert stream.carries()
        yield enforcer, stream, stack


def standing(enforcer: KernelEnforcer) -> EndpointState:
    return enforcer.statuses()["acme/a"].state


@pytest.mark.parametrize("response", [Response.IGNORE, Response.ALERT])
def test_what_is_ignored_or_only_told_goes_on(pair: Pair, pins: Path, response: Response) -> None:
    """The control of all others."""
    with guarded(pair, pins, response) as (enforcer, stream, stack):
        scan(pair)
        assert stream.carries()
        assert opened(pair, 40, stack) == 40
        enforcer.drain_events(10_000)
        kinds = [(alert.kind, alert.response, alert.endpoint) for alert in enforcer.drain_alerts()]
        told = [(GuardKind.VERTICAL_SCAN, Response.ALERT, "acme/a")]
        assert kinds == (told if response is Response.ALERT else [])
        assert standing(enforcer) is EndpointState.ENFORCED


def test_a_throttled_endpoint_opens_a_few_and_keeps_what_it_has(pair: Pair, pins: Path) -> None:
    with guarded(pair, pins, Response.THROTTLE) as (enforcer, stream, stack):
        scan(pair)
        assert stream.carries()
        # At once five, and five a second.
        assert opened(pair, 40, stack) <= 12
        assert standing(enforcer) is EndpointState.THROTTLED
        denied = enforcer.counters().by_reason
        assert denied["acme/a", "throttled"] > 0
        enforcer.enforce(slice_of(pair, 2, Response.ALERT, released=2))
        assert standing(enforcer) is EndpointState.ENFORCED
        assert opened(pair, 40, stack) == 40


def test_a_quarantined_endpoint_is_silent_in_both_directions_until_it_is_released(pair: Pair, pins: Path) -> None:
    with guarded(pair, pins, Response.QUARANTINE) as (enforcer, stream, stack):
        scan(pair)
        assert stream.is_silent()
        assert opened(pair, 10, stack) == 0
        assert standing(enforcer) is EndpointState.QUARANTINED
        assert enforcer.counters().by_reason["acme/a", "quarantined"] > 0
        # What it did is nobody else's: `b` is what it was.
        assert enforcer.statuses()["acme/b"].state is EndpointState.ENFORCED
        # Not by a revision that says nothing of it, nor by one that says less.
        enforcer.enforce(slice_of(pair, 2, Response.QUARANTINE))
        enforcer.enforce(slice_of(pair, 3, Response.ALERT))
        assert stream.is_silent()
        enforcer.enforce(slice_of(pair, 4, Response.ALERT, released=4))
        assert stream.carries()
        assert standing(enforcer) is EndpointState.ENFORCED


def test_a_quarantine_outlives_the_agent_and_is_mended(pair: Pair, pins: Path) -> None:
    with guarded(pair, pins, Response.QUARANTINE) as (enforcer, stream, _):
        scan(pair)
        del enforcer
        assert stream.is_silent()
        again = open_enforcer(pins, capacity=CAPACITY)
        again.enforce(slice_of(pair, 2, Response.QUARANTINE))
        again.repair()
        assert stream.is_silent()
        assert standing(again) is EndpointState.QUARANTINED
        again.enforce(slice_of(pair, 3, Response.QUARANTINE, released=3))
        assert stream.carries()


def test_a_quarantine_by_command_holds_and_ends(pair: Pair, pins: Path) -> None:
    with guarded(pair, pins, Response.IGNORE) as (enforcer, stream, _):
        enforcer.enforce(slice_of(pair, 2, Response.IGNORE, held=True))
        assert stream.is_silent()
        assert standing(enforcer) is EndpointState.QUARANTINED
        enforcer.enforce(slice_of(pair, 3, Response.IGNORE, released=3))
        assert stream.carries()
