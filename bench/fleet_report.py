"""What the fleet benchmark measured, for people and for the result file."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from statistics import median

EVIDENCE_S = 30.0
LARGE = 10_000  # hosts; targets are for so many
PUSH_TARGET_MS = 100.0
SLOWED_TARGET = 2.0
RETURN_TARGET_S = 60.0


@dataclass(frozen=True, slots=True)
class Waits:
    """From a question to its verdict, at the good hosts, in milliseconds."""

    count: int
    median_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class FleetFigures:
    """What was measured; processor times are the controller's."""

    hosts: int
    returned_s: float  # until the last host's good verdict
    granted_s: float  # until the last gate was open and every host admitted
    returned_cpu_ms: float  # a host
    revisions: int  # that admitting them all made
    evidence_per_s: float
    evidence_cpu_ms: float
    lapsed: int  # gates that were closed after it
    steady: Waits
    calm: Waits  # between the turns of the flood
    flooded: Waits
    busy: tuple[float, float]  # shares of the controller's processor, calm and flooded
    refused_per_s: float
    peak_mib: int
    quarantined_ms: tuple[float, ...]
    closed_ms: tuple[float, ...]


def as_json(figures: FleetFigures) -> dict[str, object]:
    """For the result file."""
    return {"tpm": "software keys, simulated hosts", **asdict(figures)}


def table(figures: FleetFigures) -> list[str]:
    """For people."""
    scale = LARGE / figures.hosts
    slowed = figures.flooded.median_ms / figures.calm.median_ms, figures.flooded.p99_ms / figures.calm.p99_ms
    share = figures.evidence_cpu_ms * LARGE / EVIDENCE_S / 10
    returned_s = figures.returned_cpu_ms * LARGE / 1e3
    pushed, closed = median(figures.quarantined_ms), median(figures.closed_ms)
    worst = max(figures.quarantined_ms), max(figures.closed_ms)
    calm, flooded = figures.calm, figures.flooded
    return [
        f"fleet: {figures.hosts} simulated hosts with software keys, one controller on one core",
        f"  back after a power failure   last verdict {figures.returned_s:.1f} s, last gate {figures.granted_s:.1f} s, "
        f"{figures.revisions} revisions, {figures.returned_cpu_ms:.2f} ms of the core a host",
        f"    10,000 hosts               {returned_s:.0f} s of the core, target {RETURN_TARGET_S:g} s: "
        + _met(max(returned_s, figures.granted_s * max(scale, 1)) <= RETURN_TARGET_S),
        f"  evidence                     {figures.evidence_per_s:.0f}/s, {figures.evidence_cpu_ms:.2f} ms of the core "
        f"each, question to verdict {figures.steady.median_ms:.1f} ms (median), {figures.lapsed} gates lapsed",
        f"    10,000 hosts, each 30 s    {share:.0f} % of the core, target 100 %: "
        + _met(share <= 100 and not figures.lapsed),
        f"  question to verdict          median {calm.median_ms:.1f} ms, p99 {calm.p99_ms:.1f} ms, "
        f"{figures.busy[0]:.0%} of the core",
        f"    under a flood              median {flooded.median_ms:.1f} ms, p99 {flooded.p99_ms:.1f} ms, "
        f"{figures.busy[1]:.0%} of the core, {figures.refused_per_s:.0f} refusals/s",
        f"    slowed                     {slowed[0]:.2f} times (median), {slowed[1]:.2f} times (p99), target under "
        f"{SLOWED_TARGET:g} times: " + _met(max(slowed) < SLOWED_TARGET),
        f"  controller's memory, peak    {figures.peak_mib} MiB",
        f"  bad evidence to quarantine   median {pushed:.1f} ms, worst {worst[0]:.1f} ms, target {PUSH_TARGET_MS:g} ms: "
        + _met(worst[0] <= PUSH_TARGET_MS),
        f"    to the channel's end       median {closed:.1f} ms, worst {worst[1]:.1f} ms",
    ]


def _met(met: bool) -> str:
    return "met" if met else "MISSED"
