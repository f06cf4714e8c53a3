"""The sentinel's process: a socket for the agent, and one look at the kernel and one pulse each period."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import struct
from dataclasses import dataclass
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from hostward.datapath.attached import AttachedReader
from hostward.errors import ChannelError, HostwardError, UsageError
from hostward.sentinel.messages import (
    Alive,
    Answer,
    AskKey,
    Attested,
    Changing,
    Key,
    Pending,
    Request,
    Standing,
    decode_request,
    read_frame,
    write_frame,
)
from hostward.sentinel.pulse import PulseSender
from hostward.sentinel.watch import Watch

log = logging.getLogger(__name__)

CONNECTIONS_MAX = 4
_CREDENTIALS = struct.Struct("=iII")


@dataclass(frozen=True, slots=True)
class SentinelSettings:
    """``gate`` is where the gate's door for pulses is, ``port`` this host's port there; the rest see ``Watch``."""

    socket: Path
    pins: Path
    gate: tuple[str, int]
    port: str
    period_s: float = 1.0
    restart_grace_s: float = 30.0
    by_number: bool = False
    pending_s: float = 10.0


class Sentinel:
    """Runs until cancelled."""

    def __init__(self, settings: SentinelSettings) -> None:
        self._settings = settings
        self._key = Ed25519PrivateKey.generate()
        self._watch = Watch(settings.restart_grace_s, settings.pending_s)
        self._reader = AttachedReader(settings.pins, by_number=settings.by_number)
        self._sender = PulseSender(settings.port, self._key, settings.period_s / 3)
        self._why: str | None = None
        self._connections = 0
        self.ready = asyncio.Event()

    async def run(self) -> None:
        """The sentinel's life. Raises OSError if the socket or the gate's address cannot be had."""
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: self._sender, remote_addr=self._settings.gate
        )
        server = await asyncio.start_unix_server(self._serve, sock=_listen(self._settings.socket))
        try:
            self.ready.set()
            await self._beat()
        finally:
            server.close()
            transport.close()
            self._settings.socket.unlink(missing_ok=True)

    async def _beat(self) -> None:
        clock = asyncio.get_running_loop().time
        due_s = clock()
        while True:
            await self._look()
            # A look that took too long is followed by the next at once, and not by those that were missed.
            due_s = max(due_s + self._settings.period_s, clock())
            await asyncio.sleep(due_s - clock())

    async def _look(self) -> None:
        try:
            read = await asyncio.to_thread(self._reader.read)
            why = self._watch.objection(read, asyncio.get_running_loop().time())
            if not why:
                await self._sender.pulse(self._watch.host, self._watch.epoch)
        except HostwardError as error:
            why = error.what
        if why != self._why:
            log.warning("no pulse: %s", why) if why else log.info("the pulse goes")
            self._why = why

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            refusal = self._refusal(writer)
            if refusal:
                log.warning("socket: refused: %s", refusal)
                return
            self._connections += 1
            try:
                while True:
                    request = decode_request.decode(await read_frame(reader))
                    await write_frame(writer, self._answer(request))
            finally:
                self._connections -= 1
                self._watch.left()
        except ChannelError as error:
            log.info("socket: the agent's connection ended: %s", error.what)
        except msgspec.MsgspecError as error:
            log.warning("socket: this is no request: %s", error)
        finally:
            writer.close()

    def _refusal(self, writer: asyncio.StreamWriter) -> str:
        credentials = writer.get_extra_info("socket").getsockopt(
            socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size
        )
        pid, uid, _ = _CREDENTIALS.unpack(credentials)
        if uid != os.geteuid():
            return f"process {pid} is user {uid}'s"
        return f"{CONNECTIONS_MAX} connections are open" if self._connections >= CONNECTIONS_MAX else ""

    def _answer(self, request: Request) -> Answer:
        now_s = asyncio.get_running_loop().time()
        match request:
            case AskKey():
                return Key(self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))
            case Attested():
                self._watch.attested(request.host, request.epoch, request.state, now_s)
            case Changing():
                self._watch.changing(now_s)
            case Pending():
                self._watch.pending(request.state, now_s)
            case Alive():
                self._watch.alive(now_s)
        return Standing("nothing was looked at yet" if self._why is None else self._why)


def _listen(path: Path) -> socket.socket:
    """A socket that its owner alone can open; one that a dead process left is replaced."""
    if not path.parent.is_dir():
        raise UsageError("the folder of the socket is missing", subject=str(path.parent))
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    path.unlink(missing_ok=True)
    before = os.umask(0o177)
    try:
        listening.bind(str(path))
    finally:
        os.umask(before)
    return listening
