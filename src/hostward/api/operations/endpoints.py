"""Operations that attach workloads, label them and let them go."""

from __future__ import annotations

from dataclasses import replace
from enum import Enum
from typing import Annotated

from fastapi import Depends, FastAPI

from hostward.api import visibility
from hostward.api.answers.refusals import refusals
from hostward.api.answers.rollouts import Attached, RolloutAnswer
from hostward.api.asking import Asks
from hostward.api.requests import Bounds, Labels, NewEndpoint, Quarantine
from hostward.controller.access import Action, Scope, scope_of
from hostward.controller.service import Controller
from hostward.errors import ConflictError, UsageError
from hostward.model.endpoint import Endpoint, EndpointState, Port, Quota
from hostward.model.limit import Rate
from hostward.policy.limits import parse_rate

_TAGS: list[str | Enum] = ["endpoints"]


def add_endpoints(app: FastAPI, controller: Controller) -> None:
    """Add the operations, for one controller."""

    @app.post("/v1/endpoints", summary="Attach an endpoint", tags=_TAGS, responses=refusals(404, 409, 422))
    async def add_endpoint(body: NewEndpoint, scope: Annotated[Scope, Depends(Asks(Action.ADD_ENDPOINT))]) -> Attached:
        scope.require(body.tenant)
        controller.devices.require(scope, body.tenant, Port(body.device, body.netns))
        quota = Quota().with_rates(_rates(body.rates))
        if body.flows is not None or body.rates:
            scope_of(scope.principal, Action.BOUND_ENDPOINT)
            quota = replace(quota, flows=quota.flows if body.flows is None else body.flows)
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
            quota,
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

    @app.put(
        "/v1/endpoints/{name:path}/bounds",
        summary="Bound what an endpoint sends, is sent and opens",
        tags=_TAGS,
        responses=refusals(404, 409, 422),
    )
    async def bound_endpoint(
        name: str, body: Bounds, scope: Annotated[Scope, Depends(Asks(Action.BOUND_ENDPOINT))]
    ) -> RolloutAnswer:
        found = visibility.find_endpoint(controller, name, scope.tenants)
        rollout = await controller.attachments.bound(found.id, _rates(body.rates), scope.principal.id)
        return visibility.rollout(controller, rollout, scope.tenants)

    @app.put(
        "/v1/endpoints/{name:path}/quarantine",
        summary="Let nothing of an endpoint pass",
        tags=_TAGS,
        responses=refusals(404, 409, 422),
    )
    async def quarantine_endpoint(
        name: str, body: Quarantine, scope: Annotated[Scope, Depends(Asks(Action.QUARANTINE_ENDPOINT))]
    ) -> RolloutAnswer:
        found = visibility.find_endpoint(controller, name, scope.tenants)
        rollout = await controller.attachments.quarantine(found.id, body.reason, scope.principal.id)
        return visibility.rollout(controller, rollout, scope.tenants)

    @app.delete(
        "/v1/endpoints/{name:path}/quarantine",
        summary="End an endpoint's quarantine or throttle",
        tags=_TAGS,
        responses=refusals(404, 409),
    )
    async def release_endpoint(
        name: str, scope: Annotated[Scope, Depends(Asks(Action.RELEASE_ENDPOINT))]
    ) -> RolloutAnswer:
        found = visibility.find_endpoint(controller, name, scope.tenants)
        rollout = await controller.attachments.release(found.id, scope.principal.id)
        return visibility.rollout(controller, rollout, scope.tenants)

    @app.delete("/v1/endpoints/{name:path}", summary="Release an endpoint", tags=_TAGS, responses=refusals(404, 409))
    async def remove_endpoint(
        name: str, scope: Annotated[Scope, Depends(Asks(Action.REMOVE_ENDPOINT))]
    ) -> RolloutAnswer:
        found = visibility.find_endpoint(controller, name, scope.tenants)
        if scope.tenants is not None and _is_quarantined(controller, found):
            # Attached anew it would be free, and only a platform operator may release it.
            raise ConflictError(
                "it is quarantined",
                subject=found.id,
                hint="a platform operator releases it: `hostward endpoint release`",
            )
        rollout = await controller.attachments.remove(found.id, scope.principal.id)
        return visibility.rollout(controller, rollout, scope.tenants)

    @app.patch("/v1/endpoints/{name:path}", summary="Label an endpoint", tags=_TAGS, responses=refusals(404, 409, 422))
    async def label_endpoint(
        name: str, body: Labels, scope: Annotated[Scope, Depends(Asks(Action.LABEL_ENDPOINT))]
    ) -> RolloutAnswer:
        found = visibility.find_endpoint(controller, name, scope.tenants)
        rollout = await controller.attachments.label(found.id, body.labels, scope.principal.id)
        return visibility.rollout(controller, rollout, scope.tenants)


def _is_quarantined(controller: Controller, endpoint: Endpoint) -> bool:
    status = controller.fleet.view(endpoint.host).statuses.get(endpoint.id)
    return bool(endpoint.quarantine) or (status is not None and status.state is EndpointState.QUARANTINED)


def _rates(texts: list[str]) -> list[Rate]:
    """What a request says. Raises UsageError for a text that is no rate, and for a unit that is named twice."""
    rates: dict[str, Rate] = {}
    for text in texts:
        try:
            rate = parse_rate(text)
        except ValueError as error:
            raise UsageError(str(error), subject=text) from None
        if rate.unit.value in rates:
            raise UsageError(f"{rate.unit.value} is bounded twice", subject=text, hint="name each unit once")
        rates[rate.unit.value] = rate
    return list(rates.values())
