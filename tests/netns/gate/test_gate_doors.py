"""The gate's two doors: impostors on either end of the channel, grants that are old or forged, and garbage.

Whatever comes, the gate is what it was before, and what passes is counted at a socket behind it.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from hostward.errors import ChannelError, LeaseError
from hostward.gate.channel_messages import (
    AskStates,
    Proof,
    decode_greeting,
    encode,
    prove,
)
from hostward.gate.messages import Grant, Mode, sign_grant
from hostward.gate.pulse_wire import DATAGRAM_MAX, Kind, ask, pack
from tests.netns.gate.site import CHANNEL_PORT, DOOR, GATE, HOST, PORT, PULSES_PORT, Site, passes
from tests.netns.test_gate_drivers import Line

pytestmark = pytest.mark.netns

MS = 1_000_000


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
