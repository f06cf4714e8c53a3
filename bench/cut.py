"""How soon a host's network is gone: in a lab with software TPMs, from the deed to the last packet at the far end.

A stream of numbers goes between two endpoints, whose hosts' gates lie between them, one every 5 ms; its last echo says
when it was cut. Done to the host, in turns: its sentinel is killed (the pulse has to end by itself: at most its life), a
file of the running monitor is written (watch, measurement, quote, appraisal, push), an operator quarantines it (push).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from hostward.lab.demo.run import find_topology, only_one
from hostward.lab.demo.trust_claims import BAD, TOPOLOGY, Scene
from hostward.lab.lab import Lab, prepare
from hostward.lab.state import tear_down
from hostward.lab.trust import PULSE_S

SENTINEL, FILE, COMMAND = "sentinel killed", "measured file written", "quarantined by command"
# The stream's own period is the resolution.
TARGETS_MS = {SENTINEL: PULSE_S * 1e3 + 10, FILE: 1_000.0, COMMAND: 100.0}


@dataclass(frozen=True, slots=True)
class Cuts:
    """Milliseconds from the deed to the last packet, by what was done."""

    times_ms: dict[str, tuple[float, ...]]


def run(rounds: int, say: Callable[[str], None]) -> Cuts:
    """Bring up the lab and measure. Raises HostwardError; nothing is left behind whatever happens."""
    times: dict[str, list[float]] = {SENTINEL: [], FILE: [], COMMAND: []}
    with only_one():
        lab = prepare(find_topology(TOPOLOGY), say)
        try:
            lab.build()
            lab.start_hostward()
            lab.apply_policy()
            lab.attach_endpoints()
            with Scene(lab) as scene:
                scene.reaches_again()
                for number in range(rounds):
                    say(f"cut: round {number + 1} of {rounds}")
                    times[SENTINEL].append(_sentinel(lab, scene))
                    times[COMMAND].append(_command(lab, scene))
                    times[FILE].append(_file(lab, scene))
        finally:
            lab.close()
            tear_down(lab.state)
    return Cuts({name: tuple(values) for name, values in times.items()})


def _sentinel(lab: Lab, scene: Scene) -> float:
    with scene.watched() as until_silent:
        lab.state.others[f"sentinel-{BAD}"].kill()
        after_s = until_silent()
    lab.trust.start_sentinel(BAD)
    scene.reaches_again()
    return after_s * 1e3


def _command(lab: Lab, scene: Scene) -> float:
    with scene.watched() as until_silent:
        lab.operator.call("POST", f"/v1/hosts/{BAD}/quarantined")
        after_s = until_silent()
    lab.operator.call("POST", f"/v1/hosts/{BAD}/admitted")
    scene.reaches_again()
    return after_s * 1e3


def _file(lab: Lab, scene: Scene) -> float:
    target = lab.trust.objects(BAD) / "endpoint.bpf.o"
    content = target.read_bytes()
    with scene.watched() as until_silent:
        target.write_bytes(content + os.urandom(1))
        after_s = until_silent()
    # What PCR 15 holds, only a boot takes away.
    lab.state.agents[BAD].kill()
    target.write_bytes(content)
    lab.trust.boot(BAD)
    lab.start_agents([BAD])
    scene.reaches_again()
    return after_s * 1e3


def as_json(cuts: Cuts) -> dict[str, object]:
    """For the result file."""
    return {
        "unit": "ms",
        "note": "software TPM; from the deed to the last packet of a stream with a period of 5 ms",
        "rows": [
            {
                "deed": name,
                "rounds": len(values),
                "minimum": round(min(values), 1),
                "median": round(median(values), 1),
                "worst": round(max(values), 1),
                "target": TARGETS_MS[name],
            }
            for name, values in cuts.times_ms.items()
        ],
    }


def table(cuts: Cuts) -> list[str]:
    """For people."""
    lines = ["until a host's last packet, software TPM   minimum    median     worst    target (ms)"]
    for name, values in cuts.times_ms.items():
        met = "met" if max(values) <= TARGETS_MS[name] else "MISSED"
        figures = f"{min(values):>10,.0f}{median(values):>10,.0f}{max(values):>10,.0f}{TARGETS_MS[name]:>10,.0f}"
        lines.append(f"  {name:<38}{figures}  {met}")
    return lines
