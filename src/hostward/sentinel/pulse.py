"""Pulses: one datagram to the gate and its answer, which carries what the next one has to answer."""

from __future__ import annotations

import asyncio
from typing import cast

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hostward.errors import ChannelError, LeaseError
from hostward.gate.messages import Pulse, sign_pulse
from hostward.gate.pulse_wire import Datagram, Kind, ask, pack, unpack


class PulseSender(asyncio.DatagramProtocol):
    """Over a connected UDP endpoint. ``answer_s`` is how long an answer may take."""

    def __init__(self, port: str, key: Ed25519PrivateKey, answer_s: float) -> None:
        self._port, self._key, self._answer_s = port, key, answer_s
        self._transport: asyncio.DatagramTransport | None = None
        self._answer: asyncio.Future[Datagram] | None = None
        self._nonce = b""
        self._sequence = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See ``asyncio.DatagramProtocol``."""
        self._transport = cast(asyncio.DatagramTransport, transport)  # uvloop's own class has no such base

    def datagram_received(self, data: bytes, _addr: object) -> None:
        """The gate's answer, or anybody's; the endpoint is connected, so at least it came from there."""
        try:
            answer = unpack(data)
        except LeaseError:
            return
        waiting = self._answer
        if waiting is not None and not waiting.done() and answer.port == self._port:
            waiting.set_result(answer)

    def error_received(self, exc: Exception) -> None:
        """The gate's door is closed (ICMP): as good as no answer, and sooner."""
        waiting = self._answer
        if waiting is not None and not waiting.done():
            waiting.set_exception(ChannelError(f"the gate is not reached: {exc}"))

    async def pulse(self, host: bytes, epoch: int) -> None:
        """Send one. Raises ChannelError if the gate does not answer, LeaseError with its words if it refused."""
        # An answer may have been lost, or the gate started anew: then the nonce is too old, and is asked for once.
        for asked in (not self._nonce, True):
            if asked:
                self._nonce = await self._exchange(ask(self._port))
            self._sequence += 1
            message = sign_pulse(self._key, Pulse(host, epoch, self._sequence, self._nonce))
            try:
                self._nonce = await self._exchange(pack(Kind.PULSE, self._port, message))
            except (LeaseError, ChannelError):
                self._nonce = b""
                if asked:
                    raise
            else:
                return

    async def _exchange(self, question: bytes) -> bytes:
        if self._transport is None:
            raise ChannelError("the gate is not reached: there is no socket")
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.sendto(question)
        try:
            async with asyncio.timeout(self._answer_s):
                answer = await self._answer
        except TimeoutError:
            raise ChannelError("the gate does not answer") from None
        finally:
            self._answer = None
        if answer.kind is Kind.NONCE:
            return answer.body
        words = answer.body[1:].decode("ascii", "replace")
        raise LeaseError(f"the gate refused the pulse: {words}" if words else "the gate refused the pulse")
