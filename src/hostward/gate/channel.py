"""The gate's own channel: controllers prove themselves by the key that grants, and then ask and are told.

A stranger gets a greeting and five seconds. It must not decide anything (``gate.Gate`` does) and trusts no message.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Sequence

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from hostward.errors import HostwardError, LeaseError
from hostward.gate.channel_messages import (
    CHANNEL_VERSION,
    NONCE_BYTES,
    Answer,
    Apply,
    AskChallenge,
    AskStates,
    Challenge,
    Greeting,
    Refused,
    Release,
    State,
    States,
    check_proof,
    decode_proof,
    decode_request,
    encode,
)
from hostward.gate.live import Listening, LiveGate
from hostward.listener import peer_text

log = logging.getLogger(__name__)

CONNECTIONS_MAX = 8
GREETING_LIMIT_S = 5.0
# WebSocket close codes (RFC 6455, section 7.4.1).
_REFUSED, _LATER = 1008, 1013


class GateChannel:
    """``serve`` is a ``Listener``'s handler. ``keys`` are the controllers'."""

    def __init__(self, name: str, gate: LiveGate, keys: Sequence[Ed25519PublicKey]) -> None:
        self._name, self._gate, self._keys = name, gate, tuple(keys)
        # In the order in which they came; the ones that have not proved themselves yet.
        self._strangers: dict[ServerConnection, None] = {}
        self._proved: set[ServerConnection] = set()

    async def serve(self, connection: ServerConnection) -> None:
        """One connection, until it ends."""
        peer = peer_text(connection.remote_address)
        if len(self._proved) >= CONNECTIONS_MAX:
            log.warning("channel: refused %s: %d controllers are connected", peer, CONNECTIONS_MAX)
            await connection.close(_LATER, "too many connections")
            return
        if len(self._proved) + len(self._strangers) >= CONNECTIONS_MAX:
            # Strangers keep nobody out: the one that has waited longest goes.
            oldest = next(iter(self._strangers))
            del self._strangers[oldest]
            oldest.transport.abort()
        self._strangers[connection] = None
        try:
            await self._greet(connection)
        except (LeaseError, msgspec.MsgspecError, TimeoutError, TypeError) as error:
            log.warning("channel: refused %s: %s", peer, _reason(error))
            await connection.close(_REFUSED, "it did not prove to be a controller")
            return
        finally:
            self._strangers.pop(connection, None)
        self._proved.add(connection)
        log.info("channel: a controller at %s", peer)
        try:
            await self._converse(connection)
        except msgspec.MsgspecError as error:
            log.warning("channel: the controller at %s sent what is no request: %s", peer, error)
            await connection.close(_REFUSED, "this is no request")
        except ConnectionClosed:
            log.warning("channel: the controller at %s is gone", peer)
            raise
        finally:
            self._proved.discard(connection)

    async def _greet(self, connection: ServerConnection) -> None:
        nonce = secrets.token_bytes(NONCE_BYTES)
        async with asyncio.timeout(GREETING_LIMIT_S):
            await connection.send(encode(Greeting(CHANNEL_VERSION, self._name, nonce)))
            proof = decode_proof(await connection.recv(decode=False))
        check_proof(self._keys, self._name, nonce, proof)

    async def _converse(self, connection: ServerConnection) -> None:
        with self._gate.listening() as listening:
            telling = asyncio.create_task(_tell(connection, listening), name="tell")
            try:
                while True:
                    request = decode_request.decode(await connection.recv(decode=False))
                    await connection.send(encode(self._answer(request)))
            finally:
                telling.cancel()
                await asyncio.gather(telling, return_exceptions=True)

    def _answer(self, request: AskChallenge | Apply | AskStates | Release) -> Answer:
        try:
            match request:
                case AskChallenge():
                    return Challenge(request.id, self._gate.challenge(request.port))
                case Apply():
                    return State(request.id, self._gate.apply(request.port, request.message))
                case AskStates():
                    return States(request.id, self._gate.states())
                case Release():
                    return State(request.id, self._gate.release(request.port))
        except HostwardError as error:
            log.warning("channel: refused: %s", error)
            return Refused(request.id, error.what, error.subject, error.hint)


async def _tell(connection: ServerConnection, listening: Listening) -> None:
    while not listening.lost:
        await connection.send(encode(await listening.events.get()))
    await connection.close(_LATER, "too far behind with events")


def _reason(error: Exception) -> str:
    return "it said nothing" if isinstance(error, TimeoutError) else str(error)
