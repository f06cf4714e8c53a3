"""Samples of packets, and what they estimate.

One packet in N is taken at random, independently of all others. So each sample stands for N packets, and of a class of
which ``c`` samples were taken the share of the estimate that is off by chance is below 1.96 * sqrt(1/c) in 95 cases of 100
(Phaal and Panchen, "Packet Sampling Basics", 2002).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

# The two-sided 95 % quantile of the normal distribution, in percent.
_QUANTILE_PERCENT = 196.0


@dataclass(frozen=True, slots=True)
class PacketSample:
    """One packet that was taken, as its endpoint's port met it. ``time_ns`` is CLOCK_REALTIME.

    ``rate``: one in so many was taken. ``verdict``, ``reason``, ``number``, ``rules``, ``peer``, ports and ``process`` are
    as in ``model.flow.FlowEvent``, of this packet. ``segments``: of a super-packet (segmentation offload), which is one
    packet; else 0.
    """

    time_ns: int
    endpoint: str
    tenant: str
    network: str
    direction: str
    verdict: str
    reason: str
    number: int
    rules: tuple[str, ...]
    rate: int
    bytes: int
    segments: int
    protocol: int
    ethertype: int
    source: str
    source_port: int
    destination: str
    destination_port: int
    peer: int
    process: str = ""


@dataclass(frozen=True, slots=True)
class SampleCounts:
    """What the datapath has counted, exactly: packets that could have been taken, that were, and of those the lost ones."""

    pool: int = 0
    taken: int = 0
    lost: int = 0


@dataclass(frozen=True, slots=True)
class SampleClass:
    """The samples of one direction and verdict: how many, and the sums of what each stands for, and of its square."""

    direction: str
    verdict: str
    samples: int = 0
    packets: int = 0
    packets_squared: float = 0.0
    bytes: int = 0
    bytes_squared: float = 0.0

    def plus(self, sample: PacketSample) -> SampleClass:
        """With one more."""
        size = sample.rate * sample.bytes
        return SampleClass(
            self.direction,
            self.verdict,
            self.samples + 1,
            self.packets + sample.rate,
            self.packets_squared + float(sample.rate) ** 2,
            self.bytes + size,
            self.bytes_squared + float(size) ** 2,
        )


@dataclass(frozen=True, slots=True)
class SampleTotal:
    """What was sampled of an endpoint since its agent began to look.

    ``counts`` are the datapath's; ``untold`` samples were counted in ``classes`` and not told of one by one.
    """

    tenant: str
    rate: int
    counts: SampleCounts
    untold: int
    classes: tuple[SampleClass, ...]

    @property
    def samples(self) -> int:
        """Samples that arrived."""
        return sum(one.samples for one in self.classes)


@dataclass(frozen=True, slots=True)
class Estimate:
    """What samples estimate. An error is the half of the interval in which the truth is in 95 cases of 100, in percent."""

    samples: int
    packets: int
    bytes: int
    error_percent: float
    bytes_error_percent: float


def error_percent(samples: int) -> float:
    """Of an estimate from so many samples; infinite from none."""
    return _QUANTILE_PERCENT * math.sqrt(1 / samples) if samples else math.inf


def estimate(total: SampleTotal, *classes: SampleClass) -> Estimate:
    """What some classes of a total come to. Samples that were lost are made up for by those that were not."""
    samples = sum(one.samples for one in classes)
    packets, count_bytes = sum(one.packets for one in classes), sum(one.bytes for one in classes)
    arrived = total.samples
    kept = max(total.counts.taken, arrived) / arrived if arrived else 1.0
    return Estimate(
        samples,
        round(packets * kept),
        round(count_bytes * kept),
        _weighted(sum(one.packets_squared for one in classes), packets),
        _weighted(sum(one.bytes_squared for one in classes), count_bytes),
    )


def _weighted(squares: float, total: int) -> float:
    """The same of samples that stand for different amounts; of equal ones it is ``error_percent``."""
    return _QUANTILE_PERCENT * math.sqrt(squares) / total if total else math.inf
