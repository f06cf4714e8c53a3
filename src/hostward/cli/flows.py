"""Flows as lines of text, and times as people write them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from hostward.errors import UsageError

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def parse_since(text: str) -> str:
    """An RFC 3339 time from one, or from e.g. ``10m`` ago. Raises UsageError."""
    found = re.fullmatch(r"(\d+)([smhd])", text)
    if found:
        return (datetime.now(UTC) - timedelta(**{_UNITS[found[2]]: int(found[1])})).isoformat()
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            "this is no time", subject=text, hint="write 2026-12-01T00:00:00Z, or 10m for ten minutes ago"
        ) from None
    return moment.astimezone(UTC).isoformat()


def flow_line(flow: Mapping[str, Any]) -> str:
    """One flow as one line: time, verdict, who to whom, rule and revision."""
    time = str(flow["time"])[11:23]
    verdict = f"{flow['verdict']}{' (' + flow['reason'] + ')' if flow['reason'] else ''}"
    rules = " + ".join(flow["rules"])
    size = f"{flow['packets']} packets, {flow['bytes']} B"
    return (
        f"{time} {flow['host']} {verdict:<22} {_side(flow['src'])} → {_side(flow['dst'])} {flow['proto']}  "
        f"{rules} @{flow['revision']}  {flow['kind']} {size}"
    )


def _side(side: Mapping[str, Any]) -> str:
    name = side["endpoint"] or side["ip"] or "?"
    return f"{name}:{side['port']}" if side["port"] else str(name)
