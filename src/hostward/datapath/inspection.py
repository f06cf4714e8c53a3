"""What the process that inspects packets is handed, and what it asks for flows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntFlag

from hostward.model.slice import LocalEndpoint


class FlowMark(IntFlag):
    """``enum hw_flow_mark`` of bpf/abi.h, without what only the datapath sets."""

    BYPASSED = 4
    STOPPED = 8
    REJECTED = 16


@dataclass(frozen=True, slots=True)
class InspectorMaps:
    """Descriptors of the ring of packets (``ring_len`` bytes) and of what was read of it by slot; the holder's to close."""

    ring: int
    ring_len: int
    done: int
    slots: int


@dataclass(frozen=True, slots=True)
class InspectionNames:
    """Whose the numbers in the ring's records are, and what sets of signatures (by the names of profiles) they name."""

    endpoints: Mapping[int, LocalEndpoint]
    rules: Mapping[int, str]
    executables: Mapping[tuple[int, int], str]
    sets: Mapping[int, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class InspectionCounts:
    """One endpoint's packets that rules with ``inspect=`` let pass, since its slot was first used.

    ``missed`` passed and were not seen, because the inspector was overloaded or away; ``refused`` did not pass for that.
    """

    sent_packets: int = 0
    missed_packets: int = 0
    missed_bytes: int = 0
    refused_packets: int = 0


NOTHING_INSPECTED = InspectionCounts()
