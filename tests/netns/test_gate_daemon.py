"""The gate as a process: a grant over its channel and pulses from the host open the port; nothing else does.

What passes is counted at a socket behind the gate. `a` is the host, `b` the fabric.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import ssl
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from hostward.errors import ChannelError, LeaseError
from hostward.gate.channel_messages import (
    AskStates,
    Change,
    Proof,
    decode_greeting,
    encode,
    prove,
)
from hostward.gate.messages import Grant, Mode, sign_grant
from hostward.gate.pulse_wire import DATAGRAM_MAX, Kind, ask, pack
from tests.netns.gate_site import CHANNEL_PORT, DOOR, GATE, HOST, HOSTWARD, PORT, PULSES_PORT, Site, gate_site
from tests.netns.pair import inside_of, run
from tests.netns.test_gate_drivers import Line

pytestmark = pytest.mark.netns

MS = 1_000_000


@pytest.fixture
def site(pins: Path, tmp_path: Path) -> Iterator[Site]:
    with gate_site(uuid.uuid4().hex[:6], pins, tmp_path) as made:
        yield made


@pytest.fixture
def line(site: Site) -> Iterator[Line]:
    """Datagrams from the host to the fabric."""
    with ExitStack() as stack:
        yield Line(site.net, stack, ("a", "b"))


def passes(line: Line) -> bool:
    """Whether anything that is sent within 50 ms arrives."""
    line.arrived()
    line.send_until(time.monotonic_ns() + 50 * MS)
    return bool(line.arrived())


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


def test_an_impostor_on_either_end_of_the_channel_gets_nothing(site: Site, line: Line) -> None:
    gate = site.start_gate()
    fingerprint = site.fingerprint()
    assert fingerprint == site.fingerprint(), "it is made once"

    async def refused(wrong: str = "", key: Ed25519PrivateKey | None = None, name: str = GATE) -> str:
        link = site.link(wrong or fingerprint, key, name)
        running = asyncio.create_task(link.run())
        try:
            async with asyncio.timeout(20):
                while True:
                    with pytest.raises(ChannelError) as caught:
                        await link.states()
                    if "was not reached yet" not in caught.value.what:
                        return caught.value.what
                    await asyncio.sleep(0.02)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    async def work() -> None:
        assert "not the gate's" in await refused("0" * 64)
        assert GATE in await refused(name="g2")
        await refused(key=Ed25519PrivateKey.generate())
        await asyncio.to_thread(gate.await_line, "the signature is another's")
        async with site.connected() as link:
            (state,) = await link.states()
            assert state.why == "no grant since the gate started"

    site.in_gate(work)


def test_what_is_no_greeting_closes_the_connection(site: Site) -> None:
    gate = site.start_gate()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    address = f"wss://127.0.0.1:{CHANNEL_PORT}/channel"

    async def ends(*sent: bytes | str) -> int:
        async with connect(address, ssl=context, proxy=None) as connection:
            greeting = decode_greeting(await connection.recv(decode=False))
            assert greeting.gate == GATE
            for message in sent:
                await connection.send(message)
            with pytest.raises(ConnectionClosed) as caught:
                await connection.recv()
            return caught.value.rcvd.code if caught.value.rcvd else 0

    async def old_proof() -> bytes:
        async with connect(address, ssl=context, proxy=None) as connection:
            greeting = decode_greeting(await connection.recv(decode=False))
            return encode(prove(site.key, GATE, greeting.nonce))

    async def work() -> None:
        assert await ends(encode(AskStates(1))) == 1008, "nobody asks before the proof"
        assert await ends(encode(Proof(b""))) == 1008
        assert await ends(encode(Proof(os.urandom(300)))) == 1008
        assert await ends(os.urandom(64)) == 1008
        assert await ends("text") == 1008
        assert await ends(await old_proof()) == 1008, "a proof is for one connection"
        assert await ends(b"x" * 20_000) == 1009, "RFC 6455: too big"
        assert await ends() == 1008, "who says nothing is sent away"
        await asyncio.to_thread(gate.await_line, "it said nothing")
        # Strangers keep no controller out.
        strangers = [await connect(address, ssl=context, proxy=None) for _ in range(12)]
        async with site.connected() as link:
            assert link.connected
        for stranger in strangers:
            await stranger.close()

    site.in_gate(work)


def test_replayed_and_forged_grants_change_nothing(site: Site, line: Line) -> None:
    site.enforce()
    site.start_gate()
    site.start_sentinel()

    async def work() -> None:
        async with site.connected() as link:
            client = await site.admit(link)
            key = await client.key()
            message = await site.signed(link, key)
            await link.apply(PORT, message)
            await site.revoke(link)
            (before,) = await link.states()
            with pytest.raises(LeaseError, match="was here"):
                await link.apply(PORT, message)
            stale = sign_grant(site.key, Grant(GATE, PORT, HOST, 1, 99, Mode.OPEN, 60_000, b"c" * 16, key, 2_000))
            with pytest.raises(LeaseError, match="challenge"):
                await link.apply(PORT, stale)
            challenge = await link.challenge(PORT)
            grant = Grant(GATE, PORT, HOST, 1, 99, Mode.OPEN, 60_000, challenge, key, 2_000)
            with pytest.raises(LeaseError, match="another's"):
                await link.apply(PORT, sign_grant(Ed25519PrivateKey.generate(), grant))
            with pytest.raises(LeaseError):
                await link.apply(PORT, os.urandom(200))
            with pytest.raises(LeaseError, match="no such port"):
                await link.challenge("q")
            (after,) = await link.states()
            assert replace(after, pulse_left_ms=0) == replace(before, pulse_left_ms=0)
            assert not passes(line)
            # A cut lasts, until an operator undoes it.
            await link.apply(PORT, sign_grant(site.key, Grant(GATE, PORT, HOST, 1, 100, Mode.CUT)))
            site.sequence = 101
            with pytest.raises(LeaseError, match="cut off"):
                await site.grant(link, key)
            assert (await link.release(PORT)).why == "released by an operator"
            await client.close()

    site.in_gate(work)


def test_garbage_at_the_door_for_pulses_is_never_amplified_and_changes_nothing(site: Site, line: Line) -> None:
    gate = site.start_gate()
    to = (DOOR, PULSES_PORT)
    with site.net.socket("a", socket.SOCK_DGRAM) as host:
        host.settimeout(2.0)
        # The door is open to a quarantined host; nothing else is.
        host.sendto(ask(PORT), to)
        answer = host.recv(2_048)
        assert len(answer) <= len(ask(PORT))
        unknown = ask("q")
        host.sendto(unknown, to)
        assert len(host.recv(2_048)) <= len(unknown)
        forged = pack(Kind.PULSE, PORT, os.urandom(180))
        host.sendto(forged, to)
        assert len(host.recv(2_048)) <= len(forged)
        host.settimeout(0.3)
        silent = [b"", b"x", os.urandom(100), ask(PORT)[:-1], ask(PORT) + b"x", b"y" * (DATAGRAM_MAX + 1), answer]
        for data in silent:
            host.sendto(data, to)
            with pytest.raises(TimeoutError):
                host.recv(2_048)
        for _ in range(2_000):
            host.sendto(os.urandom(64), to)
    assert not passes(line)

    async def work() -> None:
        async with site.connected() as link:
            (state,) = await link.states()
            assert not state.open
            assert state.why == "no grant since the gate started"

    site.in_gate(work)
    assert len(gate.text.splitlines()) < 200, "the log is bounded too"


def test_a_gate_whose_device_is_missing_says_so(site: Site) -> None:
    site.start_gate().stop()
    run(*inside_of(site.net.gate), "ip", "link", "del", site.net.device("b"))
    words = [*inside_of(site.net.gate), str(HOSTWARD), "gate", "--config", str(site.gate_config)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "there is no such device" in done.stderr
