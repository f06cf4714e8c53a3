"""So many a second, so many at once."""

from __future__ import annotations

import logging

from hostward.gate.allowance import Allowance, Allowances, BoundedLog


def test_a_bucket_empties_and_fills_again() -> None:
    now = [0.0]
    bucket = Allowance(2.0, 3, lambda: now[0])
    assert [bucket.take() for _ in range(4)] == [True, True, True, False]
    now[0] = 0.5
    assert [bucket.take(), bucket.take()] == [True, False]
    now[0] = 1_000.0
    assert sum(bucket.take() for _ in range(10)) == 3


def test_sources_are_apart_and_bounded() -> None:
    now = [0.0]
    buckets = Allowances(1.0, 1, lambda: now[0])
    assert [buckets.take("a"), buckets.take("a"), buckets.take("b")] == [True, False, True]
    for number in range(2_000):
        assert buckets.take(number)
    assert not buckets.take(1_999)


def test_a_log_says_how_much_it_left_out() -> None:
    bounded = BoundedLog(per_s=0.0, at_once=2)
    records = [logging.LogRecord("x", logging.WARNING, "f", 1, "line %d", (number,), None) for number in range(5)]
    assert [bounded.filter(record) for record in records] == [True, True, False, False, False]
    assert bounded.filter(logging.LogRecord("x", logging.ERROR, "f", 1, "bug", (), None))
