"""TCP frames between the benchmark's endpoint and a peer, and where a test run rewrites them to visit many flows."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntFlag
from ipaddress import ip_address

from hostward.datapath.bench_slice import FIRST_PEER, LOCAL, MAC, peer_address

# The length that published figures of others use; a handshake's segments carry 20 bytes of options, as Linux sends them.
DATA_FRAME_BYTES = 118
# Maximum segment size, selective acknowledgement, timestamps, and the largest window scale: many batches' data fit in one
# window (RFC 9293 section 3.2, RFC 2018 section 2, RFC 7323 sections 2.2 and 3.2).
_OPTIONS = bytes.fromhex("020405b40402080a00000001000000000103030e")
_PEER_MAC = "02:00:00:00:00:02"
_ETHERNET_BYTES = 14
_IP_BYTES = {4: 20, 6: 40}
# Where the last 32 bits of source and destination address stand in an IP header.
_ADDRESS_TAILS = {4: (12, 16), 6: (20, 36)}
FIRST_PORT = 10_000
# Of both directions; the SYN takes it.
_FIRST_SEQ = 1


class TcpFlags(IntFlag):
    """RFC 9293, section 3.1."""

    SYN = 0x02
    PSH = 0x08
    ACK = 0x10


@dataclass(frozen=True, slots=True)
class Conversation:
    """TCP connections of one family to one service port. ``opener`` is the direction of their first packet."""

    family: int
    opener: str
    service_port: int

    def frame(self, direction: str, flags: TcpFlags) -> bytes:
        """The first connection's frame in a direction; with data unless it is a SYN."""
        ports = (FIRST_PORT, self.service_port) if direction == self.opener else (self.service_port, FIRST_PORT)
        ends = [(LOCAL[self.family], MAC), (peer_address(self.family, 0), _PEER_MAC)]
        (source, source_mac), (destination, destination_mac) = ends if direction == "egress" else reversed(ends)
        options = _OPTIONS if TcpFlags.SYN in flags else b""
        payload = bytes(self.payload_bytes(flags))
        seq = self._first_seq(flags)
        tcp = struct.pack("!HHIIBBHHH", *ports, seq, _FIRST_SEQ + 1, (20 + len(options)) // 4 << 4, flags, 65_535, 0, 0)
        segment = tcp + options + payload
        addresses = ip_address(source).packed + ip_address(destination).packed
        if self.family == 4:
            ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(segment), 0, 0, 64, 6, 0) + addresses
        else:
            ip = struct.pack("!IHBB", 6 << 28, len(segment), 6, 64) + addresses
        macs = bytes.fromhex((destination_mac + source_mac).replace(":", ""))
        return macs + (b"\x08\x00" if self.family == 4 else b"\x86\xdd") + ip + segment

    def payload_bytes(self, flags: TcpFlags) -> int:
        """How much data a frame with these flags carries."""
        return 0 if TcpFlags.SYN in flags else DATA_FRAME_BYTES - _ETHERNET_BYTES - _IP_BYTES[self.family] - 20

    def rotation(self, direction: str, flags: TcpFlags, flows: int, peers: int, rounds: int = 0) -> dict[str, int]:
        """What ``_core.Bench.rotate`` needs to visit ``flows`` connections spread over ``peers`` of the peers.

        Every visit sends new data, behind that of the ``rounds`` visits which each connection had before.
        """
        step = self.payload_bytes(flags)
        tail = _ADDRESS_TAILS[self.family][direction == "egress"]
        port = 0 if direction == self.opener else 2
        return {
            "flows": flows,
            "addresses": peers,
            "first_address": FIRST_PEER,
            "address_offset": _ETHERNET_BYTES + tail,
            "first_port": FIRST_PORT,
            "port_offset": _ETHERNET_BYTES + _IP_BYTES[self.family] + port,
            "seq": self._first_seq(flags) + rounds * step,
            "seq_step": step,
            "seq_offset": _ETHERNET_BYTES + _IP_BYTES[self.family] + 4,
        }

    def _first_seq(self, flags: TcpFlags) -> int:
        return _FIRST_SEQ if TcpFlags.SYN in flags else _FIRST_SEQ + 1
