"""The gate's door for pulses: UDP from hosts that may be hostile.

Bounded whatever comes: signatures that one sender has verified, answers that are refusals, lines in the log. Nothing is
kept of a datagram but its reason's count.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping
from typing import cast

from hostward.errors import LeaseError, NotFoundError
from hostward.gate.allowance import Allowance, Allowances
from hostward.gate.live import LiveGate
from hostward.gate.pulse_wire import Datagram, Kind, Objection, pack, refusal, unpack
from hostward.listener import peer_text

log = logging.getLogger(__name__)

# A sentinel sends one a second, and asks for a nonce now and then.
_PER_SENDER_PER_S, _PER_SENDER_AT_ONCE = 20.0, 40
_REFUSALS_PER_S, _REFUSALS_AT_ONCE = 20.0, 40


class PulseDoor(asyncio.DatagramProtocol):
    """Give it to ``create_datagram_endpoint``."""

    def __init__(self, gate: LiveGate) -> None:
        self._gate = gate
        self._transport: asyncio.DatagramTransport | None = None
        self._senders = Allowances(_PER_SENDER_PER_S, _PER_SENDER_AT_ONCE)
        self._refusals = Allowance(_REFUSALS_PER_S, _REFUSALS_AT_ONCE)
        self._refused: Counter[Objection] = Counter()

    @property
    def refused(self) -> Mapping[Objection, int]:
        """How many datagrams were refused so far, by reason."""
        return dict(self._refused)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See ``asyncio.DatagramProtocol``."""
        self._transport = cast(asyncio.DatagramTransport, transport)  # uvloop's own class has no such base

    def error_received(self, exc: Exception) -> None:
        """An answer could not be delivered: whoever asked is gone, or never was there."""
        log.debug("pulses: %s", exc)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """One datagram, from anybody."""
        answer = self._answer(data, addr)
        if answer is not None and self._transport is not None:
            self._transport.sendto(answer, addr)

    def _answer(self, data: bytes, addr: tuple[str, int]) -> bytes | None:
        # By address without the port, which costs a sender nothing to change.
        if not self._senders.take(addr[0]):
            self._refused[Objection.TOO_MANY] += 1
            return None
        try:
            question = unpack(data)
            if question.kind not in (Kind.ASK, Kind.PULSE):
                raise LeaseError("an answer, and nothing was asked")
        except LeaseError as error:
            self._refuse(Objection.MALFORMED, addr, error.what)
            return None
        try:
            return pack(Kind.NONCE, question.port, self._nonce(question))
        except NotFoundError as error:
            objection, words = Objection.NO_PORT, error.what
        except LeaseError as error:
            objection, words = Objection.LEASE, error.what
        self._refuse(objection, addr, f"port {question.port}: {words}")
        return refusal(data, question.port, objection, words) if self._refusals.take() else None

    def _nonce(self, question: Datagram) -> bytes:
        if question.kind is Kind.ASK:
            return self._gate.nonce(question.port)
        return self._gate.pulse(question.port, question.body)

    def _refuse(self, objection: Objection, addr: tuple[str, int], words: str) -> None:
        self._refused[objection] += 1
        log.warning("pulses: refused %s: %s (%d of this kind)", peer_text(addr), words, self._refused[objection])
