"""Two TCP ends and a network between them that loses, repeats and reorders, as far as RFC 9293 allows each of them.

Ends keep to what they must: no data behind the peer's window, acknowledgements of what came, windows whose right edge does
not move back. When they send is not theirs to choose: the caller draws it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.netns import frames as f

MAX_SEGMENT = 700


@dataclass(frozen=True, slots=True)
class Packet:
    """A segment on its way. Numbers are absolute, modulo nothing; the wire takes them modulo 2^32."""

    flags: int
    seq: int
    payload: int
    ack: int
    window: int
    options: bytes = b""

    @property
    def end(self) -> int:
        return self.seq + self.payload + bool(self.flags & f.SYN) + bool(self.flags & f.FIN)

    def segment(self, source: int, destination: int) -> bytes:
        return f.tcp(
            source,
            destination,
            self.flags,
            self.options + bytes(self.payload),
            seq=self.seq,
            ack=self.ack if self.flags & f.ACK else 0,
            window=self.window,
            header_words=5 + len(self.options) // 4,
        )


@dataclass(slots=True)
class End:
    """One end behind the handshake, or in it. ``capacity`` is its buffer in bytes; ``scale`` what it offers, or None."""

    first: int
    capacity: int
    scale: int | None
    sent: list[Packet] = field(default_factory=list)
    # Its send queue's sequence space: what is not acknowledged yet, by first number.
    una: int = 0
    next: int = 0
    received: int = 0
    unread: int = 0
    peer_edge: int = 0
    scaled: bool = False
    peer_scale: int = 0
    finished: bool = False
    synchronised: bool = False
    edge: int = 0  # the highest that it has let the peer send

    def __post_init__(self) -> None:
        self.una = self.next = self.first

    def syn(self, *, answer: bool) -> None:
        options = (
            b"\x01\x03\x03" + bytes([self.scale]) if self.scale is not None and (not answer or self.scaled) else b""
        )
        window = min(self.capacity, 65_535)
        flags = f.SYN | f.ACK if answer else f.SYN
        self.sent.append(Packet(flags, self.first, 0, self.received, window, options))
        self.next = self.first + 1
        self.edge = max(self.edge, self.received + window) if answer else self.edge

    def data(self, size: int, *, fin: bool = False) -> None:
        """New data as far as the peer's window allows, and a FIN behind it if nothing is left out."""
        if self.finished or not self.synchronised:
            return
        size = max(0, min(size, MAX_SEGMENT, self.peer_edge - self.next))
        flags = f.ACK | (f.FIN if fin and size else 0)
        if not size:
            return
        self._send(Packet(flags, self.next, size, self.received, self._window()))
        self.next = self.sent[-1].end
        self.finished = bool(flags & f.FIN)

    def again(self, size: int) -> None:
        """The oldest data that is not acknowledged, once more."""
        if not self.synchronised or self.una == self.next:
            return
        whole = self.next - self.finished
        payload = max(0, min(size, MAX_SEGMENT, whole - self.una))
        flags = f.ACK | (f.FIN if self.finished and self.una + payload == whole else 0)
        self._send(Packet(flags, self.una, payload, self.received, self._window()))

    def keep_alive(self) -> None:
        if self.synchronised:
            self._send(Packet(f.ACK, self.una - 1, 0, self.received, self._window()))

    def read(self, size: int) -> None:
        """The application takes data, and the window is told."""
        self.unread -= min(size, self.unread)
        if self.synchronised:
            self._send(Packet(f.ACK, self.next, 0, self.received, self._window()))

    def take(self, packet: Packet) -> None:
        """A segment has come."""
        if packet.flags & f.SYN:
            self._take_syn(packet)
            return
        if not self.synchronised:
            if not self.received or packet.ack != self.first + 1:
                return
            self.una = self.first + 1
            self.synchronised = True
        if packet.ack > self.next or packet.seq > self.edge + 1:
            return
        self.una = max(self.una, packet.ack)
        self.peer_edge = max(self.peer_edge, packet.ack + (packet.window << self.peer_scale))
        room = self.edge - self.received
        data_end = packet.seq + packet.payload
        new = min(data_end - self.received, room)
        if packet.seq <= self.received and new > 0:
            self.received += new
            self.unread += new
        if packet.flags & f.FIN and self.received == data_end:
            self.received += 1
        if packet.payload or packet.flags & f.FIN or packet.seq < self.received:
            self._send(Packet(f.ACK, self.next, 0, self.received, self._window()))

    def knows(self, packet: Packet) -> bool:
        """Whether a segment tells this end nothing new: to lose it is no loss."""
        if packet.flags & f.SYN:
            return self.synchronised
        edge = packet.ack + (packet.window << self.peer_scale)
        return packet.end <= self.received and packet.ack <= self.una and edge <= self.peer_edge

    def _take_syn(self, packet: Packet) -> None:
        if self.synchronised:
            self._send(Packet(f.ACK, self.next, 0, self.received, self._window()))
            return
        self.received = packet.seq + 1
        self.edge = max(self.edge, self.received + min(self.capacity, 65_535))
        offered = packet.options[3] if packet.options else None
        self.scaled = self.scale is not None and offered is not None
        self.peer_scale = min(offered or 0, 14) if self.scaled else 0
        if packet.flags & f.ACK:
            self.una, self.synchronised = packet.ack, True
            self.peer_edge = packet.ack + packet.window
            self._send(Packet(f.ACK, self.next, 0, self.received, self._window()))
        else:
            self.peer_edge = self.first + 1 + packet.window
            self.syn(answer=True)

    def _send(self, packet: Packet) -> None:
        self.sent.append(packet)

    def _window(self) -> int:
        """The window in its units: never less than was promised, as far as units allow (RFC 7323, section 2.4)."""
        scale = min(self.scale or 0, 14) if self.scaled else 0
        free = self.capacity - self.unread
        promised = max(0, self.edge - self.received)
        window = min(max(free >> scale, -(-promised >> scale)), 65_535)
        self.edge = max(self.edge, self.received + (window << scale))
        return window
