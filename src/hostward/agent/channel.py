"""The agent's side of one channel: hello, revisions in, answers out, until the channel is over.

It must not reconnect (``daemon`` does) and must not touch the kernel (``enforcement`` does).
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec
from websockets.asyncio.client import ClientConnection

import hostward
from hostward.agent.enforcement import Enforcement
from hostward.agent.feedback import Feedback
from hostward.agent.identity import HostIdentity, key_pem, make_key, make_request, save_identity
from hostward.agent.limits import Limits
from hostward.agent.messages import (
    CHANNEL_VERSION,
    Ceilings,
    Delta,
    FromAgent,
    Hello,
    Inspect,
    Inspected,
    Renew,
    Renewed,
    Snapshot,
    decode_from_controller,
    encode,
)
from hostward.agent.proving import Proving
from hostward.errors import ChannelError, HostwardError

log = logging.getLogger(__name__)


class Channel:
    """One open connection to the controller."""

    def __init__(
        self,
        connection: ClientConnection,
        identity: HostIdentity,
        enforcement: Enforcement,
        feedback: Feedback,
        limits: Limits,
        directory: Path,
        proving: Proving | None = None,
    ) -> None:
        """With ``proving`` its certificate is renewed by evidence, and what is enforced is proven anew."""
        self._connection = connection
        self._identity = identity
        self._enforcement = enforcement
        self._feedback = feedback
        self._limits = limits
        self._directory = directory
        self._proving = proving

    async def send(self, message: FromAgent) -> None:
        """Send one message, waiting while the socket is full."""
        await self._connection.send(encode(message))

    async def run(self) -> HostIdentity:
        """Serve the channel until it ends (raises ConnectionClosed) or a renewed identity asks for a new one."""
        enforcement = self._enforcement
        await self.send(
            Hello(
                CHANNEL_VERSION,
                hostward.__version__,
                enforcement.revision,
                enforcement.digest,
                self._limits,
                enforcement.statuses,
            )
        )
        key = make_key()  # a renewed certificate gets a fresh key
        renewing = asyncio.create_task(self._renew_in_time(key), name="renew")
        try:
            while True:
                message = decode_from_controller(await self._connection.recv(decode=False))
                match message:
                    case Snapshot() | Delta():
                        async with (
                            self._proving.change(enforcement.settled) if self._proving is not None else nullcontext()
                        ):
                            answer = await enforcement.take(message)
                        await self.send(answer)
                    case Ceilings():
                        self._feedback.obey(message)
                    case Inspect():
                        await self.send(await self._inspect(message))
                    case Renewed():
                        renewed = HostIdentity(key_pem(key), message.certificate, self._identity.authority)
                        save_identity(self._directory, renewed)
                        log.info("the certificate was renewed, valid until %s", renewed.valid_until.isoformat())
                        return renewed
        except msgspec.MsgspecError as error:
            raise ChannelError(f"the controller sent what this agent does not know: {error}") from error
        finally:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)

    async def _renew_in_time(self, key: ec.EllipticCurvePrivateKey) -> None:
        if self._proving is not None:
            return
        wait_s = (self._identity.renew_at - datetime.now(UTC)).total_seconds()
        await asyncio.sleep(max(0.0, wait_s))
        await self.send(Renew(make_request(key, self._identity.host)))

    async def _inspect(self, question: Inspect) -> Inspected:
        try:
            return Inspected(question.id, await self._enforcement.inspect(question.port))
        except HostwardError as error:
            return Inspected(question.id, None, error.what, error.hint)
