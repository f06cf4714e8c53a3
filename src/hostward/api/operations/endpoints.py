"""Operations that attach workloads, label them and let them go."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

from fastapi import Depends, FastAPI

from hostward.api import visibility
from hostward.api.answers.refusals import refusals
from hostward.api.answers.rollouts import Attached, RolloutAnswer
from hostward.api.asking import Asks
from hostward.api.requests import Labels, NewEndpoint
from hostward.controller.access import Action, Scope
from hostward.controller.service import Controller
from hostward.errors import ConflictError, UsageError
from hostward.model.endpoint import Endpoint, Port

_TAGS: list[str | Enum] = ["endpoints"]


def add_endpoints(app: FastAPI, controller: Controller) -> None:
    """Add the operations, for one controller."""

    @app.post("/v1/endpoints", summary="Attach an endpoint", tags=_TAGS, responses=refusals(404, 409, 422))
    async def add_endpoint(body: NewEndpoint, scope: Annotated[Scope, Depends(Asks(Action.ADD_ENDPOINT))]) -> Attached:
        scope.require(body.tenant)
        hosts = list(controller.ledger.state.hosts)
        if not body.host and len(hosts) != 1:
            hint = f"the hosts are {', '.join(hosts)}" if scope.tenants is None else "name it"
            raise UsageError("which host carries it?", subject=body.name, hint=hint)
        endpoint = Endpoint(
            body.tenant,
            body.name,
            body.labels,
            body.mac,
            tuple(body.addresses),
            body.host or hosts[0],
            Port(body.device, body.netns),
            body.network,
        )
        try:
            rollout = await controller.attachments.add(endpoint, scope.principal.id)
        except ConflictError:
            if scope.tenants is None:
                raise
            # Whose the device, the MAC or the address is, is not for another tenant to learn.
            raise ConflictError(
                "its name, device, MAC or an address is not free",
                subject=endpoint.id,
                hint="choose others, or ask a platform operator",
            ) from None
        status = controller.fleet.view(endpoint.host).statuses.get(endpoint.id)
        told = visibility.rollout(controller, rollout, scope.tenants)
        state = status.state.value if status else "pending"
        return Attached(revision=told.revision, hosts=told.hosts, endpoint=endpoint.id, state=state)

    @app.delete("/v1/endpoints/{name:path}", summary="Release an endpoint", tags=_TAGS, responses=refusals(404, 409))
    async def remove_endpoint(
        name: str, scope: Annotated[Scope, Depends(Asks(Action.REMOVE_ENDPOINT))]
    ) -> RolloutAnswer:
        found = visibility.find_endpoint(controller, name, scope.tenants)
        rollout = await controller.attachments.remove(found.id, scope.principal.id)
        return visibility.rollout(controller, rollout, scope.tenants)

    @app.patch("/v1/endpoints/{name:path}", summary="Label an endpoint", tags=_TAGS, responses=refusals(404, 409, 422))
    async def label_endpoint(
        name: str, body: Labels, scope: Annotated[Scope, Depends(Asks(Action.LABEL_ENDPOINT))]
    ) -> RolloutAnswer:
        found = visibility.find_endpoint(controller, name, scope.tenants)
        rollout = await controller.attachments.label(found.id, body.labels, scope.principal.id)
        return visibility.rollout(controller, rollout, scope.tenants)
