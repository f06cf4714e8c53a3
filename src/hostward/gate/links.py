"""The links of the gate's ports: their numbers, and when one went down, as the kernel tells (rtnetlink(7)).

Whoever is behind a link that was down may be another host; so that is told even if the link is up again by the time anybody
looks: the kernel counts how often a carrier was lost.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import logging
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from hostward.errors import DeviceError

log = logging.getLogger(__name__)

_T = TypeVar("_T")
_CLONE_NEWNET = 0x40000000
# rtnetlink(7), netdevice(7), linux/if_link.h
_RTMGRP_LINK = 1
_NEWLINK, _DELLINK = 16, 17
_IFF_UP, _IFF_RUNNING = 0x1, 0x40
_CARRIER_DOWN_COUNT = 48
_HEADER = struct.Struct("=IHHII")
_LINK = struct.Struct("=BxHiII")
_ATTRIBUTE = struct.Struct("=HH")
_COUNT = struct.Struct("=I")
# netlink(7): NLM_F_REQUEST and NLM_F_DUMP
_ALL_LINKS = _HEADER.pack(_HEADER.size + _LINK.size, 18, 0x301, 1, 0) + _LINK.pack(0, 0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class LinkState:
    """What one message says of a link. ``lost`` is how often its carrier was lost."""

    ifindex: int
    up: bool
    lost: int | None
    gone: bool = False


def namespace_path(netns: str) -> str:
    """The file of a network namespace: a name is one of ip-netns(8)."""
    return netns if netns.startswith("/") else f"/run/netns/{netns}"


def inside(netns: str, work: Callable[[], _T]) -> _T:
    """Run something in a network namespace (empty: this one), on a thread of its own that is used for nothing else."""
    if not netns:
        return work()
    results: list[_T] = []
    failures: list[OSError] = []

    def move() -> None:
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            descriptor = os.open(namespace_path(netns), os.O_RDONLY | os.O_CLOEXEC)
            try:
                if libc.setns(descriptor, _CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), netns)
            finally:
                os.close(descriptor)
            results.append(work())
        except OSError as error:
            failures.append(error)

    thread = threading.Thread(target=move, name=f"inside {netns}")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]


def device_number(netns: str, device: str) -> int:
    """A device's number in its namespace. Raises DeviceError."""
    try:
        return inside(netns, lambda: socket.if_nametoindex(device))
    except OSError as error:
        where = f" in namespace {netns}" if netns else ""
        raise DeviceError(f"there is no such device{where}: {error.strerror}", subject=device) from error


def open_link_socket(netns: str) -> socket.socket:
    """A socket that is told of every link of a namespace, as it is and as it changes. Raises OSError."""

    def bound() -> socket.socket:
        made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        made.bind((0, _RTMGRP_LINK))
        made.send(_ALL_LINKS)
        made.setblocking(False)
        return made

    return inside(netns, bound)


def parse_links(data: bytes) -> Iterator[LinkState]:
    """The links that the kernel's messages tell of; of other messages nothing."""
    at = 0
    while at + _HEADER.size <= len(data):
        length, kind, *_ = _HEADER.unpack_from(data, at)
        end = at + length
        if length < _HEADER.size or end > len(data):
            return
        if kind in (_NEWLINK, _DELLINK) and length >= _HEADER.size + _LINK.size:
            family, _, ifindex, flags, _ = _LINK.unpack_from(data, at + _HEADER.size)
            up = kind == _NEWLINK and flags & _IFF_UP != 0 and flags & _IFF_RUNNING != 0
            if family == socket.AF_UNSPEC:  # a bridge tells of its ports in messages of its own
                losses = _carrier_losses(data[at + _HEADER.size + _LINK.size : end])
                yield LinkState(ifindex, up, losses, kind == _DELLINK)
        at += (length + 3) & ~3


def _carrier_losses(attributes: bytes) -> int | None:
    at = 0
    while at + _ATTRIBUTE.size <= len(attributes):
        length, kind = _ATTRIBUTE.unpack_from(attributes, at)
        if length < _ATTRIBUTE.size:
            break
        if kind == _CARRIER_DOWN_COUNT and length == 8:
            (lost,) = _COUNT.unpack_from(attributes, at + _ATTRIBUTE.size)
            return int(lost)
        at += (length + 3) & ~3
    return None


class LinkWatch:
    """The links of one namespace. ``ports`` are names by the numbers of their hosts' devices."""

    def __init__(self, listening: socket.socket, ports: Mapping[int, str], on_down: Callable[[str], None]) -> None:
        self._socket, self._ports, self._on_down = listening, dict(ports), on_down
        self._up = dict.fromkeys(self._ports, True)
        self._lost: dict[int, int] = {}

    async def run(self) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                data = await loop.sock_recv(self._socket, 1 << 16)
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                log.error("the kernel had more to tell of links than was read: every lease is dropped")
                for port in self._ports.values():
                    self._on_down(port)
                continue
            self.take(data)

    def take(self, data: bytes) -> None:
        """What the kernel sent."""
        for link in parse_links(data):
            port = self._ports.get(link.ifindex)
            if port is None:
                continue
            before = self._lost.get(link.ifindex)
            flapped = before is not None and link.lost is not None and link.lost != before
            if link.lost is not None:
                self._lost[link.ifindex] = link.lost
            fell, self._up[link.ifindex] = self._up[link.ifindex] and not link.up, link.up
            if fell or flapped:
                self._on_down(port)
            if link.gone:
                # One that is made anew has another number, and nothing of the gate is on it.
                log.error("port %s: its device is gone; start the gate anew when there is one again", port)
