"""What the driver of a switch's port has that no other has: addresses, ports that share a bridge, devices that are none."""

from __future__ import annotations

import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from hostward.errors import DatapathError, UsageError
from hostward.gate.driver import FOREVER_NS
from hostward.gate.drivers import SwitchDevices, make_driver
from hostward.gate.kernel import Hook
from hostward.gate.switch_port import SwitchPort, SwitchPortDriver
from tests.netns.gate_line import MS, Line
from tests.netns.gate_settings import number
from tests.netns.pair import Pair, inside_of, run

pytestmark = pytest.mark.netns


@pytest.fixture
def trio() -> Iterator[Pair]:
    """Two hosts, `a` and `b`, and the fabric `c`, on one bridge."""
    made = Pair(uuid.uuid4().hex[:6], "abc")
    try:
        made.build()
        made.set_up()
        yield made
    finally:
        made.remove()


def port(net: Pair, name: str) -> SwitchPort:
    address = bytes.fromhex(net.mac(name).replace(":", ""))
    return SwitchPort(name, number(net.device(name)), number(net.bridge), (address,))


@contextmanager
def switch(net: Pair, names: str) -> Iterator[SwitchPortDriver]:
    made = SwitchPortDriver([port(net, name) for name in names])
    try:
        yield made
    finally:
        made.remove()


def soon(ms: int) -> int:
    return time.monotonic_ns() + ms * MS


def nothing(line: Line) -> bool:
    line.arrived()
    line.send_until(soon(30))
    return line.arrived() == []


def test_an_address_that_is_not_the_hosts_is_kept_out_of_an_open_port(trio: Pair) -> None:
    with switch(trio, "a") as gate, ExitStack() as stack:
        line = Line(trio, stack, ("a", "c"))
        gate.open_until("a", soon(60_000))
        line.await_one()
        run(*inside_of(trio.namespace("a")), "ip", "link", "set", "eth0", "address", "02:00:00:00:00:77")
        assert nothing(line)
        # The audit mode keeps nobody out, and what it opened can be closed.
        gate.open_until("a", FOREVER_NS)
        line.await_one()
        # What it learnt meanwhile opens nothing: neither a port with a lease, nor one without.
        gate.open_until("a", soon(60_000))
        assert nothing(line)
        gate.open_until("a", FOREVER_NS)
        line.await_one()
        gate.close("a", profile=True)
        assert nothing(line)


def test_a_frame_elsewhere_with_the_hosts_address_takes_it_not_away(trio: Pair) -> None:
    with switch(trio, "a") as gate, ExitStack() as stack:
        lines = [Line(trio, stack, ("a", "c")), Line(trio, stack, ("c", "a"))]
        gate.open_until("a", soon(60_000))
        for line in lines:
            line.await_one()
        with trio.inside("b", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)) as thief:
            trio.inside("b", lambda: thief.bind(("eth0", 0)))
            source = bytes.fromhex(trio.mac("a").replace(":", ""))
            for _ in range(20):
                thief.send(b"\xff" * 6 + source + b"\x88\xb5" + bytes(50))
        for line in lines:
            line.arrived()
            stamp = line.send()
            assert stamp in line.arrived()


def test_ports_of_one_bridge_end_each_at_its_own_time(trio: Pair) -> None:
    with switch(trio, "ab") as gate, ExitStack() as stack:
        lines = {name: Line(trio, stack, (name, "c")) for name in "a"} | {"b": Line(trio, stack, ("c", "b"))}
        gate.open_until("b", soon(60_000))
        gate.open_until("a", soon(60_000))
        for line in lines.values():
            line.await_one()
        end = soon(1_500)
        gate.open_until("a", end)
        # Longer than any address lives meanwhile: those of `b` are renewed by the driver's thread.
        gaps, last = [], time.monotonic_ns()
        while time.monotonic_ns() < end + 1_000 * MS:
            for line in lines.values():
                line.send()
            if lines["b"].arrived():
                now = time.monotonic_ns()
                gaps.append(now - last)
                last = now
        resolution = gate.capabilities().resolution_ms * MS
        assert max(lines["a"].arrived()) < end + resolution
        assert nothing(lines["a"])
        assert max(gaps) < 700 * MS, "never shut for as long as an address would have to be learnt anew"
        assert last > end + 900 * MS


def test_a_gate_makes_this_driver_of_a_switchs_devices(trio: Pair, pins: Path) -> None:
    address = bytes.fromhex(trio.mac("a").replace(":", ""))
    gate = make_driver([SwitchDevices("a", trio.device("a"), trio.bridge, (address,))], pins, Hook.XDP, ())
    assert isinstance(gate, SwitchPortDriver)
    with ExitStack() as stack:
        stack.callback(gate.remove)
        line = Line(trio, stack, ("a", "c"))
        assert nothing(line)
        gate.open_until("a", soon(60_000))
        line.await_one()


def test_what_is_no_port_of_the_bridge_is_refused(trio: Pair) -> None:
    run("ip", "link", "set", trio.device("b"), "nomaster")
    with pytest.raises(DatapathError) as caught:
        SwitchPortDriver([port(trio, "b")])
    assert caught.value.subject == "b"
    with pytest.raises(UsageError):
        SwitchPortDriver([port(trio, "a"), port(trio, "a")])
