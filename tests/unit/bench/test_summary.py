"""Figures from samples: spread, ratios, and that pairing takes out what a whole round suffered."""

from __future__ import annotations

from dataclasses import astuple

import pytest
from bench.summary import Summary, compare, rotated, summarize


def test_a_summary_tells_least_middle_and_spread() -> None:
    assert summarize([5.0, 1.0, 3.0, 2.0, 4.0]) == Summary(1.0, 2.0, 3.0, 4.0)


def test_equal_samples_have_no_spread() -> None:
    assert summarize([7.0] * 11) == Summary(7.0, 7.0, 7.0, 7.0)


def test_a_round_that_slows_every_case_changes_no_paired_ratio() -> None:
    base = [100.0, 10.0, 50.0, 100.0]
    ratio = compare([value * 0.9 for value in base], base)
    assert astuple(ratio) == pytest.approx((0.9, 0.9, 0.9, 0.9))


def test_one_spoilt_sample_does_not_move_the_paired_median() -> None:
    base = [100.0] * 11
    ours = [98.0] * 10 + [1.0]
    assert compare(ours, base).paired_median == pytest.approx(0.98)


def test_cases_of_different_rounds_are_not_compared() -> None:
    with pytest.raises(ValueError, match="longer"):
        compare([1.0, 2.0], [1.0, 2.0, 3.0])


def test_every_case_comes_first_in_turn() -> None:
    orders = [rotated("abc", number) for number in range(4)]
    assert orders == [["a", "b", "c"], ["b", "c", "a"], ["c", "a", "b"], ["a", "b", "c"]]
