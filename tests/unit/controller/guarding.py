"""What a host tells of a guard, for tests of who hears of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hostward.model.guard import GuardEvent, GuardKind, Response

SPOOF = GuardEvent(
    time_ns=1_764_000_000_123_456_789,
    kind=GuardKind.SPOOF,
    response=Response.QUARANTINE,
    count=11,
    endpoint="acme/web-1",
    tenant="acme",
    network="default",
    revision=1,
    protocol=17,
    source="10.0.0.9",
    source_port=40_000,
    destination="10.0.0.2",
    destination_port=53,
)


def recognised(endpoint: str, **changes: Any) -> GuardEvent:
    """The same of an endpoint, with changes."""
    return replace(SPOOF, endpoint=endpoint, tenant=endpoint.partition("/")[0], **changes)
