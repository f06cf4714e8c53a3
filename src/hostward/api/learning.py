"""The API of adoption: rules learned from observed flows, and rules wider than them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from fastapi import Depends, FastAPI, Query

from hostward.api.asking import Asks
from hostward.api.observations import flow, time_text
from hostward.controller.access import Action, Scope
from hostward.controller.flow_impact import Sightings
from hostward.controller.learning import diff, lessons, usage
from hostward.controller.service import Controller
from hostward.policy.learning import Lesson, ProposedRule
from hostward.policy.usage import TELLING_WINDOW_S, WiderRule

Window = Annotated[float, Query(gt=0, le=7 * 86_400)]
# Of the flows behind a proposal so many are in the answer.
_EVIDENCE = 20


def add_learning(app: FastAPI, controller: Controller) -> None:
    """Add the operations, for one controller."""

    @app.get("/v1/learn")
    async def learn(
        scope: Annotated[Scope, Depends(Asks(Action.READ_FLOWS))],
        tenant: str = "",
        within_s: Window = 3_600.0,
        include_denied: bool = False,
        propose_groups: bool = False,
    ) -> dict[str, object]:
        scope.require_site("learn")  # proposals name the endpoints of whoever talked
        found = await lessons(
            controller, tenant, within_s, include_denied=include_denied, propose_groups=propose_groups
        )
        return {**_window(found.sightings), "tenants": [_lesson(lesson) for lesson in found.lessons]}

    @app.get("/v1/learn/unused")
    async def unused(
        scope: Annotated[Scope, Depends(Asks(Action.READ_FLOWS))], tenant: str = "", within_s: Window = 3_600.0
    ) -> dict[str, object]:
        scope.require_site("learn")
        found = await usage(controller, tenant, within_s)
        telling = (controller.membership.now - found.sightings.known_since).total_seconds()
        short = min(telling, within_s) < TELLING_WINDOW_S
        return {**_window(found.sightings), "short": short, "rules": [_wider(rule) for rule in found.rules]}


def _window(sightings: Sightings) -> Mapping[str, object]:
    return {
        "window_s": sightings.window_s,
        "known_since": time_text(sightings.known_since),
        "seen": len(sightings.flows),
        "evicted": sightings.evicted,
    }


def _lesson(lesson: Lesson) -> dict[str, object]:
    return {
        "tenant": lesson.tenant,
        "file": f"{lesson.tenant}.yaml",
        "diff": diff(lesson),
        "text": lesson.after,
        "rules": [_rule(rule) for rule in lesson.rules],
        "groups": [{"name": name, "text": text} for name, text in lesson.groups],
        "notes": list(lesson.notes),
        "allowed_already": lesson.allowed_already,
        "denied_left_out": lesson.left_out,
    }


def _rule(rule: ProposedRule) -> dict[str, object]:
    return {
        "text": rule.text,
        "last_seen": time_text(rule.last_seen),
        "openings": sum(seen.openings for seen in rule.flows),
        "wider": list(rule.wider),
        "flows": [flow(seen) for seen in rule.flows[:_EVIDENCE]],
        "flow_count": len(rule.flows),
    }


def _wider(rule: WiderRule) -> dict[str, object]:
    def share(side: tuple[int, int] | None) -> object:
        return None if side is None else {"talked": side[0], "members": side[1]}

    return {
        "name": rule.rule,
        "id": rule.rule,
        "tenant": rule.tenant,
        "text": rule.text,
        "openings": rule.openings,
        "last_seen": time_text(rule.last_seen) if rule.last_seen else None,
        "sources": share(rule.sources),
        "destinations": share(rule.destinations),
        "unused_ports": list(rule.unused_ports),
    }
