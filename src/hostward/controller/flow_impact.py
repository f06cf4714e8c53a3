"""A change of policy put to the flows that were seen: which it would break, which it would open.

A flow is in the answer only if this change makes the difference: what the policy in force denies already is not broken by
the next one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from hostward.errors import ConflictError
from hostward.model.endpoint import Endpoint
from hostward.model.observed import ObservedFlow
from hostward.policy import Numbers, PolicySet, compile_policy
from hostward.policy.port_names import port_text
from hostward.policy.replay import replay
from hostward.policy.verdicts import DENY, WOULD_DENY


@dataclass(frozen=True, slots=True)
class Impact:
    """An observed flow, and what the new policy says of it."""

    flow: ObservedFlow
    verdict: str
    rules: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FlowImpact:
    """What a change means for the flows seen.

    ``broken`` passed and would be denied, ``opened`` were denied and would pass, ``would_deny`` would pass and be reported
    as what enforcing would deny. ``evicted`` flows were seen and are not in here; before ``known_since`` nothing is known.
    """

    window_s: float
    known_since: datetime
    evicted: int
    seen: int
    broken: tuple[Impact, ...]
    opened: tuple[Impact, ...]
    would_deny: tuple[Impact, ...]


@dataclass(frozen=True, slots=True)
class Sightings:
    """The observed flows of a window, taken on the event loop, to be compared elsewhere."""

    flows: Sequence[ObservedFlow]
    window_s: float
    known_since: datetime
    evicted: int


def flow_impact(
    old: PolicySet, new: PolicySet, endpoints: Iterable[Endpoint], sightings: Sightings, now: datetime
) -> FlowImpact:
    """Compare two policies over observed flows, for the endpoints as they are."""
    attached = list(endpoints)
    flows = sightings.flows
    after = replay(compile_policy(new, attached, Numbers.empty(), now), flows) if flows else []
    changed = [
        number
        for number, (flow, answer) in enumerate(zip(flows, after, strict=True))
        if answer is not None and answer.passes != (flow.verdict != DENY)
    ]
    before: dict[int, bool] = {}
    if changed:
        answers = replay(compile_policy(old, attached, Numbers.empty(), now), [flows[number] for number in changed])
        before = {number: answer.passes for number, answer in zip(changed, answers, strict=True) if answer is not None}
    broken: list[Impact] = []
    opened: list[Impact] = []
    would_deny: list[Impact] = []
    for number, (flow, answer) in enumerate(zip(flows, after, strict=True)):
        if answer is None:
            continue
        impact = Impact(flow, answer.verdict, answer.rules)
        if number in before and before[number] != answer.passes:
            (opened if answer.passes else broken).append(impact)
        if answer.verdict == WOULD_DENY:
            would_deny.append(impact)
    return FlowImpact(
        sightings.window_s,
        sightings.known_since,
        sightings.evicted,
        len(flows),
        tuple(broken),
        tuple(opened),
        tuple(would_deny),
    )


# So many flows are named where a change is refused for them.
_NAMED = 5


def refuse_breaking(impact: FlowImpact, own: frozenset[str] | None = None) -> None:
    """Raises ConflictError that names the flows, if the change would break any that were seen.

    Of flows with an end that belongs to none of the tenants ``own`` (None: everybody) it holds only the number.
    """
    if not impact.broken:
        return
    told = [one for one in impact.broken if is_own(one.flow, own)]
    named = [f"{flow_text(one.flow)}, denied by {', '.join(one.rules)}" for one in told[:_NAMED]]
    if len(impact.broken) > len(named):
        named.append(f"and {len(impact.broken) - len(named)} more" if named else "with other tenants")
    raise ConflictError(
        f"it would break {len(impact.broken)} observed flows: {'; '.join(named)}",
        hint="nothing was changed; `hostward plan` shows them all, and without --no-breaking it is done all the same",
    )


def is_own(flow: ObservedFlow, own: frozenset[str] | None) -> bool:
    """Whether both ends are endpoints of the tenants ``own``, or no endpoints at all."""
    ends = (flow.source.endpoint, flow.destination.endpoint)
    return own is None or all(not end or end.partition("/")[0] in own for end in ends)


def flow_text(flow: ObservedFlow) -> str:
    """Who opens what to whom."""
    return f"{flow.source} → {flow.destination} {port_text(flow.protocol, flow.port)}"
