"""Telling systemd that the agent is ready and alive (sd_notify(3)); silent where no service manager listens."""

from __future__ import annotations

import os
import socket


def notify(state: str) -> None:
    """Send one ``NAME=value`` line to the service manager."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):  # an abstract socket
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        try:
            sender.sendto(state.encode(), address)
        except OSError:
            return  # the service manager's loss; enforcement does not depend on it


def watchdog_period_s() -> float | None:
    """How often the service manager wants a sign of life; None if it does not."""
    period_us = os.environ.get("WATCHDOG_USEC", "")
    if not period_us.isdigit() or os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    return int(period_us) / 1_000_000 / 2  # half of it, as sd_watchdog_enabled(3) advises
