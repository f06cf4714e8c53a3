"""What an enforcer counts, as one reading: of every endpoint, of the host, and how full its tables are.

Counts only grow for as long as the kernel's maps live. What an endpoint or a decision had counted stays in the host's
totals when it goes; the endpoint's own counts end with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hostward.datapath.inspection import NOTHING_INSPECTED, InspectionCounts
from hostward.model.sample import SampleCounts


@dataclass(frozen=True, slots=True)
class EndpointReading:
    """One endpoint. ``place`` is its number on this host: the lowest free one when it came, and kept until it goes.

    ``denied`` are packets by reason; reasons that never occurred are left out.
    """

    tenant: str
    place: int
    flows: int
    flow_quota: int
    denied: Mapping[str, int]
    events_lost: int
    answers_suppressed: int


@dataclass(frozen=True, slots=True)
class Fill:
    """How full a table is."""

    used: int
    size: int


@dataclass(frozen=True, slots=True)
class Readings:
    """One reading of a host. All but ``endpoints`` count for those that are gone, too.

    ``passed_packets`` and ``passed_bytes`` are of packets that a rule let pass, those it would deny included.
    ``recognised`` is how often a guard recognised something, by kind. ``samples`` are of all endpoints together;
    ``inspected`` is what went to the inspector.
    """

    endpoints: Mapping[str, EndpointReading]
    denied: Mapping[str, int]
    passed_packets: int
    passed_bytes: int
    events_lost: int
    answers_sent: int
    answers_suppressed: int
    tables: Mapping[str, Fill]
    recognised: Mapping[str, int]
    samples: SampleCounts = field(default_factory=SampleCounts)
    inspected: InspectionCounts = NOTHING_INSPECTED


@dataclass(frozen=True, slots=True)
class Talker:
    """A peer's address at a service: the port that was asked for, at whichever end. Sums of the flows tracked now."""

    address: str
    protocol: int
    port: int
    packets: int
    bytes: int
    flows: int
