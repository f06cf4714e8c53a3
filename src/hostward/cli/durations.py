"""Times as people write them on a command line."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from hostward.errors import UsageError

_UNITS_S = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|)")
# Longer is a slip of the keyboard, and what multiplies out of it must still be a time that exists.
_LONGEST_S = 3_650 * 86_400.0


def parse_duration_s(text: str) -> float:
    """Seconds of e.g. ``90``, ``90s``, ``10m``, ``2h``. Raises UsageError."""
    found = _DURATION.fullmatch(text)
    duration_s = float(found[1]) * _UNITS_S[found[2]] if found else 0.0
    if found is None or duration_s > _LONGEST_S:
        raise UsageError(
            "this is no duration", subject=text, hint="write e.g. 90s, 10m or 2h; a bare number is seconds"
        )
    return duration_s


def parse_since(text: str) -> str:
    """An RFC 3339 time from one (without an offset: UTC), or from e.g. ``10m`` ago. Raises UsageError."""
    if _DURATION.fullmatch(text):
        return (datetime.now(UTC) - timedelta(seconds=parse_duration_s(text))).isoformat()
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            "this is no time", subject=text, hint="write 2026-12-01T00:00:00Z, or 10m for ten minutes ago"
        ) from None
    # Not the operator's local zone: the same command must mean the same on every machine.
    return (moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)).isoformat()
