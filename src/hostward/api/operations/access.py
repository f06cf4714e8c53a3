"""Operations on who may do what: oneself, and API tokens."""

from __future__ import annotations

from datetime import timedelta
from enum import Enum
from typing import Annotated

from fastapi import Depends, FastAPI

from hostward.api import views
from hostward.api.answers.access import AccessTokenRow, Me, Secret
from hostward.api.answers.base import Done
from hostward.api.answers.refusals import refusals
from hostward.api.asking import Asks
from hostward.api.requests import NewAccessToken
from hostward.controller.access import Action, Scope
from hostward.controller.service import Controller

_TAGS: list[str | Enum] = ["access"]


def add_access(app: FastAPI, controller: Controller) -> None:
    """Add the operations, for one controller."""

    @app.get("/v1/whoami", summary="Who you are here", tags=_TAGS, responses=refusals())
    async def whoami(scope: Annotated[Scope, Depends(Asks(Action.WHOAMI))]) -> Me:
        me = scope.principal
        return Me(name=me.id, role=me.role, tenants=sorted(me.tenants))

    @app.get("/v1/access/tokens", summary="API tokens, without their secrets", tags=_TAGS, responses=refusals())
    async def access_tokens(_: Annotated[Scope, Depends(Asks(Action.READ_ACCESS))]) -> list[AccessTokenRow]:
        return [views.access_token(record, controller.membership.now) for record in controller.access.all()]

    @app.post("/v1/access/tokens", summary="Make an API token", tags=_TAGS, responses=refusals(409))
    async def make_access_token(
        body: NewAccessToken, scope: Annotated[Scope, Depends(Asks(Action.CHANGE_ACCESS))]
    ) -> Secret:
        life = timedelta(seconds=body.life_s)
        made = await controller.access.create(body.name, body.role, body.tenants, life, scope.principal.id)
        return Secret(token=made)

    @app.delete("/v1/access/tokens/{name}", summary="End an API token", tags=_TAGS, responses=refusals(404, 409))
    async def revoke_access_token(name: str, scope: Annotated[Scope, Depends(Asks(Action.CHANGE_ACCESS))]) -> Done:
        await controller.access.revoke(name, scope.principal.id)
        return Done()
