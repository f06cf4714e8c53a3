"""A driver in memory: what the tests of the gate drive, under the conformance suite that every driver passes."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from hostward.gate.driver import Capabilities, Dropped


class MemoryDriver:
    """Ports that frames are offered to by calls. ``clock`` is in nanoseconds."""

    def __init__(self, ports: Iterable[str], clock: Callable[[], int]) -> None:
        self._clock = clock
        self._deadlines = dict.fromkeys(ports, 0)
        self._profiles = dict.fromkeys(self._deadlines, True)
        self._dropped = {port: [0, 0] for port in self._deadlines}

    def capabilities(self) -> Capabilities:
        """Everything, to the nanosecond."""
        return Capabilities(True, 1, 1, 3_600_000, both_directions=True, counts=True)

    def ports(self) -> tuple[str, ...]:
        """As they were given."""
        return tuple(self._deadlines)

    def open_until(self, port: str, deadline_ns: int) -> None:
        """See ``Driver``."""
        self._deadlines[port], self._profiles[port] = deadline_ns, True

    def close(self, port: str, *, profile: bool) -> None:
        """See ``Driver``."""
        self._deadlines[port], self._profiles[port] = 0, profile

    def dropped(self, port: str) -> Dropped:
        """See ``Driver``."""
        return Dropped(*self._dropped[port])

    def offer(self, port: str, *, from_host: bool, of_profile: bool = False) -> bool:
        """Whether a frame passes."""
        if self._clock() < self._deadlines[port] or (of_profile and self._profiles[port]):
            return True
        self._dropped[port][0 if from_host else 1] += 1
        return False
