"""A disk with a volatile write cache, served to QEMU over NBD: a power cut takes what nobody asked it to flush.

QEMU's own cache modes cannot show this: whatever a guest wrote lies in this machine's page cache and outlives every reset
of the guest. Here a write stays in memory until a flush, or a write with FUA, and ``cut_power`` drops of what was not
flushed each 512-byte sector by the toss of a coin, in no order, as a drive does that reorders its cache. Served is what the
NBD protocol calls fixed newstyle with simple replies, to one client after the other.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
from enum import Enum
from io import BufferedRWPair
from pathlib import Path
from random import Random
from types import TracebackType

SECTOR_BYTES = 512

_MAGIC = b"NBDMAGICIHAVEOPT"
_FIXED_NEWSTYLE = 1 << 0
_NO_ZEROES = 1 << 1
# Of the export: flags are given, flush and FUA are understood.
_EXPORT_FLAGS = 1 << 0 | 1 << 2 | 1 << 3
_OPTION_REPLY_MAGIC = 0x3E889045565A9
_OPTION_GO = 7
_REPLY_ACK, _REPLY_INFO, _REPLY_UNSUPPORTED = 1, 3, (1 << 31) | 1
_REQUEST = struct.Struct(">IHHQQI")
_REQUEST_MAGIC, _SIMPLE_REPLY_MAGIC = 0x25609513, 0x67446698
_COMMAND_FUA = 1 << 0
_INVALID = 22


class Command(Enum):
    """What a client may ask once the export is open."""

    READ = 0
    WRITE = 1
    DISCONNECT = 2
    FLUSH = 3


class Flushing(Enum):
    """Whether the disk does what a flush asks of it."""

    HONEST = "honest"
    IGNORED = "ignored"


class VolatileDisk:
    """Serves ``image`` on ``address`` until it is left."""

    def __init__(self, image: Path, address: Path, random: Random, flushing: Flushing = Flushing.HONEST) -> None:
        self._random = random
        self._flushing = flushing
        self._lock = threading.Lock()
        self._unflushed: dict[int, bytes] = {}
        self._image = os.open(image, os.O_RDWR)
        self._size = os.fstat(self._image).st_size
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(address))
        self._listening.listen(1)
        self._client: socket.socket | None = None
        self._left = False
        self._thread = threading.Thread(target=self._serve, name="volatile disk", daemon=True)

    def __enter__(self) -> VolatileDisk:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._left = True
        for end in (self._listening, self._client):
            if end is not None:
                with contextlib.suppress(OSError):  # the other side was first
                    end.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listening.close()
        os.close(self._image)

    def cut_power(self) -> int:
        """Lose the write cache, but for the sectors that the drive happened to have written; return how many are lost."""
        with self._lock:
            lost = 0
            for sector, content in self._unflushed.items():
                if self._random.random() < 0.5:
                    os.pwrite(self._image, content, sector * SECTOR_BYTES)
                else:
                    lost += 1
            self._unflushed.clear()
            return lost

    def _serve(self) -> None:
        while not self._left:
            # QEMU was killed, or this disk is being left.
            with contextlib.suppress(OSError, EOFError):
                self._client, _ = self._listening.accept()
                with self._client, self._client.makefile("rwb") as stream:
                    wire = _Wire(stream)
                    self._negotiate(wire)
                    self._transmit(wire)

    def _negotiate(self, wire: _Wire) -> None:
        wire.send(_MAGIC + struct.pack(">H", _FIXED_NEWSTYLE | _NO_ZEROES))
        wire.take(4)
        while True:
            _, option, length = struct.unpack(">QII", wire.take(16))
            wire.take(length)
            if option != _OPTION_GO:
                wire.send(struct.pack(">QIII", _OPTION_REPLY_MAGIC, option, _REPLY_UNSUPPORTED, 0))
                continue
            export = struct.pack(">HQH", 0, self._size, _EXPORT_FLAGS)
            wire.send(struct.pack(">QIII", _OPTION_REPLY_MAGIC, option, _REPLY_INFO, len(export)) + export)
            wire.send(struct.pack(">QIII", _OPTION_REPLY_MAGIC, option, _REPLY_ACK, 0))
            return

    def _transmit(self, wire: _Wire) -> None:
        while True:
            magic, flags, number, cookie, offset, length = _REQUEST.unpack(wire.take(_REQUEST.size))
            if magic != _REQUEST_MAGIC:
                raise EOFError("the client lost its place in the stream")
            command = Command(number)
            if command is Command.DISCONNECT:
                return
            content = wire.take(length) if command is Command.WRITE else b""
            aligned = offset % SECTOR_BYTES == 0 and length % SECTOR_BYTES == 0
            answer = b""
            if aligned:
                with self._lock:
                    answer = self._do(command, offset, length, content, forced=bool(flags & _COMMAND_FUA))
            wire.send(struct.pack(">IIQ", _SIMPLE_REPLY_MAGIC, 0 if aligned else _INVALID, cookie) + answer)

    def _do(self, command: Command, offset: int, length: int, content: bytes, *, forced: bool) -> bytes:
        sectors = range(offset // SECTOR_BYTES, (offset + length) // SECTOR_BYTES)
        if command is Command.READ:
            kept = bytearray(os.pread(self._image, length, offset))
            for place, sector in enumerate(sectors):
                if sector in self._unflushed:
                    kept[place * SECTOR_BYTES : (place + 1) * SECTOR_BYTES] = self._unflushed[sector]
            return bytes(kept)
        if command is Command.WRITE:
            for place, sector in enumerate(sectors):
                self._unflushed[sector] = content[place * SECTOR_BYTES : (place + 1) * SECTOR_BYTES]
        flushed = list(self._unflushed) if command is Command.FLUSH else list(sectors) if forced else []
        if self._flushing is Flushing.HONEST:
            for sector in flushed:
                os.pwrite(self._image, self._unflushed.pop(sector), sector * SECTOR_BYTES)
        return b""


class _Wire:
    """Whole messages over a buffered socket."""

    def __init__(self, stream: BufferedRWPair) -> None:
        self._stream = stream

    def take(self, length: int) -> bytes:
        content = self._stream.read(length)
        if len(content) != length:
            raise EOFError
        return content

    def send(self, content: bytes) -> None:
        self._stream.write(content)
        self._stream.flush()
