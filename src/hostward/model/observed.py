"""Flows that were seen, summed up by who, to whom and on what: changes are compared with them, rules learned from them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Party:
    """One side of an observed flow.

    ``endpoint`` is the endpoint's id, empty for an address that no endpoint had. ``address`` is the last one seen. For a
    party that is no endpoint ``prefix`` covers every address that is summed up here, usually the one alone.
    """

    endpoint: str
    address: str
    prefix: str = ""

    def __str__(self) -> str:
        return self.endpoint or self.prefix.removesuffix("/32").removesuffix("/128") or self.address


@dataclass(frozen=True, slots=True)
class ObservedFlow:
    """Everything that was seen of one source, destination, protocol and destination port (for ICMP the type).

    ``openings`` counts flows that opened, and for denials the reports of them. ``verdict``, ``rules`` and ``revision`` are
    the last. ``others`` means that ``packets`` and ``bytes`` may count some of other flows of the same rule: a flood of
    denials is reported by rule.
    """

    network: str
    source: Party
    destination: Party
    protocol: int
    port: int
    first_seen: datetime
    last_seen: datetime
    openings: int
    packets: int
    bytes: int
    verdict: str
    rules: tuple[str, ...]
    revision: int
    others: bool = False
