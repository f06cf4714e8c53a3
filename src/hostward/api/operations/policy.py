"""Operations on policy: what a change would do, making it, taking it back, and why a flow is decided as it is."""

from __future__ import annotations

import asyncio
from enum import Enum
from typing import Annotated

from fastapi import Depends, FastAPI

from hostward.api import views, visibility
from hostward.api.answers.base import Done
from hostward.api.answers.explanations import ExplanationAnswer
from hostward.api.answers.plans import PlanAnswer
from hostward.api.answers.refusals import refusals
from hostward.api.answers.rollouts import RolloutAnswer
from hostward.api.asking import Asks
from hostward.api.requests import AllowFailing, Apply, Question, RevisionNumber, Source
from hostward.controller.access import Action, Scope
from hostward.controller.proofs import FailingAssertions
from hostward.controller.service import Controller, readable
from hostward.errors import NotFoundError
from hostward.policy import PolicySet, parse_sources

_TAGS: list[str | Enum] = ["policy"]


def add_policy(app: FastAPI, controller: Controller) -> None:
    """Add the operations, for one controller."""

    async def parse(sources: list[Source], scope: Scope) -> PolicySet:
        """Policies with the sources in them, all of which have to be within the scope."""
        if scope.tenants is not None:
            named = await asyncio.to_thread(parse_sources, _pairs(sources))
            if named.platform is not None:
                scope.require_site("platform")
            for tenant in named.tenants:
                scope.require(tenant)
        return await controller.parse(_pairs(sources))

    @app.post("/v1/apply", summary="Apply policy files, all of them or none", tags=_TAGS, responses=refusals(409, 422))
    async def apply(body: Apply, scope: Annotated[Scope, Depends(Asks(Action.APPLY))]) -> RolloutAnswer:
        await parse(body.sources, scope)
        if body.confirm_within_s:
            # While a change waits, nobody can make another: not a thing for one tenant to decide.
            scope.require_site("confirm-within")
        rollout = await controller.apply(
            _pairs(body.sources),
            scope.principal.id,
            planned=body.planned,
            confirm_within_s=body.confirm_within_s,
            own=scope.tenants,
            assertions=_failing(body.allow_failing),
            unbroken_within_s=body.observed_within_s if body.no_breaking else 0.0,
        )
        return visibility.rollout(controller, rollout, scope.tenants)

    @app.post("/v1/plan", summary="What applying policy files would change", tags=_TAGS, responses=refusals(409, 422))
    async def plan(body: Apply, scope: Annotated[Scope, Depends(Asks(Action.PLAN))]) -> PlanAnswer:
        policies = await parse(body.sources, scope)
        failing = await controller.failing(policies)
        told = [f for f in failing if readable(policies, f.result.assertion, scope.tenants)]
        impact = visibility.impact(await controller.impact(policies, body.observed_within_s), scope.tenants)
        made = await views.plan(controller, policies, told, impact)
        return visibility.plan(made, policies, scope.tenants)

    @app.post("/v1/confirm", summary="Keep the change that waits", tags=_TAGS, responses=refusals(409))
    async def confirm(scope: Annotated[Scope, Depends(Asks(Action.CONFIRM))]) -> Done:
        await controller.confirm(scope.principal.id)
        return Done()

    @app.post(
        "/v1/rollback/{revision}",
        summary="Commit the policy of an earlier revision again",
        tags=_TAGS,
        responses=refusals(404, 409, 422),
    )
    async def rollback(
        revision: RevisionNumber,
        scope: Annotated[Scope, Depends(Asks(Action.ROLLBACK))],
        allow_failing: AllowFailing = False,
    ) -> RolloutAnswer:
        rollout = await controller.rollback(revision, scope.principal.id, _failing(allow_failing))
        return visibility.rollout(controller, rollout, scope.tenants)

    @app.delete("/v1/tenants/{name}", summary="Delete a tenant's policy", tags=_TAGS, responses=refusals(404, 409, 422))
    async def delete_tenant(
        name: str,
        scope: Annotated[Scope, Depends(Asks(Action.DELETE_TENANT))],
        allow_failing: AllowFailing = False,
    ) -> RolloutAnswer:
        if not scope.holds(name):
            raise NotFoundError("there is no such tenant", subject=name, hint="`hostward get tenants`")
        rollout = await controller.delete_tenant(name, scope.principal.id, scope.tenants, _failing(allow_failing))
        return visibility.rollout(controller, rollout, scope.tenants)

    @app.post("/v1/explain", summary="Why a flow is allowed or denied", tags=_TAGS, responses=refusals(404, 409, 422))
    async def explain(body: Question, scope: Annotated[Scope, Depends(Asks(Action.EXPLAIN))]) -> ExplanationAnswer:
        policies = await parse(body.sources, scope) if body.sources else controller.policies
        parties = visibility.question(controller, policies, body.source, body.destination, scope.tenants)
        found = await controller.explain(*parties, body.port, policies, process=body.process)
        return views.explanation(visibility.explanation(found, policies, scope.tenants))


def _failing(allowed: bool) -> FailingAssertions:
    return FailingAssertions.ALLOW if allowed else FailingAssertions.BLOCK


def _pairs(sources: list[Source]) -> list[tuple[str, bytes]]:
    return [(source.file, source.text.encode()) for source in sources]
