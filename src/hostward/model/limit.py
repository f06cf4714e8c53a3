"""Limits: how much a second may pass, of what, and whose endpoint counts."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Unit(Enum):
    """What is counted; the values are the words of the policy language."""

    BITS = "bit/s"
    PACKETS = "pkt/s"
    CONNECTIONS = "conn/s"


class End(Enum):
    """Whose endpoint counts: that of the flow's opener, or the one to which it opened."""

    SOURCE = "source"
    DESTINATION = "destination"


@dataclass(frozen=True, slots=True)
class Rate:
    """So many units a second."""

    unit: Unit
    per_s: int


@dataclass(frozen=True, slots=True)
class Limit:
    """A rule's ``limit=``: each endpoint at ``end`` passes at most ``rate`` by this rule, over all its flows.

    ``number`` is the kernel's 32-bit number of the rule whose id is ``rule``: it names the endpoint's bucket.
    """

    number: int
    rule: str
    end: End
    rate: Rate
