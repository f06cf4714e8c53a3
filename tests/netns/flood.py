"""Floods of frames from a workload's device, and the sink behind the port that counts what gets through."""

from __future__ import annotations

import ctypes
import json
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Sequence
from ipaddress import ip_address

from tests.netns import frames as f
from tests.netns.pair import Pair, in_namespace, inside_of

_PACKET_STATISTICS = 6  # linux/if_packet.h
_SO_ATTACH_FILTER = 26
_EVERYTHING = 3
_AT_ONCE = 256


class _Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_char_p), ("length", ctypes.c_size_t))


class _Message(ctypes.Structure):
    """struct mmsghdr; Python has no sendmmsg(2)."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("iov", ctypes.POINTER(_Iovec)),
        ("iov_length", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
        ("length", ctypes.c_uint32),
    )


_sendmmsg = ctypes.CDLL(None, use_errno=True).sendmmsg


def opened(pair: Pair, name: str, protocol: int = 0) -> socket.socket:
    """A packet socket at a workload's own device."""

    def bound() -> socket.socket:
        made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        made.bind(("eth0", protocol))
        return made

    return in_namespace(pair.namespace(name), bound)


class Flood:
    """Sends frames from a workload's device, as fast as they go, while other threads run."""

    def __init__(self, pair: Pair, sender: str, frames: Sequence[bytes]) -> None:
        self.socket = opened(pair, sender)
        self.sent = 0
        self._vectors = (_Iovec * len(frames))(*(_Iovec(frame, len(frame)) for frame in frames))
        self._messages = (_Message * len(frames))(
            *(_Message(None, 0, ctypes.pointer(vector), 1, None, 0, 0, 0) for vector in self._vectors)
        )

    def pour(self, times: int = 1) -> None:
        """Every frame, so many times over."""
        size = ctypes.sizeof(_Message)
        for _ in range(times):
            at = 0
            while at < len(self._messages):
                count = min(_AT_ONCE, len(self._messages) - at)
                taken = _sendmmsg(self.socket.fileno(), ctypes.byref(self._messages, at * size), count, 0)
                if taken < 0:
                    raise OSError(ctypes.get_errno(), "sendmmsg")
                at += taken
                self.sent += taken


class Sink:
    """Counts the frames that reach a workload's device with an address that nobody else sends from or to.

    The kernel counts what its filter lets through; whether anybody reads it does not matter.
    """

    def __init__(self, pair: Pair, at: str, address: str, *, source: bool) -> None:
        packed = ip_address(address)
        first = (26 if source else 30) if packed.version == 4 else (34 if source else 50)
        load, equal, give = 0x20, 0x15, 0x06  # linux/filter.h: ld [k], jeq #k, ret #k
        code = (
            (0x28, 0, 0, 12),
            (equal, 0, 3, f.IPV4 if packed.version == 4 else f.IPV6),
            (load, 0, 0, first),
            (equal, 0, 1, int.from_bytes(packed.packed[-4:])),
            (give, 0, 0, 64),
            (give, 0, 0, 0),
        )
        program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in code))
        self.socket = opened(pair, at)
        header = struct.pack("HL", len(code), ctypes.addressof(program))
        self.socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, header)
        self.socket.bind(("eth0", _EVERYTHING))
        self._arrived = 0

    def arrived(self) -> int:
        """So many since it was opened."""
        # Those that the queue had no room for are among them: packet_getsockopt() adds its drops.
        packets, _ = struct.unpack("=II", self.socket.getsockopt(263, _PACKET_STATISTICS, 8))  # SOL_PACKET
        self._arrived += packets
        return self._arrived


def unread(pair: Pair, name: str) -> int:
    """Frames that the kernel dropped in a workload's veth before anything looked at them, in either direction.

    A processor's backlog holds netdev_max_backlog frames; beyond them neither the filter nor the sink sees any.
    """
    shown = [
        subprocess.run(
            [*where, "ip", "-json", "-statistics", "link", "show", "dev", device],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for where, device in (((), pair.device(name)), (inside_of(pair.namespace(name)), "eth0"))
    ]
    return sum(int(json.loads(text)[0]["stats64"]["rx"]["dropped"]) for text in shown)


def comes_to(expected: int, measured: Callable[[], int]) -> bool:
    """Whether a count reaches what is expected; frames may still be on their way, and none comes twice."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        if measured() == expected:
            return True
        time.sleep(0.01)
    return False
