"""Sampling by the datapath's own arithmetic, many times over: what it estimates is right as often as it says.

The random numbers of most trials come from a seed, so that they are the same each time (bpf/bench.bpf.c); those of the
last come from the kernel, through the program that decides packets.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from hostward import _core
from hostward.datapath.bench import BENCH_OBJECT
from hostward.model.sample import error_percent
from tests.netns.frames import UDP, udp
from tests.netns.probe import ENDPOINT, outward, packet
from tests.netns.test_sampling import Sampled

pytestmark = pytest.mark.netns

TRIALS = 2_000
PACKETS = 100_000
RATE = 100


@pytest.fixture
def bench(pins: Path) -> _core.Bench:
    probe = Sampled(pins, 0)
    return _core.Bench(BENCH_OBJECT, pins, probe.enforcer.programmer.slots[ENDPOINT])


def seeds(seed: int, count: int = TRIALS) -> list[int]:
    source = random.Random(seed)
    return [source.getrandbits(64) | 1 for _ in range(count)]


def covered(samples: int, rate: int, truth: int) -> bool:
    """Whether the truth lies in the interval around the estimate."""
    found = samples * rate
    return abs(found - truth) <= found * error_percent(samples) / 100


@pytest.mark.parametrize(("period", "rate"), [(1, RATE), (1, 1_000), (2, RATE), (7, RATE), (10, 50)])
def test_the_truth_is_in_the_interval_in_95_of_100_trials(bench: _core.Bench, period: int, rate: int) -> None:
    truth = PACKETS // period
    packets = truth * period
    inside = sum(
        covered(bench.try_sampling(seed, rate, packets, period=period), rate, truth) for seed in seeds(20_041 + period)
    )
    assert 0.93 <= inside / TRIALS <= 0.97


def test_the_interval_would_be_missed_if_it_were_too_narrow(bench: _core.Bench) -> None:
    # The negative control of the one above: half as wide it is right in 67 of 100.
    def half(samples: int) -> bool:
        return abs(samples * RATE - PACKETS) <= samples * RATE * error_percent(samples) / 200

    inside = sum(half(bench.try_sampling(seed, RATE, PACKETS)) for seed in seeds(3))
    assert inside / TRIALS < 0.75


@pytest.mark.parametrize("rate", [2, 3, 10, 128, 1_000])
def test_the_mean_of_many_estimates_is_the_truth(bench: _core.Bench, rate: int) -> None:
    # So many samples together that chance moves the mean by 0.03 %, one standard deviation; four are let pass.
    trials, wanted = 100, 10_000_000
    packets = wanted * rate // trials
    taken = sum(bench.try_sampling(seed, rate, packets) for seed in seeds(rate, trials))
    assert taken * rate / (packets * trials) == pytest.approx(1, abs=4 * 0.000_32)


def test_traffic_in_step_with_the_rate_is_seen_right_at_random_and_wrong_in_step(bench: _core.Bench) -> None:
    # One packet of each hundred is of the class: a sampler that counts meets it always or never.
    truth = PACKETS
    for phase in (0, 50, RATE - 1):
        asked = {"period": RATE, "phase": phase}
        in_step = bench.try_sampling(1, RATE, PACKETS * RATE, **asked, in_step=True) * RATE
        assert in_step in (0, truth * RATE)
        at_random = [bench.try_sampling(seed, RATE, PACKETS * RATE, **asked) for seed in seeds(phase, 200)]
        inside = sum(covered(samples, RATE, truth) for samples in at_random)
        assert inside / 200 >= 0.9
        assert sum(at_random) * RATE / 200 == pytest.approx(truth, rel=0.01)


def test_the_kernel_s_own_random_numbers_are_covered_as_well(pins: Path) -> None:
    probe = Sampled(pins, RATE)
    frame = outward(packet(4, "egress", UDP, udp(4000, 80)))
    trials, packets = 1_200, 12_000
    inside = 0
    for _ in range(trials):
        before = probe.counts()
        probe.repeat("egress", frame, packets)
        after = probe.counts()
        assert after.pool - before.pool == packets
        inside += covered(after.taken - before.taken, RATE, packets)
    # These numbers are new each time: four standard deviations.
    assert 0.925 <= inside / trials <= 0.975
