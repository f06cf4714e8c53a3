"""Events waiting for a channel: bounded, in order, and every loss counted once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hostward.agent.event_pump import BATCH_LIMIT, EventPump
from hostward.model.flow import FlowEvent


def _event(number: int) -> FlowEvent:
    names = ("acme/a", "acme", "default", "egress")
    return FlowEvent(
        number, "new", "allow", "", 1, ("acme/r",), 1, *names, 6, "10.0.0.1", 1, "10.0.0.2", 2, 256, 257, 1, 60
    )


def test_nothing_waits_at_first() -> None:
    assert EventPump().take() is None


def test_the_oldest_leave_and_are_counted() -> None:
    pump = EventPump(limit=3)
    pump.put([_event(n) for n in range(5)])
    batch = pump.take()
    assert batch is not None
    assert ([e.time_ns for e in batch.events], batch.lost) == ([2, 3, 4], 2)
    assert pump.take() is None


def test_a_batch_that_may_not_have_arrived_is_a_loss_and_is_not_sent_again() -> None:
    pump = EventPump(limit=3)
    pump.put([_event(n) for n in range(5)])
    batch = pump.take()
    assert batch is not None
    pump.lose(batch)
    after = pump.take()
    assert after is not None
    assert (after.events, after.lost) == ([], 5)


@given(st.lists(st.one_of(st.integers(1, 2 * BATCH_LIMIT), st.sampled_from(["sent", "lost"])), max_size=30))
def test_every_event_is_sent_once_or_counted_once(steps: list[int | str]) -> None:
    pump, put, seen, lost = EventPump(limit=700), 0, [], 0
    for step in [*steps, *["sent"] * 60]:
        if isinstance(step, int):
            pump.put([_event(put + n) for n in range(step)])
            put += step
        elif (batch := pump.take()) is not None:
            assert len(batch.events) <= BATCH_LIMIT
            if step == "lost":
                pump.lose(batch)
            else:
                seen += [event.time_ns for event in batch.events]
                lost += batch.lost
    assert seen == sorted(set(seen))
    assert len(seen) + lost == put
