"""A gate by Intel AMT: the machine's own network controller keeps its operating system out of the network.

**Not proved on hardware**: it was written from Intel's documents and is tested against the project's own simulator.

The default policy of the port is the quarantine. To open is to enable a policy that passes everything, for a limited time:
the firmware falls back by itself, to a whole second. Behind that stands a watchdog (Agent Presence), which this process
asserts: unasserted for as long, it enables the quarantine over the open policy. A thread of the driver closes on time.
AMT can be set over the network alone, not from the machine. Its timers rest while the machine sleeps, as the machine does.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from hostward.errors import DatapathError, NotFoundError, UsageError
from hostward.gate.amt.policies import CUT, OPEN, Policies, profile_filters
from hostward.gate.amt.watchdog import Watchdog
from hostward.gate.amt.wsman import WsMan
from hostward.gate.driver import FOREVER_NS, Capabilities, Dropped
from hostward.gate.kernel import Allowed

log = logging.getLogger(__name__)

_S = 1_000_000_000
_AGAIN_S = 1.0
# A watchdog's TimeoutInterval has sixteen bits.
_LIFE_MS_MAX = 3_600_000


@dataclass(slots=True)
class AmtPort:
    """One machine. ``watchdog_action`` is the ActionSd that enables a policy: Intel's documents name both 1 and 0."""

    name: str
    amt: WsMan
    watchdog_action: int = 1
    policies: Policies = field(init=False)
    watchdog: Watchdog = field(init=False)
    deadline_ns: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.policies, self.watchdog = Policies(self.amt), Watchdog(self.amt)


class AmtDriver:
    """A ``Driver`` over machines' management engines. A call is a handful of HTTP exchanges, and waits for them."""

    def __init__(self, ports: Sequence[AmtPort], profile: Iterable[Allowed] = ()) -> None:
        self._ports = {port.name: port for port in ports}
        if len(self._ports) != len(ports):
            raise UsageError("two ports of a gate have one name", subject=", ".join(port.name for port in ports))
        filters = profile_filters(profile)
        for port in ports:
            port.policies.install(filters)
            port.watchdog.install(port.watchdog_action)
            port.policies.disable()
        self._changed = threading.Condition()
        self._open_still: set[str] = set()
        self._stopped = False
        self._keeper = threading.Thread(target=self._keep, name="AMT's deadlines", daemon=True)
        self._keeper.start()

    def capabilities(self) -> Capabilities:
        """See ``Driver``. Firmware counts whole seconds."""
        return Capabilities(True, 1_000, 1_000, _LIFE_MS_MAX, both_directions=True, counts=False)

    def ports(self) -> tuple[str, ...]:
        """See ``Driver``."""
        return tuple(self._ports)

    def open_until(self, port: str, deadline_ns: int) -> None:
        """See ``Driver``. The limits are set before the policy is enabled, so it is never open without them."""
        found = self._port(port)
        with self._changed:
            left_s = -(-(deadline_ns - time.monotonic_ns()) // _S)
            if left_s <= 0:
                self._shut(found)
                return
            found.deadline_ns = deadline_ns
            if deadline_ns == FOREVER_NS:
                found.watchdog.stop()
                found.policies.limit_open(0)
            else:
                left_s = min(left_s, _LIFE_MS_MAX // 1_000)
                found.watchdog.limit(left_s)
                found.policies.limit_open(left_s)
            if found.policies.enabled() != OPEN:
                found.policies.enable(OPEN)
            self._open_still.discard(port)
            self._changed.notify()

    def close(self, port: str, *, profile: bool) -> None:
        """See ``Driver``."""
        found = self._port(port)
        with self._changed:
            self._shut(found)
            if not profile:
                found.policies.enable(CUT)

    def dropped(self, port: str) -> Dropped:
        """See ``Driver``. The firmware's counters are not asked for."""
        self._port(port)
        return Dropped(0, 0)

    def remove(self) -> None:
        """Close every port and end the thread; the policies stay in force."""
        with self._changed:
            if self._stopped:
                return
            self._stopped = True
            self._changed.notify()
        self._keeper.join()
        for port in self._ports.values():
            self._shut(port)
            port.amt.close()

    def _shut(self, port: AmtPort) -> None:
        port.deadline_ns = 0
        try:
            port.policies.disable()
        except DatapathError:
            self._open_still.add(port.name)
            self._changed.notify()
            raise
        self._open_still.discard(port.name)

    def _keep(self) -> None:
        with self._changed:
            while not self._stopped:
                self._changed.wait(self._pause_s())
                for port in self._ports.values():
                    due = port.deadline_ns and port.deadline_ns <= time.monotonic_ns()
                    if self._stopped or not (due or port.name in self._open_still):
                        continue
                    stuck = port.name in self._open_still
                    try:
                        self._shut(port)
                    except DatapathError as error:
                        if not stuck:
                            log.error("port %s is left to AMT's own timers: %s", port.name, error)

    def _pause_s(self) -> float | None:
        if self._stopped:
            return 0.0
        if self._open_still:
            return _AGAIN_S
        ends = [port.deadline_ns for port in self._ports.values() if port.deadline_ns not in (0, FOREVER_NS)]
        return max(0.0, (min(ends) - time.monotonic_ns()) / _S) if ends else None

    def _port(self, name: str) -> AmtPort:
        try:
            return self._ports[name]
        except KeyError:
            raise NotFoundError("the gate has no such port", subject=name) from None
