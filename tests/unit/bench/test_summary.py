"""Figures from samples: spread, ratios, and that pairing takes out what a whole round suffered."""

from __future__ import annotations

from dataclasses import astuple

import pytest
from bench.summary import Summary, compare, order, per_round, summarize


def test_a_summary_tells_least_middle_and_spread_of_rounds() -> None:
    rounds = [[5.0], [1.0], [3.0], [2.0], [4.0]]
    assert summarize(rounds) == Summary(1.0, 2.0, 3.0, 4.0)


def test_a_spoilt_turn_spoils_no_round() -> None:
    assert per_round([[7.0, 0.1, 7.0], [7.0, 7.0, 7.0]]) == [7.0, 7.0]


def test_what_slows_every_case_of_a_turn_changes_no_ratio() -> None:
    base = [[100.0, 10.0], [50.0, 100.0], [1.0, 2.0]]
    ours = [[rate * 0.9 for rate in turns] for turns in base]
    assert astuple(compare(ours, base)) == pytest.approx((0.9, 0.9, 0.9, 0.9))


def test_one_spoilt_round_does_not_move_the_paired_ratio() -> None:
    base = [[100.0, 100.0]] * 11
    ours = [[98.0, 98.0]] * 10 + [[1.0, 1.0]]
    assert compare(ours, base).paired == pytest.approx(0.98)


def test_the_ratio_of_medians_takes_rates_of_any_round() -> None:
    ratio = compare([[10.0], [20.0], [30.0]], [[30.0], [20.0], [10.0]])
    assert ratio.of_medians == 1.0
    assert ratio.paired_upper_quartile > 1.0 > ratio.paired_lower_quartile


@pytest.mark.parametrize("base", [[[1.0], [2.0], [3.0]], [[1.0, 1.0], [2.0, 2.0]]])
def test_other_rounds_or_turns_are_not_compared(base: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="longer"):
        compare([[1.0], [2.0]], base)


def test_every_case_comes_first_and_follows_different_ones() -> None:
    turns = ["".join(order("abcdefg", turn)) for turn in range(14)]
    assert {turn[0] for turn in turns} == set("abcdefg")
    assert all(sorted(turn) == list("abcdefg") for turn in turns)
    assert {turn[turn.index("b") - 1] for turn in turns if turn[0] != "b"} == {"a", "c"}
