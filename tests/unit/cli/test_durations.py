"""Durations and times on the command line."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from hostward.cli.durations import parse_duration_s, parse_since
from hostward.errors import UsageError


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90.0), ("90s", 90.0), ("1.5m", 90.0), ("2h", 7200.0), ("1d", 86400.0), ("500ms", 0.5)]
)
def test_a_duration_is_a_number_and_a_unit(text: str, seconds: float) -> None:
    assert parse_duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "-1s", "1w", "1 s", "1h30m", "inf", "9" * 400 + "d"])
def test_anything_else_is_wrong_usage(text: str) -> None:
    with pytest.raises(UsageError, match="no duration"):
        parse_duration_s(text)


def test_since_counts_back_from_now() -> None:
    before = datetime.now(UTC)
    ago_s = (before - datetime.fromisoformat(parse_since("10m"))).total_seconds()
    assert 599 <= ago_s <= 600


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2026-12-01T00:00:00Z", "2026-12-01T00:00:00+00:00"),
        ("2026-12-01T02:00:00+02:00", "2026-12-01T00:00:00+00:00"),
        ("2026-12-01T00:00:00", "2026-12-01T00:00:00+00:00"),
    ],
)
def test_since_is_utc_whatever_the_machines_zone(text: str, utc: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    assert parse_since(text) == utc


def test_a_time_that_is_none_is_wrong_usage() -> None:
    with pytest.raises(UsageError, match="no time"):
        parse_since("yesterday")
