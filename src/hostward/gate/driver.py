"""What opens and closes a port: the one seam between the gate and its hardware. See docs/adr/0020-gate.md."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

# As a deadline: never. Only the audit mode opens a port so.
FOREVER_NS = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a driver can do; the controller chooses lives by it, and the conformance suite holds it to it."""

    native_expiry: bool  # the port closes at its deadline with every process of the gate dead
    resolution_ms: int  # by how much a deadline may be rounded up
    life_ms_min: int
    life_ms_max: int
    both_directions: bool  # also what is sent to the host stops
    counts: bool  # what was dropped is counted
    has_profile: bool = True  # a closed port lets the quarantine profile through


@dataclass(frozen=True, slots=True)
class Dropped:
    """Frames that a closed port did not let through, by direction."""

    from_host: int
    to_host: int


class Driver(Protocol):
    """One gate's ports. Nanoseconds are CLOCK_MONOTONIC's. A driver that starts, or comes back, has every port closed."""

    def capabilities(self) -> Capabilities:
        """What it can do."""

    def ports(self) -> tuple[str, ...]:
        """The names of its ports."""

    def open_until(self, port: str, deadline_ns: int) -> None:
        """Let everything through until the deadline, and then the quarantine profile alone. Raises DatapathError."""

    def close(self, port: str, *, profile: bool) -> None:
        """Let nothing through from now on but the quarantine profile, or not even that. Raises DatapathError."""

    def dropped(self, port: str) -> Dropped:
        """What it has kept out so far."""
