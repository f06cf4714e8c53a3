"""The newest flow events of all hosts, with endpoints' names: bounded, in memory, never in the store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from hostward.agent.messages import Events
from hostward.controller.event_ring import EventRing
from hostward.model.endpoint import Endpoint
from hostward.model.flow import FlowEvent

KEEP = 65_536
_PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 47: "gre", 50: "esp", 58: "icmpv6", 132: "sctp"}


@dataclass(frozen=True, slots=True)
class FlowFilter:
    """Which flows somebody wants to see; empty fields match all. ``since`` is inclusive."""

    source: str = ""
    destination: str = ""
    verdict: str = ""
    since: datetime | None = None
    tenants: frozenset[str] | None = None

    def seen(self, flow: dict[str, object]) -> dict[str, object]:
        """The flow as somebody who sees only ``tenants`` (None: all) is told it: without another tenant's names."""
        if self.tenants is None:
            return flow
        return {**flow, "src": self._seen_side(flow["src"]), "dst": self._seen_side(flow["dst"])}

    def _seen_side(self, side: object) -> object:
        assert isinstance(side, dict)
        assert self.tenants is not None
        name = str(side.get("endpoint") or "")
        if not name or name.partition("/")[0] in self.tenants:
            return side
        return {**side, "endpoint": None, "identity": None}

    def matches(self, flow: Mapping[str, object]) -> bool:
        """Whether a flow, as ``describe`` made it, is wanted. A flow belongs to the tenant whose endpoint met it."""
        if self.tenants is not None and flow["tenant"] not in self.tenants:
            return False
        if self.verdict and flow["verdict"] != self.verdict:
            return False
        if self.since is not None and datetime.fromisoformat(str(flow["time"])) < self.since:
            return False
        # Compared as it is shown: a filter must not be a way to ask for a hidden name.
        shown = self.seen(dict(flow))
        sides = ((self.source, shown["src"]), (self.destination, shown["dst"]))
        return all(not wanted or _is(wanted, side) for wanted, side in sides)


def _is(wanted: str, side: object) -> bool:
    assert isinstance(side, dict)
    endpoint = str(side.get("endpoint") or "")
    return wanted in (side.get("ip"), endpoint, endpoint.partition("/")[2]) or (
        wanted == "internet" and not endpoint and side.get("identity") == 1
    )


def protocol_word(number: int) -> str:
    """A protocol's name, or its number where it has none here."""
    return _PROTOCOLS.get(number, str(number))


class Flows:
    """A ring of described flows, and those who follow it."""

    def __init__(self) -> None:
        self._ring: EventRing[dict[str, object]] = EventRing(KEEP)
        self.lost = 0

    def add(self, host: str, batch: Events, endpoints: Mapping[tuple[str, str], Endpoint]) -> None:
        """Take a host's batch; ``endpoints`` is by (network, address)."""
        self.lost += batch.lost
        self._ring.add([describe(host, event, endpoints) for event in batch.events])

    def newest(self, wanted: FlowFilter, limit: int) -> list[dict[str, object]]:
        """The newest matching flows, oldest first."""
        return [wanted.seen(flow) for flow in self._ring.newest(wanted.matches, limit)]

    async def follow(self, wanted: FlowFilter) -> AsyncIterator[dict[str, object]]:
        """Matching flows from now on (from ``since``, if that is given)."""
        async for flow in self._ring.follow(wanted.matches, kept=wanted.since is not None):
            yield wanted.seen(flow)


def describe(host: str, event: FlowEvent, endpoints: Mapping[tuple[str, str], Endpoint]) -> dict[str, object]:
    """A flow event in the shape of interface.md's ``observe``."""
    out = event.direction == "egress"

    def side(address: str, port: int, *, local: bool) -> dict[str, object]:
        known = endpoints.get((event.network, address))
        name = event.endpoint if local else known.id if known else None
        identity = event.local_identity if local else event.peer
        process = event.process if local else ""
        return {"ip": address, "port": port, "endpoint": name, "identity": identity or None, "process": process or None}

    return {
        "time": datetime.fromtimestamp(event.time_ns / 1e9, UTC).isoformat().replace("+00:00", "Z"),
        "host": host,
        "tenant": event.tenant,
        "network": event.network,
        "kind": event.kind,
        "verdict": event.verdict,
        "rule": event.rules[0] if event.rules else "",
        "rules": list(event.rules),
        "revision": event.revision,
        "reason": event.reason,
        "src": side(event.source, event.source_port, local=out),
        "dst": side(event.destination, event.destination_port, local=not out),
        "proto": protocol_word(event.protocol),
        "packets": event.packets,
        "bytes": event.bytes,
        "others": event.others,
        "direction": event.direction,
        "mac": event.mac,
    }
