"""The API of adoption: rules learned from observed flows, and rules wider than them."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Query

from hostward.api.answers.learned import (
    LearnAnswer,
    LessonAnswer,
    ProposedGroup,
    ProposedRuleAnswer,
    UnusedAnswer,
    UsedShare,
    WiderRuleAnswer,
)
from hostward.api.answers.refusals import refusals
from hostward.api.asking import Asks
from hostward.api.observations import flow, time_text
from hostward.api.requests import WindowSeconds
from hostward.controller.access import Action, Scope
from hostward.controller.flow_impact import Sightings
from hostward.controller.learning import diff, lessons, usage
from hostward.controller.service import Controller
from hostward.policy.learning import Lesson, ProposedRule
from hostward.policy.usage import TELLING_WINDOW_S, WiderRule

# Of the flows behind a proposal so many are in the answer.
_EVIDENCE = 20
_TAGS: list[str | Enum] = ["learning"]


def add_learning(app: FastAPI, controller: Controller) -> None:
    """Add the operations, for one controller."""

    @app.get("/v1/learn", summary="Rules that are lacking for what was seen", tags=_TAGS, responses=refusals(404, 409))
    async def learn(
        scope: Annotated[Scope, Depends(Asks(Action.READ_FLOWS))],
        tenant: Annotated[str, Query(description="Only this tenant; empty: every one.")] = "",
        within_s: WindowSeconds = 3_600.0,
        include_denied: Annotated[bool, Query(description="Learn from denied flows too; some may be attacks.")] = False,
        propose_groups: Annotated[bool, Query(description="Make groups for endpoints that are in none.")] = False,
    ) -> LearnAnswer:
        scope.require_site("learn")  # proposals name the endpoints of whoever talked
        found = await lessons(
            controller, tenant, within_s, include_denied=include_denied, propose_groups=propose_groups
        )
        told = [_lesson(lesson) for lesson in found.lessons]
        return LearnAnswer(**_window(found.sightings), tenants=told)

    @app.get("/v1/learn/unused", summary="Rules wider than what was seen", tags=_TAGS, responses=refusals(404, 409))
    async def unused(
        scope: Annotated[Scope, Depends(Asks(Action.READ_FLOWS))],
        tenant: Annotated[str, Query(description="Only this tenant; empty: every one.")] = "",
        within_s: WindowSeconds = 3_600.0,
    ) -> UnusedAnswer:
        scope.require_site("learn")
        found = await usage(controller, tenant, within_s)
        telling = (controller.membership.now - found.sightings.known_since).total_seconds()
        short = min(telling, within_s) < TELLING_WINDOW_S
        return UnusedAnswer(**_window(found.sightings), short=short, rules=[_wider(rule) for rule in found.rules])


def _window(sightings: Sightings) -> dict[str, Any]:
    return {
        "window_s": sightings.window_s,
        "known_since": time_text(sightings.known_since),
        "seen": len(sightings.flows),
        "evicted": sightings.evicted,
    }


def _lesson(lesson: Lesson) -> LessonAnswer:
    return LessonAnswer(
        tenant=lesson.tenant,
        file=f"{lesson.tenant}.yaml",
        diff=diff(lesson),
        text=lesson.after,
        rules=[_rule(rule) for rule in lesson.rules],
        groups=[ProposedGroup(name=name, text=text) for name, text in lesson.groups],
        notes=list(lesson.notes),
        allowed_already=lesson.allowed_already,
        denied_left_out=lesson.left_out,
    )


def _rule(rule: ProposedRule) -> ProposedRuleAnswer:
    return ProposedRuleAnswer(
        text=rule.text,
        last_seen=time_text(rule.last_seen),
        openings=sum(seen.openings for seen in rule.flows),
        wider=list(rule.wider),
        flows=[flow(seen) for seen in rule.flows[:_EVIDENCE]],
        flow_count=len(rule.flows),
    )


def _wider(rule: WiderRule) -> WiderRuleAnswer:
    def share(side: tuple[int, int] | None) -> UsedShare | None:
        return None if side is None else UsedShare(talked=side[0], members=side[1])

    return WiderRuleAnswer(
        name=rule.rule,
        id=rule.rule,
        tenant=rule.tenant,
        text=rule.text,
        openings=rule.openings,
        last_seen=time_text(rule.last_seen) if rule.last_seen else None,
        sources=share(rule.sources),
        destinations=share(rule.destinations),
        unused_ports=list(rule.unused_ports),
    )
