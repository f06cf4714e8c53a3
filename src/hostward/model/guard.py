"""Guards: what is recognised of an endpoint's own sending, and what is done about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class GuardKind(Enum):
    """What is recognised; the values are the words of the policy language, in the order of ``enum hw_guard_kind``."""

    HORIZONTAL_SCAN = "horizontal-scan"
    VERTICAL_SCAN = "vertical-scan"
    SYN_FLOOD = "syn-flood"
    SPOOF = "spoof"


class Response(Enum):
    """What is done, the mildest first, as ``enum hw_response`` numbers them."""

    IGNORE = "ignore"
    ALERT = "alert"
    THROTTLE = "throttle"
    QUARANTINE = "quarantine"

    @property
    def severity(self) -> int:
        """Its number: the stricter of two has the greater one."""
        return _SEVERITIES[self]


_SEVERITIES = {response: number for number, response in enumerate(Response)}

# In ten seconds: distinct addresses, distinct ports of one address, connections never finished, forged packets.
DEFAULT_THRESHOLDS = {
    GuardKind.HORIZONTAL_SCAN: 100,
    GuardKind.VERTICAL_SCAN: 100,
    GuardKind.SYN_FLOOD: 500,
    GuardKind.SPOOF: 10,
}


@dataclass(frozen=True, slots=True)
class Watch:
    """What is done about one kind, once more than ``above`` of it was seen within ten seconds."""

    response: Response
    above: int


def default_watch(kind: GuardKind, response: Response = Response.ALERT) -> Watch:
    """What holds where nobody says otherwise."""
    return Watch(response, DEFAULT_THRESHOLDS[kind])


# One endpoint's, in the order of GuardKind.
Guard = tuple[Watch, ...]
DEFAULT_GUARD: Guard = tuple(default_watch(kind) for kind in GuardKind)


@dataclass(frozen=True, slots=True)
class GuardEvent:
    """Something was recognised. The ends are those of the last packet or flow that counted; ``count`` is an estimate
    where it is of distinct addresses or ports. ``time_ns`` is CLOCK_REALTIME.
    """

    time_ns: int
    kind: GuardKind
    response: Response
    count: int
    endpoint: str
    tenant: str
    network: str
    revision: int
    protocol: int
    source: str
    source_port: int
    destination: str
    destination_port: int
