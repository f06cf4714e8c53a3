"""The network benchmark: every case side by side, measured in alternating rounds, and proof that each one filtered.

It owns the order of things: all topologies stand before the first round, each case is tried with what it must pass and
must deny, rounds alternate, and afterwards the filters' own counters must account for the traffic.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from bench.cases import UNPROTECTED, Case, Counting, Filter, protected
from bench.commands import BenchError
from bench.policy import DENIED_PORT, FAMILIES
from bench.summary import order
from bench.topology import Topology, built
from bench.workloads import Client, Kind, Measurement, at_work, can_open

RULES = (10, 1_000)
CASES = (UNPROTECTED, *(Case(kind, rules) for rules in RULES for kind in Filter if kind is not Filter.NONE))
MEASUREMENTS = tuple(Measurement(kind, family) for kind in Kind for family in FAMILIES)
# Cases take turns this often. The speed of one processor of a shared machine was seen to vary by a sixth: what it is in one
# twentieth of a second tells four fifths of what it is in the next, and nothing of what it is a second later.
SLICE_S = 0.025
# A connection that is let through is made in microseconds; one that is not is given this long to prove us wrong.
_DENIED_WITHIN_S, _ALLOWED_WITHIN_S = 1.0, 5.0


@dataclass(slots=True)
class _Stage:
    """One case, ready to be measured, and the connections that measuring has opened so far."""

    case: Case
    topology: Topology
    counting: Counting
    client: Client
    opened: int = 0


@dataclass(frozen=True, slots=True)
class Evidence:
    """That a case filtered: what it counted while it was measured, and the connections that it must have seen."""

    connections: int
    allowed: int
    denied_before: int


@dataclass(slots=True)
class NetworkResult:
    """The rates of every turn, by rounds, and each protected case's evidence."""

    rounds: int
    seconds: float
    samples: dict[tuple[Measurement, Case], list[list[float]]] = field(default_factory=dict)
    evidence: dict[Case, Evidence] = field(default_factory=dict)


def run(rounds: int, seconds: float, progress: Callable[[str], None]) -> NetworkResult:
    """Measure every case. Raises BenchError where a case does not filter as it should; leaves nothing behind."""
    result = NetworkResult(rounds, seconds)
    with _stages(progress) as stages:
        before = {}
        for stage in stages:
            _prove_filtering(stage)
            before[stage.case] = stage.counting()
        for number in range(rounds):
            for measurement in MEASUREMENTS:
                for case, rates in _round(stages, measurement, number, seconds).items():
                    result.samples.setdefault((measurement, case), []).append(rates)
            progress(f"round {number + 1} of {rounds}")
        for stage in stages:
            if stage.case is not UNPROTECTED:
                seen = stage.counting()
                allowed = seen.allowed - before[stage.case].allowed
                evidence = Evidence(stage.opened, allowed, before[stage.case].denied)
                result.evidence[stage.case] = _accounted(stage, evidence)
    return result


@contextmanager
def _stages(progress: Callable[[str], None]) -> Iterator[list[_Stage]]:
    with ExitStack() as stack:
        stages = []
        for number, case in enumerate(CASES):
            topology = stack.enter_context(built(f"{os.getpid()}-{number}"))
            counting = stack.enter_context(protected(case, topology))
            client = stack.enter_context(at_work(topology, case.name))
            stages.append(_Stage(case, topology, counting, client))
            progress(f"{case.name} stands")
        yield stages


def _round(stages: Sequence[_Stage], measurement: Measurement, number: int, seconds: float) -> dict[Case, list[float]]:
    """The rates of every case's turns in one round; who goes first changes with every turn and every round."""
    rates: dict[Case, list[float]] = {stage.case: [] for stage in stages}
    for stage in stages:
        stage.client.begin(measurement)
        stage.opened += 1
    for turn_number in range(max(1, round(seconds / SLICE_S))):
        for stage in order(stages, number + turn_number):
            turn = stage.client.measure(SLICE_S)
            rates[stage.case].append(turn.rate)
            if measurement.kind is Kind.CONNECTS:
                stage.opened += turn.amount
    for stage in stages:
        stage.client.end()
    return rates


def _prove_filtering(stage: _Stage) -> None:
    """What is measured gets through, and a port that no rule names does not, though the server listens there.

    Without a filter the latter has to get through: else something else denied it.
    """
    before = stage.counting()
    for family in FAMILIES:
        for port in (kind.port for kind in Kind):
            if not can_open(stage.topology, family, port, limit_s=_ALLOWED_WITHIN_S):
                raise BenchError(
                    f"does not let IPv{family} to tcp/{port}, which its policy allows", subject=stage.case.name
                )
        passed = can_open(stage.topology, family, DENIED_PORT, limit_s=_DENIED_WITHIN_S)
        if passed and stage.case is not UNPROTECTED:
            raise BenchError(f"lets IPv{family} to tcp/{DENIED_PORT}, which its policy denies", subject=stage.case.name)
        if not passed and stage.case is UNPROTECTED:
            raise BenchError(f"does not let IPv{family} to tcp/{DENIED_PORT}", subject=stage.case.name)
    if stage.case is not UNPROTECTED and stage.counting().denied - before.denied < len(FAMILIES):
        raise BenchError("did not count the packets that it denied", subject=stage.case.name)


def _accounted(stage: _Stage, evidence: Evidence) -> Evidence:
    if evidence.allowed < evidence.connections:
        raise BenchError(
            f"counted {evidence.allowed:,} packets while {evidence.connections:,} connections were opened through it",
            subject=stage.case.name,
        )
    return evidence
