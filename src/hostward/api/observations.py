"""Observed flows, and what a change means for them, as the API shows them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from hostward.api.answers.flows import Observed
from hostward.api.answers.flows import Party as PartyAnswer
from hostward.api.answers.plans import FailingAssertion as FailingAssertionAnswer
from hostward.api.answers.plans import Impact as ImpactAnswer
from hostward.api.answers.plans import ImpactCounts, ObservedImpact
from hostward.controller.flow_impact import FlowImpact, Impact
from hostward.controller.proofs import FailingAssertion
from hostward.model.observed import ObservedFlow, Party
from hostward.policy.port_names import port_text

# Of each list an answer holds so many flows, the ones seen last; `truncated` says that there are more.
LISTED = 1_000


def impact(found: FlowImpact) -> ObservedImpact:
    """What a change does to the flows that were seen."""
    lists = (found.broken, found.opened, found.would_deny)
    broken, opened, would_deny = ([_impact(one) for one in flows[:LISTED]] for flows in lists)
    return ObservedImpact(
        window_s=found.window_s,
        known_since=time_text(found.known_since),
        seen=found.seen,
        evicted=found.evicted,
        broken=broken,
        opened=opened,
        would_deny=would_deny,
        counts=ImpactCounts(broken=len(found.broken), opened=len(found.opened), would_deny=len(found.would_deny)),
        truncated=any(len(flows) > LISTED for flows in lists),
    )


def _impact(one: Impact) -> ImpactAnswer:
    return ImpactAnswer(**_fields(one.flow), after=one.verdict, after_rules=list(one.rules))


def flow(seen: ObservedFlow) -> Observed:
    """One observed flow; ``port`` is as a rule writes it."""
    return Observed(**_fields(seen))


def _fields(seen: ObservedFlow) -> dict[str, Any]:
    return {
        "network": seen.network,
        "source": _party(seen.source),
        "destination": _party(seen.destination),
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


def failing(found: FailingAssertion) -> FailingAssertionAnswer:
    """One assertion that would not hold."""
    place = found.result.assertion.place
    return FailingAssertionAnswer(
        policy=found.result.policy,
        text=found.result.assertion.text,
        place=f"{place.file}:{place.line}:{place.column}",
        counter_example=found.result.counter_example,
        before=found.before,
    )


def _party(party: Party) -> PartyAnswer:
    return PartyAnswer(name=str(party), endpoint=party.endpoint or None, ip=party.address, prefix=party.prefix or None)


def time_text(moment: datetime) -> str:
    """A time as the API writes it."""
    return moment.isoformat().replace("+00:00", "Z")
