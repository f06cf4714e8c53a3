"""Observed flows, and what a change means for them, as the API shows them."""

from __future__ import annotations

from datetime import datetime

from hostward.controller.flow_impact import FlowImpact, Impact
from hostward.controller.proofs import FailingAssertion
from hostward.model.observed import ObservedFlow, Party
from hostward.policy.port_names import port_text

# Of each list an answer holds so many flows, the ones seen last; `truncated` says that there are more.
LISTED = 1_000


def impact(found: FlowImpact) -> dict[str, object]:
    """What a change does to the flows that were seen."""
    lists = {"broken": found.broken, "opened": found.opened, "would_deny": found.would_deny}
    return {
        "window_s": found.window_s,
        "known_since": time_text(found.known_since),
        "seen": found.seen,
        "evicted": found.evicted,
        **{name: [_impact(one) for one in flows[:LISTED]] for name, flows in lists.items()},
        "counts": {name: len(flows) for name, flows in lists.items()},
        "truncated": any(len(flows) > LISTED for flows in lists.values()),
    }


def _impact(one: Impact) -> dict[str, object]:
    return {**flow(one.flow), "after": one.verdict, "after_rules": list(one.rules)}


def flow(seen: ObservedFlow) -> dict[str, object]:
    """One observed flow; ``port`` is as a rule writes it."""
    return {
        "network": seen.network,
        "from": _party(seen.source),
        "to": _party(seen.destination),
        "port": port_text(seen.protocol, seen.port),
        "first_seen": time_text(seen.first_seen),
        "last_seen": time_text(seen.last_seen),
        "openings": seen.openings,
        "packets": seen.packets,
        "bytes": seen.bytes,
        "others": seen.others,
        "verdict": seen.verdict,
        "rules": list(seen.rules),
        "revision": seen.revision,
    }


def failing(found: FailingAssertion) -> dict[str, object]:
    """One assertion that would not hold."""
    place = found.result.assertion.place
    return {
        "policy": found.result.policy,
        "text": found.result.assertion.text,
        "place": f"{place.file}:{place.line}:{place.column}",
        "counter_example": found.result.counter_example,
        "before": found.before,
    }


def _party(party: Party) -> dict[str, object]:
    return {"name": str(party), "endpoint": party.endpoint or None, "ip": party.address, "prefix": party.prefix or None}


def time_text(moment: datetime) -> str:
    """A time as the API writes it."""
    return moment.isoformat().replace("+00:00", "Z")
