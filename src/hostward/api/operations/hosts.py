"""Operations on hosts: letting them join, and what they are then let be."""

from __future__ import annotations

from datetime import timedelta
from enum import Enum
from typing import Annotated, Literal

from fastapi import Depends, FastAPI

from hostward.api import visibility
from hostward.api.answers.access import Secret
from hostward.api.answers.refusals import refusals
from hostward.api.answers.rollouts import RolloutAnswer
from hostward.api.asking import Asks
from hostward.api.requests import Token
from hostward.controller.access import Action, Scope
from hostward.controller.service import Controller
from hostward.store.records import HostState

_TAGS: list[str | Enum] = ["hosts"]


def add_hosts(app: FastAPI, controller: Controller) -> None:
    """Add the operations, for one controller."""

    @app.post("/v1/tokens", summary="Make a token by which a host may join", tags=_TAGS, responses=refusals(409))
    async def token(body: Token, scope: Annotated[Scope, Depends(Asks(Action.ENROL_HOST))]) -> Secret:
        life = timedelta(seconds=body.life_s)
        return Secret(token=str(await controller.membership.make_token(body.host, life, scope.principal.id)))

    @app.post(
        "/v1/hosts/{name}/{state}",
        summary="Admit, quarantine or evict a host",
        tags=_TAGS,
        responses=refusals(404, 409, 422),
    )
    async def move_host(
        name: str,
        state: Literal["admitted", "quarantined", "evicted"],
        scope: Annotated[Scope, Depends(Asks(Action.MOVE_HOST))],
    ) -> RolloutAnswer:
        rollout = await controller.move_host(name, HostState(state), scope.principal.id)
        return visibility.rollout(controller, rollout, scope.tenants)
