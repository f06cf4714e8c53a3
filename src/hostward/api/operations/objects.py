"""Operations that list the controller's objects, each asker their own."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

from fastapi import Depends, FastAPI

from hostward.api import listings, visibility
from hostward.api.answers.objects import EndpointRow, GroupRow, HostRow, IdentityRow, RevisionRow, RuleRow, TenantRow
from hostward.api.answers.refusals import refusals
from hostward.api.asking import Asks
from hostward.controller.access import Action, Scope
from hostward.controller.service import Controller
from hostward.errors import NotFoundError

_TAGS: list[str | Enum] = ["objects"]
_KINDS = ("tenants", "groups", "identities", "endpoints", "hosts", "rules", "revisions")


_PolicyReader = Annotated[Scope, Depends(Asks(Action.READ_POLICY))]


def add_objects(app: FastAPI, controller: Controller) -> None:
    """Add the operations, for one controller."""

    @app.get("/v1/objects/tenants", summary="Tenants", tags=_TAGS, responses=refusals())
    async def tenants(scope: _PolicyReader) -> list[TenantRow]:
        return visibility.rows(listings.tenants(controller), scope.tenants)

    @app.get("/v1/objects/groups", summary="Groups with their members", tags=_TAGS, responses=refusals())
    async def groups(scope: _PolicyReader) -> list[GroupRow]:
        return visibility.rows(listings.groups(controller), scope.tenants)

    @app.get("/v1/objects/identities", summary="Identities", tags=_TAGS, responses=refusals())
    async def identities(scope: _PolicyReader) -> list[IdentityRow]:
        return visibility.rows(listings.identities(controller), scope.tenants)

    @app.get("/v1/objects/rules", summary="Rules", tags=_TAGS, responses=refusals())
    async def rules(scope: _PolicyReader) -> list[RuleRow]:
        return visibility.rows(listings.rules(controller), scope.tenants)

    @app.get("/v1/objects/endpoints", summary="Endpoints, and where they stand", tags=_TAGS, responses=refusals())
    async def endpoints(scope: Annotated[Scope, Depends(Asks(Action.READ_ENDPOINTS))]) -> list[EndpointRow]:
        return visibility.endpoints(listings.endpoints(controller), scope.tenants)

    @app.get("/v1/objects/hosts", summary="Hosts, and what is known of them", tags=_TAGS, responses=refusals())
    async def hosts(_: Annotated[Scope, Depends(Asks(Action.READ_HOSTS))]) -> list[HostRow]:
        return listings.hosts(controller)

    @app.get("/v1/objects/revisions", summary="History, newest first", tags=_TAGS, responses=refusals(409))
    async def revisions(scope: Annotated[Scope, Depends(Asks(Action.READ_REVISIONS))]) -> list[RevisionRow]:
        return visibility.revisions(await listings.revisions(controller), scope.tenants, scope.principal.id)

    @app.get("/v1/objects/{kind}", include_in_schema=False)
    async def unknown(kind: str, _: _PolicyReader) -> None:
        raise NotFoundError(f"there is nothing called {kind!r}", hint=f"choose one of {', '.join(_KINDS)}")
