"""The sentinel as a process, in front of a real gate: pulses only while the kernel enforces what was attested."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import stat
from pathlib import Path

import pytest

from hostward.errors import ChannelError
from hostward.sentinel.client import SentinelClient
from tests.netns.gate.process import Daemon
from tests.netns.gate.site import HOST, Site, passes
from tests.netns.pair import inside_of, run
from tests.netns.test_attached import map_dump, write_map
from tests.netns.test_gate_drivers import Line

pytestmark = pytest.mark.netns


async def stays_closed(site: Site, sentinel: Daemon, line: Line, why: str) -> None:
    """The sentinel says why, and the port is closed once the last pulse has ended."""
    await asyncio.to_thread(sentinel.await_line, why)
    async with site.connected() as link:
        state = await site.until(link, lambda state: not state.open)
        assert state.why == "the pulse ended: the sentinel is silent"
    assert not await asyncio.to_thread(passes, line)


def test_a_detached_program_ends_the_pulse_and_what_is_mended_begins_it_again(site: Site, line: Line) -> None:
    held = site.enforce()
    site.start_gate()
    sentinel = site.start_sentinel()
    enter = inside_of(site.net.namespace("a"))

    async def work() -> None:
        async with site.connected() as link:
            client = await site.admit(link)
            await asyncio.to_thread(line.await_one)
            run(*enter, "tc", "filter", "del", "dev", "work0", "ingress")
            await stays_closed(site, sentinel, line, "not what was attested: program of acme/a")
            assert await client.alive() == "not what was attested: program of acme/a"
            assert held.repair()
            await site.until(link, lambda state: state.open)
            await client.close()

    site.in_gate(work)


def test_a_changed_map_ends_the_pulse(site: Site, line: Line) -> None:
    site.enforce()
    site.start_gate()
    sentinel = site.start_sentinel()

    async def work() -> None:
        async with site.connected() as link:
            client = await site.admit(link)
            entry = next(entry for entry in map_dump(site.pins, "hw_hosts4"))
            write_map(site.pins, "hw_hosts4", entry["key"], ["09", *entry["value"][1:]])
            await stays_closed(site, sentinel, line, "not what was attested: policy of tables")
            await client.close()

    site.in_gate(work)


def test_an_agent_that_is_away_longer_than_its_grace_ends_the_pulse_and_one_that_returns_does_not(
    site: Site, line: Line
) -> None:
    site.enforce()
    site.start_gate()
    sentinel = site.start_sentinel(restart_grace_s=4)

    async def work() -> None:
        async with site.connected() as link:
            client = await site.admit(link)
            # An agent that died and came back: it attests nothing anew.
            await client.close()
            again = SentinelClient(site.socket)
            await again.alive()
            await again.close()
            assert (await site.until(link, lambda state: state.open)).open
            await stays_closed(site, sentinel, line, "the agent has been away for more than 4 s")
            assert "away" in await again.alive()
            await site.until(link, lambda state: state.open)
            await again.close()

    site.in_gate(work)


def test_a_change_that_was_announced_keeps_the_pulse_until_it_is_attested(site: Site, line: Line) -> None:
    held = site.enforce()
    site.start_gate()
    sentinel = site.start_sentinel()

    async def work() -> None:
        async with site.connected() as link:
            client = await site.admit(link)
            held.enforce(site.net.desired(2))
            changed = site.attached()
            await client.pending(changed)
            before = (await site.until(link, lambda state: state.open)).pulse_left_ms
            assert before > 0
            await client.attested(HOST, 1, changed)
            await asyncio.to_thread(line.await_one)
            # One that nobody announced, and then nobody attested.
            held.enforce(site.net.desired(3))
            await stays_closed(site, sentinel, line, "not what was attested: policy of acme/a")
            await client.pending(site.attached())
            await site.until(link, lambda state: state.open)
            await asyncio.to_thread(sentinel.await_line, "a change was not attested within 10 s")
            assert await client.alive() == "a change was not attested within 10 s"
            await client.close()

    site.in_gate(work)


def test_a_gate_that_starts_anew_is_pulsed_again_once_it_has_a_grant(site: Site, line: Line) -> None:
    site.enforce()
    gate = site.start_gate()
    sentinel = site.start_sentinel()

    async def work() -> None:
        async with site.connected() as link:
            client = await site.admit(link)
            await asyncio.to_thread(gate.stop)
            await asyncio.to_thread(sentinel.await_line, "no pulse: the gate")
            await asyncio.to_thread(site.start_gate)
            async with asyncio.timeout(30):
                while True:
                    try:
                        await site.grant(link, await client.key())
                        break
                    except ChannelError:
                        await asyncio.sleep(0.05)
            await site.until(link, lambda state: state.open)
            await asyncio.to_thread(line.await_one)
            await client.close()

    site.in_gate(work)


def test_a_sentinel_that_starts_anew_has_another_key(site: Site, line: Line) -> None:
    site.enforce()
    site.start_gate()
    sentinel = site.start_sentinel()

    async def work() -> None:
        async with site.connected() as link:
            client = await site.admit(link)
            key = await client.key()
            await asyncio.to_thread(sentinel.stop, signal.SIGTERM)
            assert not site.socket.exists()
            again = await asyncio.to_thread(site.start_sentinel)
            assert await client.key() != key
            await client.attested(HOST, 1, site.attached())
            await asyncio.to_thread(again.await_line, "the gate refused the pulse: the signature is another's")
            assert not (await site.until(link, lambda state: not state.open)).open
            await site.grant(link, await client.key())
            await site.until(link, lambda state: state.open)
            await client.close()

    site.in_gate(work)


def test_the_socket_takes_root_alone_and_no_garbage(site: Site) -> None:
    site.enforce()
    sentinel = site.start_sentinel()
    assert stat.S_IMODE(site.socket.stat().st_mode) == 0o600
    for data in (b"\xff\xff\xff\xff", (5).to_bytes(4, "big") + b"xxxxx", os.urandom(64)):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as one:
            one.settimeout(10)
            one.connect(str(site.socket))
            one.sendall(data)
            one.shutdown(socket.SHUT_WR)
            assert one.recv(16) == b""
    # Somebody else who was let in by a careless folder and mode.
    site.socket.chmod(0o666)
    for folder in site.socket.parents:
        if folder != Path("/tmp") and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o011)
    words = [
        "-c",
        f"import socket; s = socket.socket(socket.AF_UNIX); s.connect({str(site.socket)!r}); print(s.recv(9))",
    ]
    run("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "/usr/bin/python3", *words)
    sentinel.await_line("is user 65534's")

    async def work() -> None:
        client = SentinelClient(site.socket)
        assert len(await client.key()) == 32
        assert await client.alive() == "nothing has been attested yet"
        await client.close()

    site.in_gate(work)
