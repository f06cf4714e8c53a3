"""A gate by a switch's port: a *locked* port of a Linux bridge, as 802.1X authenticators use it (bridge(8), Linux 5.18).

A locked port takes frames only from addresses that stand in the bridge's forwarding table for it. While the lease lasts
the host's addresses stand there. They are *dynamic* entries, the port learns nothing, and the bridge's ageing time is
seven eighths of what is left of the lease, since the kernel's timers may be an eighth late: so the kernel takes them away
by itself if this process is dead. A thread of the driver renews them until the deadline. What else stands there for the
port is forgotten, except the static entries that an operator made.

What it cannot do:

* There is no quarantine profile: closed is closed. In a real network attestation and pulses go by another VLAN or port.
* Frames that it keeps out are not counted.
* With this process dead, what is sent to groups and to everybody still reaches the host after the deadline, though nothing
  comes from it, and nothing that is sent to it alone arrives. What the bridge itself sends to everybody always does.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from hostward.errors import DatapathError, NotFoundError, UsageError
from hostward.gate.bridge_port import (
    AGEING_STEP_MS,
    BridgeSocket,
    Message,
    bridge_ageing,
    close_addresses,
    forget_learnt,
    open_addresses,
    port_flags,
    renew_addresses,
)
from hostward.gate.driver import FOREVER_NS, Capabilities, Dropped

log = logging.getLogger(__name__)

_MS = 1_000_000
_LIFE_MS_MAX = 3_600_000
# The kernel looks for aged entries from a work queue; so much before the deadline it is asked to.
_EARLY_NS = 20 * _MS
# An ageing time is the whole bridge's: the last moments of one port's lease must not make the others flap.
_SHARED_MS_MIN = 1_000
_RESOLUTION_MS = 100
_AGAIN_S = 0.05


@dataclass(frozen=True, slots=True)
class SwitchPort:
    """A port: its device and its bridge, by their numbers in ``netns``, and the MAC addresses of the host behind it."""

    name: str
    ifindex: int
    bridge: int
    addresses: tuple[bytes, ...]
    netns: str = ""


class SwitchPortDriver:
    """A ``Driver`` over bridges' ports. ``remove`` ends its thread and leaves the ports closed."""

    def __init__(self, ports: Sequence[SwitchPort]) -> None:
        if len({port.name for port in ports}) != len(ports):
            raise UsageError("two ports of a gate have one name", subject=", ".join(port.name for port in ports))
        self._ports = {port.name: port for port in ports}
        self._deadlines = dict.fromkeys(self._ports, 0)
        self._changed = threading.Condition()
        self._stopped = False
        self._open_still: set[str] = set()  # could not be closed
        self._sockets: dict[str, BridgeSocket] = {}
        try:
            for port in ports:
                if port.netns not in self._sockets:
                    self._sockets[port.netns] = BridgeSocket(port.netns)
                self._shut(port)
                if not self._sockets[port.netns].is_locked_in(port.ifindex, port.bridge):
                    raise DatapathError(
                        "this is no port of that bridge that can be locked", subject=port.name, hint="needs Linux 5.18"
                    )
        except DatapathError:
            self._close_sockets()
            raise
        self._keeper = threading.Thread(target=self._keep, name="switch ports' deadlines", daemon=True)
        self._keeper.start()

    def capabilities(self) -> Capabilities:
        """See ``Driver``. By itself a port that shares its bridge may close up to a second late."""
        bridges = {(port.netns, port.bridge) for port in self._ports.values()}
        resolution_ms = _RESOLUTION_MS if len(bridges) == len(self._ports) else _SHARED_MS_MIN + _RESOLUTION_MS
        return Capabilities(
            True, resolution_ms, 200, _LIFE_MS_MAX, both_directions=True, counts=False, has_profile=False
        )

    def ports(self) -> tuple[str, ...]:
        """See ``Driver``."""
        return tuple(self._ports)

    def open_until(self, port: str, deadline_ns: int) -> None:
        """See ``Driver``. For ever is an unlocked port: the audit mode keeps no address out."""
        found = self._port(port)
        with self._changed:
            was = self._deadlines[port]
            self._deadlines[port] = deadline_ns
            if deadline_ns - _EARLY_NS <= time.monotonic_ns():
                self._shut(found)
            elif deadline_ns == FOREVER_NS:
                self._carry_out(found, [port_flags(found.ifindex, locked=False, unknown=True, groups=True)])
            elif was in (0, FOREVER_NS):
                # In one batch with the ageing time: an address is never there with another's.
                flags = port_flags(found.ifindex, locked=True, unknown=False, groups=True)
                self._renew(found, [flags, forget_learnt(found.ifindex)])
            else:
                self._renew(found)
            if self._deadlines[port]:
                self._open_still.discard(port)
            self._changed.notify()

    def close(self, port: str, *, profile: bool) -> None:
        """See ``Driver``. There is no profile: the two ways of closing are the same."""
        with self._changed:
            self._shut(self._port(port))
            self._changed.notify()

    def dropped(self, port: str) -> Dropped:
        """See ``Driver``. A bridge does not count them."""
        self._port(port)
        return Dropped(0, 0)

    def remove(self) -> None:
        """Close every port and end the thread."""
        with self._changed:
            if self._stopped:
                return
            self._stopped = True
            self._changed.notify()
        self._keeper.join()
        try:
            for port in self._ports.values():
                self._shut(port)
        finally:
            self._close_sockets()

    def _shut(self, port: SwitchPort) -> None:
        """Also takes away what a killed gate had left; frames from the host stop first. What fails is tried again."""
        self._deadlines[port.name] = 0
        flags = port_flags(port.ifindex, locked=True, unknown=False, groups=False)
        closed = [*close_addresses(port.ifindex, port.addresses), flags, forget_learnt(port.ifindex)]
        try:
            self._carry_out(port, closed)
        except DatapathError:
            self._open_still.add(port.name)
            raise
        self._open_still.discard(port.name)
        # Its lease may have been the shortest of the bridge.
        self._renew(port)

    def _renew(self, port: SwitchPort, first: Sequence[Message] = ()) -> None:
        """Let the open addresses of a port's bridge live as long as the shortest of its leases, counted from now.

        In one batch, behind ``first``: a shorter ageing time must find young entries, and they must not find a longer one.
        """
        beside = self._beside(port)
        if not beside:
            return
        left_ns = min(self._deadlines[other.name] for other in beside) - _EARLY_NS - time.monotonic_ns()
        left_ms = max(AGEING_STEP_MS if len(beside) == 1 else _SHARED_MS_MIN, left_ns * 7 // 8 // _MS)
        renewed = [
            message
            for other in beside
            for make in (open_addresses, renew_addresses)
            for message in make(other.ifindex, other.addresses)
        ]
        self._carry_out(port, [*first, *renewed, bridge_ageing(port.bridge, left_ms)])

    def _keep(self) -> None:
        """Close what has come to its end, and meanwhile renew what outlives the ageing time."""
        with self._changed:
            while not self._stopped:
                self._changed.wait(self._pause_s())
                for port in self._ports.values():
                    stuck = port.name in self._open_still
                    try:
                        self._look_after(port)
                    except DatapathError as error:
                        if not stuck:
                            log.error("the port does not obey, and is tried again: %s", error)

    def _look_after(self, port: SwitchPort) -> None:
        end_ns = self._deadlines[port.name]
        if port.name in self._open_still or (end_ns and end_ns - _EARLY_NS <= time.monotonic_ns()):
            self._shut(port)
        elif end_ns not in (0, FOREVER_NS):
            self._renew(port)

    def _pause_s(self) -> float | None:
        """Until there is something to do, in seconds; None: until something changes."""
        if self._stopped:
            return 0.0
        if self._open_still:
            return _AGAIN_S
        ends = [end for end in self._deadlines.values() if end not in (0, FOREVER_NS)]
        if not ends:
            return None
        until_s = max(0.0, (min(ends) - _EARLY_NS - time.monotonic_ns()) / 1e9)
        return until_s if until_s < _AGAIN_S else until_s / 2

    def _beside(self, port: SwitchPort) -> list[SwitchPort]:
        """The ports with a lease on a port's bridge; one whose time has come is not renewed again, however late we are."""
        now_ns = time.monotonic_ns()
        return [
            other
            for other in self._ports.values()
            if (other.netns, other.bridge) == (port.netns, port.bridge)
            and now_ns + _EARLY_NS < self._deadlines[other.name] < FOREVER_NS
        ]

    def _carry_out(self, port: SwitchPort, messages: Sequence[Message]) -> None:
        try:
            self._sockets[port.netns].carry_out(messages)
        except DatapathError as error:
            raise DatapathError(error.what, subject=port.name, hint=error.hint) from error

    def _close_sockets(self) -> None:
        for held in self._sockets.values():
            held.close()

    def _port(self, name: str) -> SwitchPort:
        try:
            return self._ports[name]
        except KeyError:
            raise NotFoundError("the gate has no such port", subject=name) from None
