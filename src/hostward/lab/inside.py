"""Sockets that live in an endpoint's network namespace, used from here: exactly what a program in there could do.

A socket belongs to the namespace in which its thread made it, for ever. So one thread enters, makes it, and comes back.
"""

from __future__ import annotations

import ctypes
import os
import socket
import threading

from hostward.errors import HostwardError

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def socket_in(namespace: str, family: int, kind: int, protocol: int = 0) -> socket.socket:
    """A socket in the namespace at ``namespace``, a path such as /run/netns/NAME. Raises HostwardError."""
    made: list[socket.socket] = []
    failed: list[OSError] = []

    def enter_and_make() -> None:
        # The thread ends in the other namespace; nothing else ever runs on it.
        try:
            descriptor = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
            try:
                if _libc.setns(descriptor, _CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), "the namespace cannot be entered")
            finally:
                os.close(descriptor)
            made.append(socket.socket(family, kind, protocol))
        except OSError as error:
            failed.append(error)

    thread = threading.Thread(target=enter_and_make, name="enter a namespace")
    thread.start()
    thread.join()
    if failed:
        raise HostwardError(failed[0].strerror or str(failed[0]), subject=namespace) from failed[0]
    return made[0]


def packet_socket(namespace: str, device: str) -> socket.socket:
    """A raw socket on a device: sends whole frames, and sees every frame that the device takes in or gives out."""
    every_protocol = 0x0003  # ETH_P_ALL; bind(2) in Python takes host order
    # Bound before it listens: made with protocol 0, it gets nothing from other devices in between.
    made = socket_in(namespace, socket.AF_PACKET, socket.SOCK_RAW)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    made.bind((device, every_protocol))
    return made
