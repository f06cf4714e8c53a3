"""Flow events: what the datapath says of a flow's start, its end, or its denial."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FlowEvent:
    """One event. ``packets`` and ``bytes`` are deltas since the last event of the same flow or the same denial.

    ``time_ns`` is CLOCK_REALTIME. ``kind`` is ``new``, ``update``, ``end`` or ``denied``. ``verdict`` is a word of
    ``model.verdict.Verdict``. ``number`` is the kernel's number of the decision (0 where no rule was consulted) and
    ``rules`` its rule ids; ``reason`` says why a packet was denied or invalid (``policy``, ``ip-spoof``, ``fragment`` …),
    empty for allow. ``source`` and ``destination`` are as in the packet that opened the flow; ports are 0 where the
    protocol has none, and for ICMP ``destination_port`` is the type. ``endpoint`` is the local endpoint's id, ``peer`` the
    peer's identity number (0 when it was not looked up). ``others`` means that the packets counted are not all of this
    tuple: under a flood of denials an event stands for all of its rule, and its tuple is one of theirs. ``process`` is the
    executable that opened the flow at this endpoint, or accepted it there (``direction`` tells which), where a rule about
    it names it; denials name none.
    """

    time_ns: int
    kind: str
    verdict: str
    reason: str
    number: int
    rules: tuple[str, ...]
    revision: int
    endpoint: str
    tenant: str
    network: str
    direction: str
    protocol: int
    source: str
    source_port: int
    destination: str
    destination_port: int
    local_identity: int
    peer: int
    packets: int
    bytes: int
    ethertype: int = 0
    mac: str = ""
    others: bool = False
    process: str = ""
