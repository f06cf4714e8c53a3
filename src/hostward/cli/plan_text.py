"""A plan as text: flows between groups first, then flows that were seen, what would fail, and the text last."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

# Of each list so many flows are printed; `-o json` has more.
SHOWN = 20


def plan_lines(answer: Mapping[str, Any], now: datetime) -> Iterator[str]:
    """The lines of a plan on stdout."""
    for flow in answer["flows"] or ():
        rules = f"  ({', '.join(flow['rules'])})" if flow["rules"] else ""
        yield f"{flow['from']} → {flow['to']} on {flow['ports']}: {flow['before']} → {flow['after']}{rules}"
    yield from _observed(answer["observed"], now)
    for failing in answer["failing_assertions"]:
        already = " (before this change too)" if failing["before"] else ""
        yield f"! the assertion would fail{already}: {failing['policy']}: {failing['text']}"
        yield f"    counter-example: {failing['counter_example']}"
    for change in answer["changes"]:
        sign = {"add": "+", "remove": "-", "edit": "~"}[change["change"]]
        yield f"{sign} {change['kind']} {change['rule']}: {change['text']}"


def _observed(observed: Mapping[str, Any], now: datetime) -> Iterator[str]:
    window, counts = duration_text(observed["window_s"]), observed["counts"]
    if counts["broken"]:
        yield f"would break {counted(counts['broken'], 'flow')} seen in the last {window}:"
        yield from _listed(observed["broken"], counts["broken"], now, "now denied by")
    if counts["opened"]:
        yield f"would newly allow {counted(counts['opened'], 'flow')} denied in the last {window}:"
        yield from _listed(observed["opened"], counts["opened"], now, "now allowed by")
    if counts["would_deny"]:
        audited = counted(counts["would_deny"], "flow")
        yield f"would pass, but only because it is audited: {audited} seen in the last {window}:"
        yield from _listed(observed["would_deny"], counts["would_deny"], now, "would be denied by")


def coverage(observed: Mapping[str, Any], now: datetime) -> Iterator[str]:
    """What the comparison with observed flows cannot know, as messages."""
    known_since = datetime.fromisoformat(observed["known_since"])
    known_s = (now - known_since).total_seconds()
    if not observed["seen"]:
        yield f"no flow was observed in the last {duration_text(observed['window_s'])}"
    if known_s < observed["window_s"]:
        yield f"flows are known for the last {duration_text(max(known_s, 0))} only: the controller started then"
    if observed["evicted"]:
        older = counted(observed["evicted"], "older flow")
        yield f"not in this answer, for there was no room to keep them: {older}"


def _listed(flows: list[Mapping[str, Any]], count: int, now: datetime, verb: str) -> Iterator[str]:
    for flow in flows[:SHOWN]:
        ago = duration_text((now - datetime.fromisoformat(flow["last_seen"])).total_seconds())
        packets = f"{counted(flow['packets'], 'packet')}{', others of the rule too' if flow['others'] else ''}"
        yield (
            f"  {flow['from']['name']} → {flow['to']['name']} {flow['port']} (last seen {ago} ago, {packets}) "
            f"{verb} {' and '.join(flow['after_rules'])}"
        )
    if count > SHOWN:
        yield f"  … and {count - SHOWN:,} more: -o json"


def counted(count: int, noun: str) -> str:
    """A number of things, as in "1 flow" and "3,000 flows"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def duration_text(seconds: float) -> str:
    """A duration as people say it: 12 s, 5 min, 2 h, 3 d; whole ones only, never zero units too many."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            whole, rest = divmod(int(seconds), size)
            return f"{whole} {unit}" if not rest or size == 60 or whole >= 10 else f"{seconds / size:.1f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def now_utc() -> datetime:
    """The clock of the terminal, for "ago"."""
    return datetime.now(UTC)
