"""The controller's end of one gate's channel: keeps it open, asks, and passes on what the gate tells.

A gate is known by the fingerprint of its key, which an operator noted there; it knows the controller by the grant key.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
import ssl
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from hostward.controller.attestation.settings import GateAddress
from hostward.errors import ChannelError, LeaseError
from hostward.gate.channel_messages import (
    ANSWER_LIMIT_BYTES,
    CHANNEL_VERSION,
    Answer,
    Apply,
    AskChallenge,
    AskStates,
    Challenge,
    Event,
    Refused,
    Release,
    Request,
    State,
    States,
    decode_from_gate,
    decode_greeting,
    encode,
    prove,
)
from hostward.gate.identity import key_fingerprint
from hostward.gate.port import PortState

log = logging.getLogger(__name__)

RETRY_FIRST_S = 0.25
RETRY_CAP_S = 5.0
OPEN_LIMIT_S = 5.0
ANSWER_LIMIT_S = 5.0

_A = TypeVar("_A", Challenge, State, States)


class GateLink:
    """One gate. ``key`` is the grant key; ``on_event`` gets what the gate tells. Call from the event loop's thread."""

    def __init__(
        self, settings: GateAddress, key: Ed25519PrivateKey, on_event: Callable[[str, Event], None] | None = None
    ) -> None:
        self._settings, self._key = settings, key
        self._on_event = on_event or log_event
        self._connection: ClientConnection | None = None
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._trouble = "it was not reached yet"

    @property
    def name(self) -> str:
        """The gate's name, which grants carry."""
        return self._settings.name

    @property
    def ports(self) -> Mapping[str, str]:
        """Its ports, and the host behind each."""
        return self._settings.ports

    @property
    def connected(self) -> bool:
        """Whether it can be asked now."""
        return self._connection is not None

    async def challenge(self, port: str) -> bytes:
        """What the next grant has to answer. Raises ChannelError, LeaseError."""
        return (await self._ask(AskChallenge(next(self._numbers), port), Challenge)).challenge

    async def apply(self, port: str, message: bytes) -> PortState:
        """Hand over a grant, a renewal or a revocation. Raises ChannelError, LeaseError."""
        return (await self._ask(Apply(next(self._numbers), port, message), State)).state

    async def states(self) -> Sequence[PortState]:
        """Every port's state. Raises ChannelError."""
        return (await self._ask(AskStates(next(self._numbers)), States)).states

    async def release(self, port: str) -> PortState:
        """Undo a cut. Raises ChannelError, LeaseError."""
        return (await self._ask(Release(next(self._numbers), port), State)).state

    async def run(self) -> None:
        """Keep the channel open, until cancelled."""
        failures = 0
        while True:
            try:
                await self._converse()
            except ConnectionClosed as error:
                failures = failures + 1 if self._trouble else 0
                reason = error.rcvd.reason if error.rcvd is not None else ""
                self._lose(reason or "the connection was lost")
            except (OSError, TimeoutError, WebSocketException, msgspec.MsgspecError, ChannelError) as error:
                failures += 1
                self._lose(getattr(error, "what", "") or str(error) or type(error).__name__)
            finally:
                self._close()
            # Full jitter: after a controller's restart its gates are not all asked in one moment.
            await asyncio.sleep(random.uniform(0.2, 1.0) * min(RETRY_CAP_S, RETRY_FIRST_S * 2 ** min(failures, 8)))  # noqa: S311

    async def _converse(self) -> None:
        async with connect(
            f"wss://{self._settings.address}/channel",
            ssl=_context(),
            compression=None,
            proxy=None,
            max_size=ANSWER_LIMIT_BYTES,
            open_timeout=OPEN_LIMIT_S,
            ping_interval=2.0,
            ping_timeout=4.0,
        ) as connection:
            self._check_identity(connection)
            async with asyncio.timeout(OPEN_LIMIT_S):
                greeting = decode_greeting(await connection.recv(decode=False))
            if greeting.version != CHANNEL_VERSION:
                raise ChannelError(f"the gate speaks version {greeting.version}, and this is {CHANNEL_VERSION}")
            if greeting.gate != self.name:
                raise ChannelError(f"the gate there says that it is {greeting.gate}")
            await connection.send(encode(prove(self._key, self.name, greeting.nonce)))
            self._connection = connection
            await self._read(connection)

    async def _read(self, connection: ClientConnection) -> None:
        told = False
        while True:
            message = decode_from_gate.decode(await connection.recv(decode=False))
            if not told:  # a gate answers only whom it believes
                log.info("gate %s: connected to %s", self.name, self._settings.address)
                told, self._trouble = True, ""
            if isinstance(message, Event):
                self._on_event(self.name, message)
                continue
            waiting = self._waiting.pop(message.id, None)
            if waiting is not None and not waiting.done():
                waiting.set_result(message)

    async def _ask(self, request: Request, kind: type[_A]) -> _A:
        connection = self._connection
        if connection is None:
            raise ChannelError(f"the gate is not reached: {self._trouble}", subject=self.name)
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[request.id] = answer
        try:
            async with asyncio.timeout(ANSWER_LIMIT_S):
                await connection.send(encode(request))
                found = await answer
        except (ConnectionClosed, TimeoutError) as error:
            reason = str(error) or "it does not answer"
            raise ChannelError(f"the gate was lost: {reason}", subject=self.name) from error
        finally:
            self._waiting.pop(request.id, None)
        if isinstance(found, Refused):
            raise LeaseError(found.what, subject=found.subject or self.name, hint=found.hint)
        if not isinstance(found, kind):
            raise ChannelError(f"the gate answered with {type(found).__name__}", subject=self.name)
        return found

    def _check_identity(self, connection: ClientConnection) -> None:
        shown = connection.transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
        fingerprint = key_fingerprint(x509.load_der_x509_certificate(shown))
        if fingerprint != self._settings.fingerprint:
            raise ChannelError(
                f"whoever listens there has the key {fingerprint}, not the gate's",
                subject=self.name,
                hint="`hostward gate --config FILE --identity` at the gate shows its own",
            )

    def _lose(self, trouble: str) -> None:
        if trouble != self._trouble:
            log.warning("gate %s at %s: %s", self.name, self._settings.address, trouble)
        self._trouble = trouble

    def _close(self) -> None:
        self._connection = None
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(ChannelError(f"the gate was lost: {self._trouble}", subject=self.name))
        self._waiting.clear()


def log_event(gate: str, event: Event) -> None:
    """Write what a gate tells into the log."""
    would = "would be " if event.would else ""
    log.warning("gate %s, port %s: %s%s: %s", gate, event.port, would, event.change.value, event.why or event.host)


def _context() -> ssl.SSLContext:
    """TLS 1.3 with whoever is there: the key is compared afterwards, before anything is said."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
