"""What guards recognised on all hosts, as EVE JSON describes an alert: bounded, in memory, never in the store.

EVE is Suricata's format, which SIEMs read; what only Hostward knows is under ``hostward``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from hostward.controller.event_ring import EventRing
from hostward.controller.flows import protocol_word
from hostward.model.guard import GuardEvent, GuardKind, Response

KEEP = 8_192
# Nobody else's generator: rules of an inspector have 1.
GID = 900


@dataclass(frozen=True, slots=True)
class _Signature:
    """Its number and texts in an alert; the category and the severity (1 is the gravest) are as Suricata classifies."""

    number: int
    text: str
    category: str
    severity: int


_SIGNATURES = {
    GuardKind.HORIZONTAL_SCAN: _Signature(1, "one port or many at many addresses", "Detection of a Network Scan", 3),
    GuardKind.VERTICAL_SCAN: _Signature(2, "many ports at one address", "Detection of a Network Scan", 3),
    GuardKind.SYN_FLOOD: _Signature(
        3, "connections begun and never finished", "Detection of a Denial of Service Attack", 2
    ),
    GuardKind.SPOOF: _Signature(4, "packets in another's name", "Potentially Bad Traffic", 2),
}


@dataclass(frozen=True, slots=True)
class AlertFilter:
    """Which alerts somebody wants to see. ``since`` is inclusive; ``tenants`` None: of everybody."""

    since: datetime | None = None
    tenants: frozenset[str] | None = None

    def matches(self, alert: Mapping[str, object]) -> bool:
        """Whether an alert, as ``describe`` made it, is wanted. It belongs to the tenant of the endpoint that did it."""
        own = alert["hostward"]
        assert isinstance(own, dict)
        if self.tenants is not None and own["tenant"] not in self.tenants:
            return False
        return self.since is None or datetime.fromisoformat(str(alert["timestamp"])) >= self.since


class Alerts:
    """A ring of described alerts, and those who follow it."""

    def __init__(self) -> None:
        self._ring: EventRing[dict[str, object]] = EventRing(KEEP)

    def add(self, host: str, events: Sequence[GuardEvent]) -> None:
        """Take a host's."""
        if events:
            self._ring.add([describe(host, event) for event in events])

    def add_detected(self, alerts: Sequence[dict[str, object]]) -> None:
        """Take what inspectors found, as it is shown."""
        self._ring.add(list(alerts))

    def newest(self, wanted: AlertFilter, limit: int) -> list[dict[str, object]]:
        """The newest matching alerts, oldest first."""
        return self._ring.newest(wanted.matches, limit)

    def follow(self, wanted: AlertFilter) -> AsyncIterator[dict[str, object]]:
        """Matching alerts from now on (from ``since``, if that is given)."""
        return self._ring.follow(wanted.matches, kept=wanted.since is not None)


def describe(host: str, event: GuardEvent) -> dict[str, object]:
    """One alert in the shape of interface.md's ``alerts``. An end that was not looked at, as of forged ARP, is left out."""
    signature = _SIGNATURES[event.kind]
    blocked = event.response in (Response.THROTTLE, Response.QUARANTINE)
    described: dict[str, object] = {
        "timestamp": datetime.fromtimestamp(event.time_ns / 1e9, UTC).isoformat().replace("+00:00", "Z"),
        "event_type": "alert",
    }
    for side, address, port in (
        ("src", event.source, event.source_port),
        ("dest", event.destination, event.destination_port),
    ):
        if address:
            described[f"{side}_ip"] = address
            if port:
                described[f"{side}_port"] = port
    if event.protocol:
        described["proto"] = protocol_word(event.protocol).upper()
    described["alert"] = {
        "action": "blocked" if blocked else "allowed",
        "gid": GID,
        "signature_id": signature.number,
        "rev": 1,
        "signature": f"hostward {event.kind.value}: {signature.text}",
        "category": signature.category,
        "severity": signature.severity,
    }
    described["hostward"] = {
        "tenant": event.tenant,
        "endpoint": event.endpoint,
        "network": event.network,
        "host": host,
        "revision": event.revision,
        "guard": {"kind": event.kind.value, "response": event.response.value, "count": event.count},
    }
    return described
