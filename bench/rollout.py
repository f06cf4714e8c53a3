"""How long a change takes from `apply` until all hosts of a lab enforce it: one controller, three agents, mutual TLS.

Every second change allows a flow between tiers that the one before it denied, so each is a revision that alters verdicts
on the hosts. Measured is the whole call of the REST API: compiling, the durable commit, the channel, every agent's writes
into its kernel, and the last acknowledgement. The lab's machine (QEMU) is left out, and so are TPMs and gates: they would
compete for the processor, and a host is asked for evidence after it acknowledged.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median, quantiles

from hostward.lab.demo.run import only_one
from hostward.lab.lab import Lab, prepare
from hostward.lab.state import tear_down
from hostward.lab.topology import Kind, LabAttestation

LAB = Path(__file__).parent.parent / "examples" / "three-tier" / "lab" / "topology.yaml"
TARGET_MS = 50.0
_WARM_UP = 5
# Changes come one at a time: what an agent does after its acknowledgement is not in the next one's way.
_PAUSE_S = 0.1


@dataclass(frozen=True, slots=True)
class RolloutTimes:
    """One number for each change, in milliseconds, in the order of the changes."""

    hosts: int
    applied_ms: tuple[float, ...]
    enforced_ms: tuple[float, ...]  # from the commit to the last host's acknowledgement, as the controller saw it


def run(changes: int, say: Callable[[str], None]) -> RolloutTimes:
    """Bring up the lab and measure. Raises HostwardError; nothing is left behind whatever happens."""
    with only_one():
        made = prepare(LAB, say)
        kept = {name: e for name, e in made.topology.endpoints.items() if e.kind is not Kind.VM}
        lab = Lab(replace(made.topology, endpoints=kept, attestation=LabAttestation.OFF), made.state, say)
        made.close()
        try:
            lab.build()
            lab.start_hostward()
            lab.apply_policy()
            lab.attach_endpoints()
            return _measure(lab, changes)
        finally:
            lab.close()
            tear_down(lab.state)


def as_json(times: RolloutTimes) -> dict[str, object]:
    """For the result file."""
    return {
        "unit": "ms",
        "hosts": times.hosts,
        "changes": len(times.applied_ms),
        "target_p99": TARGET_MS,
        "apply_to_enforced_on_all": _distribution(times.applied_ms),
        "commit_to_enforced_on_all": _distribution(times.enforced_ms),
        "samples": [round(value, 2) for value in times.applied_ms],
    }


def table(times: RolloutTimes) -> list[str]:
    """For people."""
    lines = [f"{len(times.applied_ms)} changes, {times.hosts} hosts: ms         minimum   median      p99    worst"]
    for name, values in (("apply to enforced", times.applied_ms), ("commit to enforced", times.enforced_ms)):
        figures = _distribution(values)
        lines.append(f"{name:<34}" + "".join(f"{figures[key]:>9.1f}" for key in ("minimum", "median", "p99", "worst")))
    met = _distribution(times.applied_ms)["p99"] <= TARGET_MS
    lines.append(f"target: p99 of apply to enforced at most {TARGET_MS:g} ms: {'met' if met else 'missed'}")
    return lines


def _measure(lab: Lab, changes: int) -> RolloutTimes:
    sources = [(str(path), path.read_text()) for path in lab.topology.policy]
    place = next(index for index, (_, text) in enumerate(sources) if "tenant: acme" in text)
    name, text = sources[place]
    more = text.replace("rules:\n", "rules:\n  - bench: allow web to app on udp/9999\n", 1)
    if more == text:
        raise ValueError(f"{name} has no line `rules:`")
    applied: list[float] = []
    enforced: list[float] = []
    for number in range(_WARM_UP + changes):
        time.sleep(_PAUSE_S)
        started = time.perf_counter()
        answer = lab.operator.apply([(name, text if number % 2 else more)])
        took_ms = (time.perf_counter() - started) * 1e3
        if number >= _WARM_UP:
            applied.append(took_ms)
            enforced.append(max(host["enforced_ms"] for host in answer["hosts"]))
    return RolloutTimes(len(lab.topology.hosts), tuple(applied), tuple(enforced))


def _distribution(values: tuple[float, ...]) -> dict[str, float]:
    return {
        "minimum": round(min(values), 2),
        "median": round(median(values), 2),
        "p99": round(quantiles(values, n=100, method="inclusive")[98], 2),
        "worst": round(max(values), 2),
    }
