"""What reaches a workload, counted at its own device, beyond whatever filters: the sink of the tests of attacks."""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping

from tests.netns import frames as f
from tests.netns.pair import Pair

_EVERYTHING = 3  # ETH_P_ALL
# After the last frame that arrives. What has not come over a veth by then was dropped.
_QUIET_S = 0.4


def between(pair: Pair, source: str, destination: str, protocol: int, payload: bytes, family: int = 4) -> bytes:
    """A good frame from one workload to the other."""
    ends = pair.address(source, family), pair.address(destination, family)
    return framed(pair, source, destination, f.ip(*ends, protocol, payload))


def framed(pair: Pair, source: str, destination: str, packet: bytes) -> bytes:
    """A good frame around any IP packet; an IPv4 header gets its checksum, or the receiver's bridge would drop it."""
    if packet[0] >> 4 == 6:
        return f.ethernet(packet, source=pair.mac(source), destination=pair.mac(destination), ethertype=f.IPV6)
    end = (packet[0] & 0xF) * 4
    packet = packet[:10] + b"\0\0" + packet[12:]
    packet = packet[:10] + struct.pack("!H", f.checksum(packet[:end])) + packet[12:]
    return f.ethernet(packet, source=pair.mac(source), destination=pair.mac(destination), ethertype=f.IPV4)


def _as_received(frame: bytes) -> bytes:
    """A packet socket shows a VLAN tag beside the frame, not in it."""
    return frame[:12] + frame[16:] if frame[12:14] == b"\x81\x00" else frame


def arriving(pair: Pair, frames: Mapping[str, bytes], *, sender: str, at: str) -> set[str]:
    """The names of the frames that reach a workload; ``sender`` is the other workload, or `network`: from the bridge."""
    named = {_as_received(frame): name for name, frame in frames.items()}
    assert len(named) == len(frames), "two frames are alike"

    def opened() -> socket.socket:
        return socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_EVERYTHING))

    with (
        opened() if sender == "network" else pair.inside(sender, opened) as source,
        pair.inside(at, opened) as sink,
    ):
        source.bind((pair.bridge if sender == "network" else "eth0", 0))
        sink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        sink.bind(("eth0", _EVERYTHING))
        sink.settimeout(_QUIET_S)
        for frame in frames.values():
            source.send(frame)
        found = set()
        while True:
            try:
                frame, address = sink.recvfrom(65_536)
            except TimeoutError:
                return found
            if address[2] != socket.PACKET_OUTGOING and frame in named:
                found.add(named[frame])
