"""One agent's channel, as long as it lives.

Sends at most one revision at a time and always the newest: while a host works, later revisions replace each other, so that
nothing queues up for a slow host. A channel that loses its base starts over with a snapshot.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial

import msgspec
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from hostward.agent.messages import (
    CHANNEL_VERSION,
    TALKERS_LIMIT,
    Ack,
    Arrivals,
    Ceilings,
    Delta,
    Events,
    FromController,
    Hello,
    Inspect,
    Inspected,
    Nack,
    NackReason,
    Renew,
    Renewed,
    Samples,
    Snapshot,
    Status,
    Talkers,
    decode_from_agent,
    encode,
)
from hostward.controller.fleet import Fleet
from hostward.controller.host_view import HostView
from hostward.controller.membership import Membership
from hostward.controller.publication import Digested
from hostward.datapath.enforcer import DeviceFacts
from hostward.errors import ChannelError, DeviceError, EnrolmentError
from hostward.model.endpoint import Port
from hostward.policy import diff_slices, encode_slice

log = logging.getLogger(__name__)

HELLO_LIMIT_S = 10.0
INSPECT_LIMIT_S = 5.0
# Answers that wait for the socket; beyond it the agent is not reading, and the channel is closed.
OUTBOX_LIMIT = 64


@dataclass(frozen=True, slots=True)
class Sent:
    """A host's slice of a revision, remembered by what it can be made from again."""

    revision: int
    digest: str


class Session:
    """The controller's side of one channel. ``run`` returns when the channel is over."""

    def __init__(
        self, connection: ServerConnection, peer: str, host: str, serial: str, fleet: Fleet, membership: Membership
    ) -> None:
        self.host = host
        self.peer = peer
        self._connection = connection
        self._serial = serial
        self._fleet = fleet
        self._membership = membership
        self._view: HostView = fleet.view(host)
        self._wake = asyncio.Event()
        self._outbox: deque[FromController] = deque()
        self._base: Sent | None = None  # what the agent is known to hold
        self._in_flight: Sent | None = None
        self._settled = 0  # the newest revision that the agent answered
        self._questions: dict[int, asyncio.Future[Inspected]] = {}
        self._question_ids = itertools.count(1)
        self._open_since_s = asyncio.get_running_loop().time()

    async def run(self, until: datetime) -> None:
        """Speak with the agent until it leaves, breaks a rule, or its certificate ends."""
        life_s = (until - self._membership.now).total_seconds()
        try:
            async with asyncio.timeout(life_s):
                await self._greet()
                writing = asyncio.create_task(self._write(), name=f"write {self.host}")
                try:
                    await self._read()
                finally:
                    writing.cancel()
                    await asyncio.gather(writing, return_exceptions=True)
        except TimeoutError:
            await self.close("the certificate has ended")
        except (msgspec.MsgspecError, ChannelError, EnrolmentError) as error:
            await self.close(str(error))
        except ConnectionClosed:
            pass
        finally:
            for question in self._questions.values():
                question.cancel()

    def wake(self) -> None:
        """Something may have to be sent."""
        self._wake.set()

    async def close(self, reason: str) -> None:
        """End the channel and say why, in the log and to the agent."""
        log.warning("channel of host %s (%s) is closed: %s", self.host, self.peer, reason)
        await self._connection.close(4000, _close_reason(reason))

    def tell(self, ceilings: Ceilings) -> None:
        """Pass on what a receiver takes. A host that does not read misses some, which then end by themselves."""
        if len(self._outbox) < OUTBOX_LIMIT // 2:
            self._send_soon(ceilings)

    async def inspect(self, port: Port) -> DeviceFacts:
        """Ask the agent about a device. Raises DeviceError with the agent's reason, or ChannelError."""
        number = next(self._question_ids)
        answer: asyncio.Future[Inspected] = asyncio.get_running_loop().create_future()
        self._questions[number] = answer
        try:
            self._send_soon(Inspect(number, port))
            inspected = await asyncio.wait_for(answer, INSPECT_LIMIT_S)
        except (TimeoutError, asyncio.CancelledError) as error:
            if answer.cancelled() or isinstance(error, TimeoutError):
                raise ChannelError("the agent did not answer", subject=f"host {self.host}") from error
            raise
        finally:
            del self._questions[number]
        if inspected.facts is None:
            raise DeviceError(inspected.error, subject=port.device, hint=inspected.hint)
        return inspected.facts

    def _send_soon(self, message: FromController) -> None:
        if len(self._outbox) >= OUTBOX_LIMIT:
            raise ChannelError("the agent does not read its channel", subject=f"host {self.host}")
        self._outbox.append(message)
        self._wake.set()

    async def _greet(self) -> None:
        async with asyncio.timeout(HELLO_LIMIT_S):
            hello = await self._receive()
        if not isinstance(hello, Hello):
            raise ChannelError("the first message was no hello")
        if hello.version != CHANNEL_VERSION:
            raise ChannelError(f"the agent speaks channel {hello.version}, this controller {CHANNEL_VERSION}")
        target = self._fleet.target
        head = 0 if target is None else target.revision
        view = self._view
        view.agent_version = hello.agent_version
        view.limits = hello.limits
        view.statuses = hello.statuses
        view.talkers = {}
        if hello.revision > head:
            # It would refuse all that this history has. Nor does its number count here: it acknowledged another history's.
            ahead = f"the host enforces revision {hello.revision}, and history here ends at {head}"
            hint = f"`hostward controller restore BACKUP --revision-at-least {hello.revision + 1}`"
            view.nack = Nack(hello.revision, NackReason.OLD, f"{ahead}: {hint}")
            self._fleet.progress()
            raise ChannelError(ahead, hint=hint)
        view.enforced, view.nack = hello.revision, None
        if target is not None and hello.revision == target.revision:
            wanted = await asyncio.to_thread(target.slice_for, self.host)
            if wanted.digest == hello.digest:
                self._base, self._settled = Sent(target.revision, wanted.digest), target.revision
            else:
                view.enforced = 0  # until it answers: what it has under this number is unknown, or another history's
                self._fleet.on_other_content()
        self._wake.set()
        self._fleet.progress()

    async def _receive(self) -> object:
        message = decode_from_agent(await self._connection.recv(decode=False))
        # On every message: a host that lost its place must not go on speaking on a channel it opened before.
        self._membership.check_certificate(self.host, self._serial)
        self._view.last_seen = self._membership.now
        return message

    async def _read(self) -> None:
        while True:
            message = await self._receive()
            match message:
                case Ack():
                    self._on_ack(message)
                case Nack():
                    self._on_nack(message)
                case Status():
                    self._on_status(message)
                case Events():
                    self._fleet.on_events(self.host, message)
                case Samples():
                    self._fleet.on_samples(self.host, message)
                case Talkers():
                    self._on_talkers(message)
                case Arrivals():
                    await self._fleet.on_arrivals(self.host, message)
                case Inspected():
                    question = self._questions.get(message.id)
                    if question is not None and not question.done():
                        question.set_result(message)
                case Renew():
                    certificate = await self._membership.renew(self.host, self._serial, message.request)
                    self._send_soon(Renewed(certificate))
                case _:
                    raise ChannelError("a second hello")

    def _on_ack(self, ack: Ack) -> None:
        sent = self._in_flight
        if sent is None or sent.revision != ack.revision:
            raise ChannelError(f"an acknowledgement of revision {ack.revision}, which was not sent")
        self._base, self._in_flight, self._settled = sent, None, ack.revision
        view = self._view
        view.enforced, view.enforce_s, view.nack = ack.revision, ack.enforce_s, None
        view.enforced_at_s = asyncio.get_running_loop().time()
        view.statuses = ack.statuses
        self._fleet.count_enforced(ack.revision, self._open_since_s)
        self._wake.set()
        self._fleet.progress()

    def _on_nack(self, nack: Nack) -> None:
        sent = self._in_flight
        if sent is None or sent.revision != nack.revision:
            raise ChannelError(f"a refusal of revision {nack.revision}, which was not sent")
        self._fleet.measures.refused[nack.reason] += 1
        log.error("host %s refused revision %d (%s): %s", self.host, nack.revision, nack.reason.value, nack.detail)
        had_base, self._base, self._in_flight = self._base is not None, None, None
        if not (had_base and nack.reason is NackReason.DIGEST):
            self._settled = nack.revision
            self._view.nack = nack
        # Else the two sides only disagreed about the base of a delta: the revision goes again, as a snapshot.
        self._wake.set()
        self._fleet.progress()

    def _on_status(self, status: Status) -> None:
        view = self._view
        view.statuses = status.statuses
        view.events_lost = status.events_lost
        view.answers_suppressed = status.answers_suppressed
        for repair in status.repairs:
            log.warning("host %s mended: %s", self.host, repair)
            view.repairs += 1
            view.last_repair = repair
        self._fleet.on_status(self.host)

    def _on_talkers(self, told: Talkers) -> None:
        view = self._view
        known = {**view.talkers, **{name: talkers[:TALKERS_LIMIT] for name, talkers in told.endpoints.items()}}
        # Of endpoints that it says it has: nothing gathers here that a host makes up.
        view.talkers = {name: talkers for name, talkers in known.items() if talkers and name in view.statuses}
        self._fleet.progress()

    async def _write(self) -> None:
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._outbox:
                    await self._connection.send(encode(self._outbox.popleft()))
                target = self._fleet.target
                if target is not None and self._in_flight is None and target.revision > self._settled:
                    # Made in a thread: a large slice takes seconds, and other hosts' channels must go on.
                    wanted = await asyncio.to_thread(target.slice_for, self.host)
                    self._in_flight = Sent(target.revision, wanted.digest)
                    await self._fleet.before_sending()
                    await self._connection.send(await asyncio.to_thread(_encoded, self._base_again(), wanted))
        except ConnectionClosed:
            pass  # the reader sees it too and ends the session
        except Exception:
            log.exception("channel of host %s: the writer ends by a bug", self.host)
            self._connection.transport.abort()

    def _base_again(self) -> Callable[[], Digested] | None:
        """How to make what the agent holds once more; None if it is unknown, or too old to be remembered."""
        base = self._base
        publication = None if base is None else self._fleet.history.find(base.revision)
        if base is None or publication is None:
            return None
        return partial(publication.slice_for, self.host, base.digest)


def _encoded(base_again: Callable[[], Digested] | None, wanted: Digested) -> bytes:
    """The frame that brings an agent from what it holds to what is wanted."""
    revision = wanted.slice.revision
    if base_again is None:
        return encode(Snapshot(revision, encode_slice(wanted.slice), wanted.digest))
    base = base_again()
    delta = diff_slices(base.slice, wanted.slice, (base.digest, wanted.digest))
    return encode(Delta(base.slice.revision, revision, delta, wanted.digest))


def _close_reason(text: str) -> str:
    """A close frame holds 123 bytes of reason."""
    return text.splitlines()[0].encode()[:120].decode(errors="ignore")
