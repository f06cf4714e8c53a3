"""Samples on their way to the channel: sums of all of them, lines of some, and nothing that goes uncounted."""

from __future__ import annotations

import math

import pytest

from hostward.agent.messages import Samples, decode_from_agent, encode
from hostward.agent.sampling import BATCH_LIMIT, TOLD_BURST, TOLD_PER_S, SamplePump
from hostward.model.sample import PacketSample, SampleCounts, SampleTotal, error_percent, estimate


def sample(endpoint: str = "acme/a", verdict: str = "allow", rate: int = 10, size: int = 100) -> PacketSample:
    return PacketSample(
        1, endpoint, "acme", "default", "egress", verdict, "", 2, ("acme/web",), rate, size, 0, 17, 2048, "10.0.0.1", 1,
        "10.0.0.2", 2, 301,
    )  # fmt: skip


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def counted(pool: int, taken: int, lost: int = 0, rate: int = 10) -> dict[str, tuple[str, int, SampleCounts]]:
    return {"acme/a": ("acme", rate, SampleCounts(pool, taken, lost))}


def drained(pump: SamplePump) -> tuple[int, dict[str, SampleTotal]]:
    told, totals = 0, {}
    while (batch := pump.take()) is not None:
        assert len(batch.samples) <= BATCH_LIMIT
        told += len(batch.samples)
        totals |= batch.totals
    return told, totals


def test_sums_hold_all_samples_and_lines_only_what_there_is_room_for() -> None:
    clock = Clock()
    pump = SamplePump(clock)
    pump.put(sample() for _ in range(TOLD_BURST + 500))
    pump.settle(counted(15_000, TOLD_BURST + 500))
    told, totals = drained(pump)
    assert (told, totals["acme/a"].untold, pump.untold) == (TOLD_BURST, 500, 500)
    assert totals["acme/a"].samples == TOLD_BURST + 500
    clock.now = 1.0
    pump.put(sample() for _ in range(TOLD_PER_S + 7))
    assert drained(pump)[0] == TOLD_PER_S
    assert (pump.taken, pump.untold) == (TOLD_BURST + 500 + TOLD_PER_S + 7, 507)


def test_what_another_agent_was_told_is_not_told_again() -> None:
    pump = SamplePump(Clock())
    pump.settle(counted(1_000_000, 1_000))
    assert pump.take() is not None
    pump.put([sample()])
    pump.settle(counted(1_000_010, 1_001))
    assert drained(pump)[1]["acme/a"].counts == SampleCounts(10, 1, 0)


def test_an_endpoint_that_is_attached_anew_begins_anew() -> None:
    pump = SamplePump(Clock())
    pump.put([sample()])
    pump.settle(counted(50, 1))
    pump.settle(counted(20, 0))
    assert drained(pump)[1]["acme/a"] == SampleTotal("acme", 10, SampleCounts(20, 0, 0), 0, ())
    pump.settle({})
    pump.tell_again()
    assert drained(pump) == (0, {})


def test_sums_that_stand_still_are_told_once_and_again_on_a_new_channel() -> None:
    pump = SamplePump(Clock())
    pump.settle(counted(50, 0))
    assert drained(pump)[1].keys() == {"acme/a"}
    pump.settle(counted(50, 0))
    assert pump.take() is None
    pump.tell_again()
    assert drained(pump)[1].keys() == {"acme/a"}


def test_a_batch_that_was_not_delivered_is_counted_and_its_sums_go_again() -> None:
    pump = SamplePump(Clock())
    pump.put([sample(), sample()])
    pump.settle(counted(20, 2))
    batch = pump.take()
    assert batch is not None
    pump.lose(batch)
    assert pump.untold == 2
    pump.settle(counted(20, 2))
    told, totals = drained(pump)
    assert (told, totals["acme/a"].untold) == (0, 2)


def test_a_batch_goes_over_the_wire_as_it_is() -> None:
    pump = SamplePump(Clock())
    pump.put([sample(rate=10_000_000, size=65_535) for _ in range(3)])
    pump.settle(counted(2**60, 3))
    batch = pump.take()
    assert isinstance(batch, Samples)
    arrived = decode_from_agent(encode(batch))
    assert isinstance(arrived, Samples)
    assert (list(arrived.samples), dict(arrived.totals)) == (list(batch.samples), dict(batch.totals))


def test_estimates_and_their_errors() -> None:
    pump = SamplePump(Clock())
    pump.put([*(sample() for _ in range(100)), *(sample(verdict="deny", size=1_000) for _ in range(25))])
    pump.settle(counted(1_250, 125))
    total = drained(pump)[1]["acme/a"]
    allow, deny = total.classes
    whole = estimate(total, *total.classes)
    assert (whole.samples, whole.packets, whole.bytes) == (125, 1_250, 350_000)
    assert whole.error_percent == pytest.approx(error_percent(125)) == pytest.approx(17.53, abs=0.01)
    assert estimate(total, allow).error_percent == pytest.approx(19.6)
    assert estimate(total, deny).packets == 250
    # Of equal sizes both errors are the same; of different ones the bytes' is greater.
    assert estimate(total, deny).bytes_error_percent == pytest.approx(error_percent(25))
    assert whole.bytes_error_percent > whole.error_percent
    assert error_percent(0) == math.inf


@pytest.mark.parametrize(("samples", "percent"), [(100, 19.6), (1_000, 6.2), (1_537, 5.0), (10_000, 1.96), (38_416, 1)])
def test_the_error_is_the_one_of_the_theory(samples: int, percent: float) -> None:
    assert error_percent(samples) == pytest.approx(percent, abs=0.01)


def test_samples_that_were_lost_are_made_up_for() -> None:
    pump = SamplePump(Clock())
    pump.put(sample() for _ in range(80))
    pump.settle(counted(1_000, 100, 20))
    total = drained(pump)[1]["acme/a"]
    assert estimate(total, *total.classes).packets == 1_000
