"""A gate: leases of ports, a driver that holds to them, and what happened. What comes in are bytes of anybody's."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from hostward.errors import LeaseError, NotFoundError
from hostward.gate.driver import FOREVER_NS, Driver
from hostward.gate.messages import Grant, Mode, read_grant, read_pulse
from hostward.gate.port import PortLease, PortState

_EVENTS_MAX = 1_024


class Enforcement(Enum):
    """Whether a port without a lease is closed, or only told of (design §7, `gate.mode`)."""

    ENFORCE = "enforce"
    AUDIT = "audit"


@dataclass(frozen=True, slots=True)
class GateEvent:
    """A port changed: it was opened or closed, or in audit mode would have been."""

    at_ns: int
    state: PortState
    would: bool


class Gate:
    """One gate. ``keys`` are the controllers' that may grant; ``clock`` is CLOCK_MONOTONIC in nanoseconds.

    Starting it closes every port. It keeps nothing over a restart: that its challenges are new is what refuses old grants.
    """

    def __init__(
        self,
        name: str,
        driver: Driver,
        keys: Sequence[Ed25519PublicKey],
        clock: Callable[[], int],
        enforcement: Enforcement = Enforcement.ENFORCE,
        draw: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._driver, self._keys, self._clock, self._enforcement = driver, tuple(keys), clock, enforcement
        self._leases = {port: PortLease(name, port, draw) for port in driver.ports()}
        self._told = dict.fromkeys(self._leases, False)
        self._events: list[GateEvent] = []
        self.events_lost = 0
        for port in self._leases:
            self._hold(port)

    @property
    def ports(self) -> tuple[str, ...]:
        """The names of its ports."""
        return tuple(self._leases)

    def challenge(self, port: str) -> bytes:
        """What the next grant for a port has to carry."""
        return self._lease(port).challenge(self._clock())

    def apply(self, port: str, message: bytes) -> PortState:
        """Take a grant, a renewal or a revocation. Raises LeaseError, and everything stays as it was."""
        lease = self._lease(port)
        lease.apply(self._read_grant(message), self._clock())
        return self._hold(port)

    def pulse(self, port: str, message: bytes) -> bytes:
        """Take a pulse; returns the nonce for the next one. Raises LeaseError, and everything stays as it was."""
        lease = self._lease(port)
        nonce = lease.beat(read_pulse(lease.pulse_key(), message), self._clock())
        self._hold(port)
        return nonce

    def nonce(self, port: str) -> bytes:
        """What the first pulse has to carry."""
        return self._lease(port).nonce

    def link_down(self, port: str) -> PortState:
        """Whoever is plugged in next is nobody yet."""
        self._lease(port).drop("the link went down")
        return self._hold(port)

    def release(self, port: str) -> PortState:
        """Undo a cut, by an operator at the gate."""
        self._lease(port).release()
        return self._hold(port)

    def state(self, port: str) -> PortState:
        """What a port is now; a deadline that has passed since is noticed."""
        state = self._lease(port).state(self._clock())
        self._tell(state)
        return state

    def take_events(self) -> list[GateEvent]:
        """What happened since this was called last."""
        for port in self._leases:
            self.state(port)
        taken, self._events = self._events, []
        return taken

    def _hold(self, port: str) -> PortState:
        """Make the driver hold to the lease. Closing goes first to the driver and is told afterwards."""
        lease = self._leases[port]
        if self._enforcement is Enforcement.AUDIT:
            self._driver.open_until(port, FOREVER_NS)
        elif lease.deadline_ns > self._clock():
            self._driver.open_until(port, lease.deadline_ns)
        else:
            self._driver.close(port, profile=lease.mode is not Mode.CUT)
        return self.state(port)

    def _tell(self, state: PortState) -> None:
        if self._told[state.port] == state.open:
            return
        self._told[state.port] = state.open
        if len(self._events) >= _EVENTS_MAX:
            self.events_lost += 1
            return
        self._events.append(GateEvent(self._clock(), state, self._enforcement is Enforcement.AUDIT))

    def _read_grant(self, message: bytes) -> Grant:
        refusal = LeaseError("no controller's key is known to the gate")
        for key in self._keys:
            try:
                return read_grant(key, message)
            except LeaseError as error:
                refusal = error
        raise refusal

    def _lease(self, port: str) -> PortLease:
        try:
            return self._leases[port]
        except KeyError:
            raise NotFoundError(
                "the gate has no such port", subject=port, hint=f"it has {', '.join(self._leases)}"
            ) from None
