"""The gate as a process: a grant over its channel and pulses from the host open the port; nothing else does.

What passes is counted at a socket behind the gate. `a` is the host, `b` the fabric.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import time

import pytest

from hostward.controller.attestation.grants import Granter, Wanted
from hostward.gate.channel_messages import (
    Change,
)
from hostward.gate.messages import Mode
from hostward.sentinel.client import SentinelClient
from tests.netns.gate.process import HOSTWARD
from tests.netns.gate.site import HOST, Site, passes
from tests.netns.pair import inside_of, run
from tests.netns.test_gate_drivers import Line

pytestmark = pytest.mark.netns

MS = 1_000_000


def test_grant_and_pulses_open_the_port_and_a_revocation_closes_it_at_once(site: Site, line: Line) -> None:
    site.enforce()
    site.start_gate()
    sentinel = site.start_sentinel()
    sentinel.await_line("nothing has been attested yet")

    async def work() -> None:
        async with site.connected() as link:
            assert not passes(line)
            client = await site.admit(link)
            await asyncio.to_thread(line.await_one)
            # Renewed, it stays open from pulse to pulse.
            state = await site.grant(link, await client.key())
            assert state.open
            assert site.sequence == state.sequence
            await asyncio.to_thread(line.await_one)
            state = await site.revoke(link)
            assert not state.open
            assert not passes(line)
            assert (await site.until(link, lambda state: not state.open)).why
            assert [(event.change, event.would, event.host) for event in await site.await_events(2)] == [
                (Change.OPENED, False, HOST.hex()),
                (Change.CLOSED, False, HOST.hex()),
            ]
            await client.close()

    site.in_gate(work)


def test_without_a_pulse_and_without_a_grant_the_port_stays_closed(site: Site, line: Line) -> None:
    site.start_gate()

    async def work() -> None:
        async with site.connected() as link:
            state = await site.grant(link, b"k" * 32)
            assert not state.open
            assert state.why == "no pulse yet"
            assert not passes(line)

    site.in_gate(work)


def test_in_audit_mode_everything_passes_and_the_gate_tells_what_would_be(site: Site, line: Line) -> None:
    """The negative control of every test here: the same host, the same frames."""
    site.enforce()
    site.start_gate("audit")
    sentinel = site.start_sentinel()

    async def work() -> None:
        async with site.connected() as link:
            await asyncio.to_thread(line.await_one)
            client = await site.admit(link, pulse_ms=1_500)
            sentinel.stop()
            await site.until(link, lambda state: not state.open)
            await asyncio.to_thread(line.await_one)
            assert [(event.change, event.would) for event in await site.await_events(2)] == [
                (Change.OPENED, True),
                (Change.CLOSED, True),
            ]
            await client.close()

    site.in_gate(work)


def test_a_killed_sentinel_closes_the_port_within_the_pulses_life(site: Site, line: Line) -> None:
    site.enforce()
    site.start_gate()
    sentinel = site.start_sentinel()

    async def work() -> None:
        async with site.connected() as link:
            client = await site.admit(link, pulse_ms=2_000)
            await asyncio.to_thread(line.await_one)
            sentinel.process.kill()
            killed = time.monotonic_ns()
            line.send_until(killed + 2_100 * MS)
            stamps = line.arrived()
            # The last pulse went before the kill.
            assert max(stamps, default=0) < killed + 2_000 * MS
            state = await site.until(link, lambda state: not state.open)
            assert state.why == "the pulse ended: the sentinel is silent"
            await client.close()

    site.in_gate(work)


def test_a_killed_gate_closes_the_port_at_the_deadline(site: Site, line: Line) -> None:
    site.enforce()
    gate = site.start_gate()
    site.start_sentinel()

    async def work() -> None:
        async with site.connected() as link:
            client = await site.admit(link, life_ms=60_000, pulse_ms=3_000)
            await asyncio.to_thread(line.await_one)
            gate.process.kill()
            gate.process.wait(20)
            killed = time.monotonic_ns()
            line.send_until(killed + 3_100 * MS)
            assert max(line.arrived(), default=0) < killed + 3_000 * MS
            assert not passes(line)
            await client.close()

    site.in_gate(work)
    # Who starts it again finds it closed, and what was granted before is dead.
    again = site.start_gate()
    assert not passes(line)
    again.await_line("ready")


def test_a_stopped_gate_leaves_the_port_to_its_deadline(site: Site, line: Line) -> None:
    site.enforce()
    gate = site.start_gate()
    site.start_sentinel()

    async def work() -> None:
        async with site.connected() as link:
            client = await site.admit(link, pulse_ms=30_000)
            await asyncio.to_thread(line.await_one)
            await asyncio.to_thread(gate.stop, signal.SIGTERM)
            await asyncio.to_thread(line.await_one)
            await client.close()

    site.in_gate(work)
    assert gate.process.returncode == 0


def test_a_lost_controller_closes_the_port_at_the_grants_end(site: Site, line: Line) -> None:
    site.enforce()
    gate = site.start_gate()
    site.start_sentinel()

    async def work() -> int:
        async with site.connected() as link:
            client = await site.admit(link, life_ms=60_000)
            await asyncio.to_thread(line.await_one)
            before = time.monotonic_ns()
            await site.grant(link, await client.key(), life_ms=4_000)
            await client.close()
            return before

    granted = site.in_gate(work)
    line.await_one()  # the controller's absence closes nothing before
    gate.await_line("closed: the grant ended")
    assert time.monotonic_ns() > granted + 4_000 * MS
    assert not passes(line)


def test_a_link_that_was_down_for_a_moment_drops_the_lease(site: Site, line: Line) -> None:
    site.enforce()
    gate = site.start_gate()
    site.start_sentinel()

    async def work() -> None:
        async with site.connected() as link:
            client = await site.admit(link)
            await asyncio.to_thread(line.await_one)
            for state in ("down", "up"):
                run(*inside_of(site.net.namespace("a")), "ip", "link", "set", "eth0", state)
            gate.await_line("the link is down")
            assert not (await site.until(link, lambda state: not state.open)).open
            assert not passes(line)
            # A new grant opens it again.
            await site.grant(link, await client.key())
            await site.until(link, lambda state: state.open)
            await client.close()

    site.in_gate(work)


def test_the_controllers_granter_opens_renews_and_takes_back_over_the_link(site: Site, line: Line) -> None:
    site.enforce()
    gate = site.start_gate()
    site.start_sentinel()

    async def work() -> None:
        async with site.connected() as link:
            granter = Granter([link], site.key, (3.0, 2.0), lambda _host, _boot: None)
            running = asyncio.create_task(granter.run())
            client = SentinelClient(site.socket)
            await client.attested(HOST, 1, site.attached())
            until_s = asyncio.get_running_loop().time() + 60
            granter.want("host-a", Wanted(Mode.OPEN, HOST, 1, await client.key(), until_s=until_s))
            first = await site.until(link, lambda state: state.open)
            # Renewed at a third of its life, it is open when the first grant has long ended.
            await site.until(link, lambda state: state.open and state.sequence >= first.sequence + 4)
            await asyncio.to_thread(line.await_one)
            granter.want("host-a", Wanted(Mode.QUARANTINE, HOST, 1))
            await site.until(link, lambda state: not state.open)
            assert not passes(line)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await client.close()

    site.in_gate(work)
    assert gate.text.count("opened") == 1


def test_a_gate_whose_device_is_missing_says_so(site: Site) -> None:
    site.start_gate().stop()
    run(*inside_of(site.net.gate), "ip", "link", "del", site.net.device("b"))
    words = [*inside_of(site.net.gate), str(HOSTWARD), "gate", "--config", str(site.gate_config)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "there is no such device" in done.stderr
