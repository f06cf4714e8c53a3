"""Weighted max-min fair rates at one full downlink, between tenants and then between each one's hosts. Pure.

What arrives is no measure of what somebody wants: a victim's stream that an attack has beaten down to one packet in a
hundred still wants its half. So each source claims somewhat more than it lately had, and a floor; claims beyond the fair
rate are cut to it. The victim grows with each reading until it has its share or enough, and what it does not claim is the
others': where anybody wants more than its share, at least four fifths of the link are used. Sources of one tenant divide
what the tenant has, so that more hosts bring it no more.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

# So much of the link is given away: what is left lets newcomers in, and keeps the queue before the link empty.
GIVEN = 0.95
# From so full on there is contention.
FULL = 0.9
GROWTH = 1.1
# Claims that grow by so much and are all met are no contention any more. Streams seldom fill their ceilings to the last
# bit, so at ``GROWTH`` ceilings would come and go.
GROWTH_AT_END = 1.5
# Of the link, by weight, what everybody claims who was heard at all.
FLOOR = 0.05
# A claim follows the highest rate of so many last seconds: pauses shorter than that move nobody's rate.
WINDOW_S = 2.0
# Traffic that no host of ours sends contends from here on; a little of it is on every link.
STRANGERS = 0.01
# No ceiling is lower: what keeps a connection alive has to pass.
LEAST_BITS_PER_S = 64_000

# A tenant and one of its hosts.
Source = tuple[str, str]

_Key = TypeVar("_Key")


@dataclass(slots=True)
class _Peak:
    """The highest rate of the window."""

    seen: deque[tuple[float, float]] = field(default_factory=deque)

    def add(self, now_s: float, rate: float) -> float:
        """The highest rate, this one included; 0 if nothing was heard."""
        while self.seen and self.seen[0][0] <= now_s - WINDOW_S:
            self.seen.popleft()
        while self.seen and self.seen[-1][1] <= rate:
            self.seen.pop()
        if rate:
            self.seen.append((now_s, rate))
        return self.seen[0][1] if self.seen else 0.0


class FairRates:
    """The claims at one link, and whether there is contention. Its memory is of what was heard in the window."""

    def __init__(self) -> None:
        self._hosts: dict[Source, _Peak] = {}
        self._tenants: dict[str, _Peak] = {}
        self._strangers = _Peak()
        self._contended = False

    def settle(
        self,
        now_s: float,
        bits_per_s: float,
        rates: Mapping[Source, float],
        strangers: float,
        weights: Mapping[str, int],
    ) -> Mapping[Source, int]:
        """Ceilings in bit/s by source, after this reading of a link of ``bits_per_s``.

        ``strangers`` is the rate of what no host of ours sends: it has a share of weight 1, and no ceiling. A tenant
        without a weight has 1. Sources that are far below their rate have no ceiling.
        """
        by_tenant: dict[str, float] = {}
        for (tenant, _), rate in rates.items():
            by_tenant[tenant] = by_tenant.get(tenant, 0.0) + rate
        hosts = _peaks(self._hosts, now_s, rates)
        tenants = _peaks(self._tenants, now_s, by_tenant)
        foreign = self._strangers.add(now_s, strangers)
        contenders = len(tenants) + (foreign >= STRANGERS * bits_per_s)
        full = sum(rates.values()) + strangers >= FULL * bits_per_s
        self._contended = contenders > 1 and (self._contended or full)
        if not self._contended:
            return {}
        weighted = [(1, foreign, 0.0)]
        total = 1 + sum(weights.get(tenant, 1) for tenant in tenants)
        for tenant, peak in tenants.items():
            weight = weights.get(tenant, 1)
            weighted.append((weight, peak, FLOOR * bits_per_s * weight / total))
        fair = _level(GIVEN * bits_per_s, weighted, GROWTH)
        if math.isinf(fair):
            self._contended = False
            return {}
        ceilings: dict[Source, int] = {}
        for tenant in tenants:
            theirs = {source: peak for source, peak in hosts.items() if source[0] == tenant}
            ceilings.update(_divided(fair * weights.get(tenant, 1), theirs))
        return ceilings


def fair_level(room: float, claims: Iterable[tuple[int, float]]) -> float:
    """What weight 1 has where all claims, each with its weight, are met as far as they are fair; infinite: all are met."""
    waiting = sorted(claims, key=lambda claim: claim[1] / claim[0])
    weight = sum(each for each, _ in waiting)
    for each, claim in waiting:
        if claim * weight >= room * each:
            return room / weight
        room -= claim
        weight -= each
    return math.inf


def _peaks(known: dict[_Key, _Peak], now_s: float, rates: Mapping[_Key, float]) -> dict[_Key, float]:
    found: dict[_Key, float] = {}
    for key in {*known, *rates}:
        peak = known.setdefault(key, _Peak()).add(now_s, rates.get(key, 0.0))
        if peak:
            found[key] = peak
        else:
            del known[key]
    return found


def _level(room: float, claimants: Sequence[tuple[int, float, float]], growth: float) -> float:
    """The fair level of claims by weight, peak and floor. Peaks grow until they fill the room, within reason."""
    peaks, floors = sum(peak for _, peak, _ in claimants), sum(floor for _, _, floor in claimants)
    filling = (room - floors) * (1 + 1e-6) / peaks
    if filling > GROWTH_AT_END:
        return math.inf
    growth = max(growth, filling)
    return fair_level(room, [(weight, growth * peak + floor) for weight, peak, floor in claimants])


def _divided(rate: float, peaks: Mapping[Source, float]) -> Iterable[tuple[Source, int]]:
    # What a host does not use is its tenant's at once: the tenant's own hosts need no protection while another grows.
    level = _level(rate, [(1, peak, 0.0) for peak in peaks.values()], 1.0)
    # Who is far below grows unhindered for a reading or two, and costs no message.
    held = [source for source, peak in peaks.items() if math.isfinite(level) and peak >= level / 4]
    return [(source, max(LEAST_BITS_PER_S, int(level))) for source in held]
