"""What a switch port needs of a Linux bridge, as rtnetlink(7) messages: a port's flags, its addresses, the bridge's ageing.

Messages of one batch are one sendmsg(2), and the kernel has carried out all of them when that returns: a process that is
killed has done all of a batch or nothing of it.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from hostward.errors import DatapathError
from hostward.gate.links import inside

# netlink(7), linux/neighbour.h, linux/if_link.h
_REQUEST_ACK, _REPLACE, _CREATE = 0x5, 0x100, 0x400
_ERROR = 2
_NEWLINK, _GETLINK, _SETLINK, _NEWNEIGH, _DELNEIGH = 16, 18, 19, 28, 29
_NUD_REACHABLE = 0x02
_NTF_USE, _NTF_MASTER, _NTF_STICKY = 0x01, 0x04, 0x40
_NDA_LLADDR = 2
_IFLA_MASTER, _IFLA_PROTINFO, _IFLA_LINKINFO = 10, 12, 18
_INFO_KIND, _INFO_DATA, _INFO_SLAVE_DATA = 1, 2, 5
_AGEING_TIME, _BOOLEANS = 4, 46
_NO_LINK_LOCAL_LEARN = 1
_LEARNING, _UNICAST_FLOOD, _FLUSH, _MULTICAST_FLOOD, _BROADCAST_FLOOD, _LOCKED, _MAB = 8, 9, 24, 27, 30, 39, 40
_NESTED, _TYPE = 0x8000, 0x3FFF

_HEADER = struct.Struct("=IHHII")
_LINK = struct.Struct("=BxHiII")
_NEIGHBOUR = struct.Struct("=B3xiHBB")
_ATTRIBUTE = struct.Struct("=HH")
_LIMIT_S = 5.0
# Ageing is counted in hundredths of a second (USER_HZ).
AGEING_STEP_MS = 10


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a batch; ``harmless`` is the error that says it is so already."""

    kind: int
    flags: int
    body: bytes
    harmless: int = 0


def open_addresses(ifindex: int, addresses: Sequence[bytes]) -> list[Message]:
    """Let frames of and for these MAC addresses pass. They age, and no frame elsewhere in the bridge can move them."""
    return [
        _neighbour(_NEWNEIGH, ifindex, address, _CREATE | _REPLACE, _NTF_MASTER | _NTF_STICKY) for address in addresses
    ]


def renew_addresses(ifindex: int, addresses: Sequence[bytes]) -> list[Message]:
    """Start the age of open addresses anew, which replacing an entry by itself does not."""
    return [
        _neighbour(_NEWNEIGH, ifindex, address, _CREATE | _REPLACE, _NTF_MASTER | _NTF_USE) for address in addresses
    ]


def close_addresses(ifindex: int, addresses: Sequence[bytes]) -> list[Message]:
    """Take them away; what has aged already is no error."""
    return [_neighbour(_DELNEIGH, ifindex, address, 0, _NTF_MASTER, errno.ENOENT) for address in addresses]


def port_flags(ifindex: int, *, locked: bool, unknown: bool, groups: bool) -> Message:
    """A port's flags. ``unknown`` and ``groups``: it is sent frames for unknown addresses, for groups and for everybody.

    A locked port learns nothing, and takes no address for authorized because frames came from it (MAB).
    """
    values = {
        _LEARNING: not locked,
        _UNICAST_FLOOD: unknown,
        _MULTICAST_FLOOD: groups,
        _BROADCAST_FLOOD: groups,
        _LOCKED: locked,
        _MAB: False,
    }
    nested = b"".join(_attribute(kind, bytes([value])) for kind, value in values.items())
    body = _LINK.pack(socket.AF_BRIDGE, 0, ifindex, 0, 0) + _attribute(_IFLA_PROTINFO | _NESTED, nested)
    return Message(_SETLINK, 0, body)


def forget_learnt(ifindex: int) -> Message:
    """Take away every address of a port but static ones: what it had learnt before it was locked would pass."""
    body = _LINK.pack(socket.AF_BRIDGE, 0, ifindex, 0, 0) + _attribute(
        _IFLA_PROTINFO | _NESTED, _attribute(_FLUSH, b"")
    )
    return Message(_SETLINK, 0, body)


def bridge_ageing(ifindex: int, ageing_ms: int) -> Message:
    """How long an address lives without renewal; rounded down. Frames for 01:80:c2:00:00:0X teach no address any more."""
    steps = max(1, ageing_ms // AGEING_STEP_MS)
    booleans = struct.pack("=II", _NO_LINK_LOCAL_LEARN, _NO_LINK_LOCAL_LEARN)
    data = _attribute(_AGEING_TIME, struct.pack("=I", steps)) + _attribute(_BOOLEANS, booleans)
    nested = _attribute(_INFO_KIND, b"bridge\0") + _attribute(_INFO_DATA | _NESTED, data)
    return Message(_NEWLINK, 0, _LINK.pack(0, 0, ifindex, 0, 0) + _attribute(_IFLA_LINKINFO | _NESTED, nested))


class BridgeSocket:
    """Speaks with the kernel about the bridges of one network namespace (empty: this one). Raises DatapathError."""

    def __init__(self, netns: str) -> None:
        try:
            self._socket = inside(
                netns, lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
            )
            self._socket.bind((0, 0))
            self._socket.settimeout(_LIMIT_S)
        except OSError as error:
            raise DatapathError(f"no netlink socket: {error.strerror}", subject=netns) from error
        self._sequence = 0

    def close(self) -> None:
        """Nothing of the kernel's state changes."""
        self._socket.close()

    def carry_out(self, messages: Sequence[Message]) -> None:
        """One batch. Raises DatapathError with the first refusal, and whatever was not refused was done."""
        first = self._sequence + 1
        refusals = [
            (message, number)
            for message, (_, body) in zip(messages, self._ask(messages), strict=True)
            if (number := -struct.unpack_from("=i", body)[0]) not in (0, message.harmless)
        ]
        if refusals:
            message, number = refusals[0]
            raise DatapathError(
                f"the bridge refused message {message.kind} of batch {first}: {os.strerror(number)}",
                hint="the port has to be in its bridge, and the kernel to know locked ports (Linux 5.18)",
            )

    def is_locked_in(self, ifindex: int, bridge: int) -> bool:
        """Whether a device is a locked port of a bridge, as the kernel says: an old one takes the flag for nothing."""
        ((kind, body),) = self._ask([Message(_GETLINK, 0, _LINK.pack(0, 0, ifindex, 0, 0))], acknowledged=False)
        if kind != _NEWLINK:
            raise DatapathError("the port's device cannot be read", subject=str(ifindex))
        link = _attributes(body[_LINK.size :])
        port = _attributes(_attributes(link.get(_IFLA_LINKINFO, b"")).get(_INFO_SLAVE_DATA, b""))
        return link.get(_IFLA_MASTER) == struct.pack("=I", bridge) and port.get(_LOCKED) == b"\1"

    def _ask(self, messages: Sequence[Message], *, acknowledged: bool = True) -> list[tuple[int, bytes]]:
        """Kind and body of each message's answer, in their order."""
        sent, wanted = b"", []
        for message in messages:
            self._sequence = self._sequence % 0xFFFFFFFF + 1
            wanted.append(self._sequence)
            flags = message.flags | (_REQUEST_ACK if acknowledged else 1)
            head = _HEADER.pack(_HEADER.size + len(message.body), message.kind, flags, self._sequence, 0)
            sent += _padded(head + message.body)
        answers: dict[int, tuple[int, bytes]] = {}
        try:
            self._socket.sendto(sent, (0, 0))
            while not answers.keys() >= set(wanted):
                answers |= _answers(self._socket.recv(1 << 16))
        except OSError as error:
            raise DatapathError(f"the kernel does not answer: {error}") from error
        return [answers[number] for number in wanted]


def _answers(data: bytes) -> dict[int, tuple[int, bytes]]:
    found, at = {}, 0
    while at + _HEADER.size <= len(data):
        length, kind, _, sequence, _ = _HEADER.unpack_from(data, at)
        found[sequence] = (kind, data[at + _HEADER.size : at + length])
        at += max(_HEADER.size, (length + 3) & ~3)
    return found


def _attributes(data: bytes) -> dict[int, bytes]:
    found, at = {}, 0
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < _ATTRIBUTE.size:
            break
        found[kind & _TYPE] = data[at + _ATTRIBUTE.size : at + length]
        at += (length + 3) & ~3
    return found


def _attribute(kind: int, value: bytes) -> bytes:
    return _padded(_ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _neighbour(kind: int, ifindex: int, address: bytes, flags: int, how: int, harmless: int = 0) -> Message:
    body = _NEIGHBOUR.pack(socket.AF_BRIDGE, ifindex, _NUD_REACHABLE, how, 0) + _attribute(_NDA_LLADDR, address)
    return Message(kind, flags, body, harmless)
