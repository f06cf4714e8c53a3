"""Rates as the datapath counts them: what one unit costs in time, and how much time may be spent at once.

The tokens of a bucket are nanoseconds (bpf/limit.h). A cost is kept in parts of a nanosecond, because at 100 Gbit/s a byte
takes 80 picoseconds.
"""

from __future__ import annotations

from dataclasses import dataclass

from hostward.model.limit import Rate, Unit

_SECOND_NS = 1_000_000_000
# HW_RATE_SHIFT of bpf/abi.h: costs are in 2^-24 ns.
_SHIFT = 24
# A burst is what passes in this time at the rate ...
_BURST_NS = 100_000_000
# ... and at least this many units: two super-packets of 64 KiB, so that a slow rate cannot shut out what stacks send at
# once, as many packets as one of them has segments, and as many connections as one page of a browser opens.
_BURST_MIN = {Unit.BITS: 2 * 65_536 * 8, Unit.PACKETS: 64, Unit.CONNECTIONS: 8}


@dataclass(frozen=True, slots=True)
class Cost:
    """A rate in the datapath's terms: 2^-24 ns for a byte, a packet or a connection, and the burst in ns."""

    per_unit: int
    burst_ns: int


FREE = Cost(0, 0)


def cost_of(rate: Rate) -> Cost:
    """What a rate comes to; ``FREE`` for one of zero, which bounds nothing.

    A bound is never rounded up by more than 2^-24 ns for each unit.
    """
    if not rate.per_s:
        return FREE
    units_in_one = 8 if rate.unit is Unit.BITS else 1  # the datapath counts bytes
    per_unit = -(-(units_in_one * _SECOND_NS << _SHIFT) // rate.per_s)
    burst_ns = max(_BURST_NS, -(-_BURST_MIN[rate.unit] * _SECOND_NS // rate.per_s))
    return Cost(per_unit, burst_ns)
