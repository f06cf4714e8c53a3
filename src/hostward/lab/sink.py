"""The judge: a packet socket beyond the point of enforcement, which says what arrived. Hostward's counters have no say.

It never waits for nothing to come: whoever attacked then sends a marker that must pass, on the same way, and what had not
arrived before the marker did not arrive. Sender and marker run on one CPU, whose backlog keeps their order.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable
from types import TracebackType

from hostward.errors import HostwardError
from hostward.lab.inside import packet_socket

_MARKER_LIMIT_S = 5.0


class Sink:
    """Counts frames on a device from its making on; a context manager."""

    def __init__(self, namespace: str, device: str, *, outgoing: bool) -> None:
        """``outgoing``: the device is a host's side (a tap), and what counts is what leaves by it."""
        self._socket = packet_socket(namespace, device)
        self._direction = socket.PACKET_OUTGOING if outgoing else None
        self._frames: list[bytes] = []

    def __enter__(self) -> Sink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def collect(self, mark: Callable[[], bytes]) -> list[bytes]:
        """Everything that came before the marker. ``mark`` sends it, and returns bytes that only it contains."""
        needle = mark()
        deadline_s = time.monotonic() + _MARKER_LIMIT_S
        while True:
            left_s = deadline_s - time.monotonic()
            if left_s <= 0 or not select.select([self._socket], [], [], left_s)[0]:
                raise HostwardError("the marker did not arrive, so the sink cannot judge", hint="is its flow allowed?")
            frame, origin = self._socket.recvfrom(65536)
            if (origin[2] == socket.PACKET_OUTGOING) != (self._direction is not None):
                continue
            if needle in frame:
                return self._frames
            self._frames.append(frame)


def count(frames: list[bytes], needle: bytes) -> int:
    """How many frames contain ``needle``."""
    return sum(needle in frame for frame in frames)
