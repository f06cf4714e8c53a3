"""The REST API: pydantic at the edge, the controller's values inside. Errors are {what, subject, hint, problems}.

Every operation asks leave for one action (``asking.Asks``); what its answer may hold is ``visibility``'s.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from dataclasses import asdict
from datetime import timedelta
from typing import Annotated

from fastapi import Depends, FastAPI, Path, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import AwareDatetime, BaseModel, Field

from hostward.api import views, visibility
from hostward.api.asking import ACTION, PRINCIPAL, Asks
from hostward.api.learning import add_learning
from hostward.controller.access import Action, Principal, Role, Scope
from hostward.controller.access.decision import CHANGES
from hostward.controller.flows import FlowFilter
from hostward.controller.proofs import FailingAssertions
from hostward.controller.publisher import Rollout
from hostward.controller.service import Controller, readable
from hostward.errors import AccessError, ConflictError, HostwardError, NotFoundError, PolicyError, UsageError
from hostward.model.endpoint import DEFAULT_NETWORK, Endpoint, Port
from hostward.policy import PolicySet, parse_sources
from hostward.store.audit import verify
from hostward.store.records import AuditEntry, AuditResult, HostState

log = logging.getLogger(__name__)

_STATUS = {AccessError: 403, NotFoundError: 404, ConflictError: 409, UsageError: 400, PolicyError: 422}


_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"


# What the store can count to.
RevisionNumber = Annotated[int, Path(ge=0, lt=2**63)]


class Source(BaseModel):
    """One policy file."""

    file: str
    text: str


class Apply(BaseModel):
    """Policy files to apply, plan or check."""

    sources: list[Source]
    planned: int = 0
    confirm_within_s: float = Field(0.0, ge=0, le=86_400)
    allow_failing: bool = False
    no_breaking: bool = False
    observed_within_s: float = Field(3_600.0, gt=0, le=7 * 86_400)


class Question(BaseModel):
    """A question for ``explain``; with ``sources`` as if they were applied."""

    source: str
    destination: str
    port: str
    sources: list[Source] = []


class NewEndpoint(BaseModel):
    """An endpoint to attach. ``host`` may be left out where there is only one."""

    tenant: str = Field(pattern=_NAME)
    name: str = Field(pattern=_NAME)
    labels: dict[str, str] = {}
    device: str
    netns: str = ""
    mac: str = Field("", pattern=r"^$|^([0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}$")
    addresses: list[str] = []
    host: str = ""
    network: str = DEFAULT_NETWORK


class Labels(BaseModel):
    """Labels to set; null removes one."""

    labels: dict[str, str | None]


class Token(BaseModel):
    """A join token to make."""

    host: str = ""
    life_s: float = Field(3600.0, gt=0, le=7 * 86_400)


class Mistake(BaseModel):
    """One mistake in a policy file."""

    file: str
    line: int
    column: int
    message: str
    hint: str


class Refusal(BaseModel):
    """The body of every error."""

    what: str
    subject: str
    hint: str
    problems: list[Mistake]


_REFUSALS: dict[int | str, dict[str, object]] = {
    400: {"model": Refusal, "description": "The request is malformed."},
    401: {"model": Refusal, "description": "No token, or one that is wrong, expired or revoked."},
    403: {"model": Refusal, "description": "Whoever asks may not do this."},
    404: {"model": Refusal, "description": "There is no such object that the asker may see."},
    409: {"model": Refusal, "description": "The object is not in the state that the request assumed."},
    422: {"model": Refusal, "description": "The policy was refused."},
}


class NewAccessToken(BaseModel):
    """An API token to make."""

    name: str = Field(pattern=_NAME)
    role: Role
    tenants: list[str] = []
    life_s: float = Field(90 * 86_400.0, gt=0, le=366 * 86_400)


def make_app(controller: Controller) -> FastAPI:
    """The application for one controller."""
    app = FastAPI(
        title="Hostward",
        version="1",
        docs_url=None,
        redoc_url=None,
        openapi_url="/v1/openapi.json",
        responses=_REFUSALS,
    )

    @app.exception_handler(HostwardError)
    async def refused(request: Request, error: HostwardError) -> JSONResponse:
        who, action = request.scope.get(PRINCIPAL), request.scope.get(ACTION)
        if isinstance(who, Principal) and action in CHANGES:
            objects = (error.subject,) if error.subject else ()
            now = controller.membership.now
            entry = AuditEntry(now, who.id, action.value, objects, error.what, AuditResult.REFUSED)
            await controller.ledger.put_audit(entry)
        status = next((code for kind, code in _STATUS.items() if isinstance(error, kind)), 409)
        problems = [asdict(problem) for problem in error.problems] if isinstance(error, PolicyError) else []
        body = {"what": error.what, "subject": error.subject, "hint": error.hint, "problems": problems}
        return JSONResponse(body, status)

    @app.exception_handler(RequestValidationError)
    async def malformed(_: Request, error: RequestValidationError) -> JSONResponse:
        texts = [f"{'.'.join(map(str, part['loc'][1:]))}: {part['msg']}" for part in error.errors()]
        return JSONResponse({"what": "; ".join(texts), "subject": "", "hint": "", "problems": []}, 400)

    @app.exception_handler(Exception)
    async def failed(_: Request, error: Exception) -> JSONResponse:
        log.error("the API failed", exc_info=error)
        body = {"what": f"the controller failed: {type(error).__name__}", "subject": "", "hint": "its log says more"}
        return JSONResponse({**body, "problems": []}, 500)

    def answer(rollout: Rollout, scope: Scope) -> dict[str, object]:
        outcomes = [views.outcome(host) for host in rollout.hosts]
        return {"revision": rollout.revision, "hosts": visibility.hosts(controller, outcomes, scope.tenants)}

    async def parse(sources: list[Source], scope: Scope) -> PolicySet:
        """Policies with the sources in them, all of which have to be within the scope."""
        if scope.tenants is not None:
            named = await asyncio.to_thread(parse_sources, _pairs(sources))
            if named.platform is not None:
                scope.require_site("platform")
            for tenant in named.tenants:
                scope.require(tenant)
        return await controller.parse(_pairs(sources))

    @app.post("/v1/apply")
    async def apply(body: Apply, scope: Annotated[Scope, Depends(Asks(Action.APPLY))]) -> dict[str, object]:
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
        return answer(rollout, scope)

    @app.post("/v1/plan")
    async def plan(body: Apply, scope: Annotated[Scope, Depends(Asks(Action.PLAN))]) -> dict[str, object]:
        policies = await parse(body.sources, scope)
        failing = await controller.failing(policies)
        told = [f for f in failing if readable(policies, f.result.assertion, scope.tenants)]
        impact = visibility.impact(await controller.impact(policies, body.observed_within_s), scope.tenants)
        made = await views.plan(controller, policies, told, impact)
        return visibility.plan(made, policies, scope.tenants)

    @app.post("/v1/confirm")
    async def confirm(scope: Annotated[Scope, Depends(Asks(Action.CONFIRM))]) -> dict[str, object]:
        await controller.confirm(scope.principal.id)
        return {}

    @app.post("/v1/rollback/{revision}")
    async def rollback(
        revision: RevisionNumber,
        scope: Annotated[Scope, Depends(Asks(Action.ROLLBACK))],
        allow_failing: bool = False,
    ) -> dict[str, object]:
        rollout = await controller.rollback(revision, scope.principal.id, _failing(allow_failing))
        return answer(rollout, scope)

    @app.delete("/v1/tenants/{name}")
    async def delete_tenant(
        name: str,
        scope: Annotated[Scope, Depends(Asks(Action.DELETE_TENANT))],
        allow_failing: bool = False,
    ) -> dict[str, object]:
        if not scope.holds(name):
            raise NotFoundError("there is no such tenant", subject=name, hint="`hostward get tenants`")
        rollout = await controller.delete_tenant(name, scope.principal.id, scope.tenants, _failing(allow_failing))
        return answer(rollout, scope)

    @app.post("/v1/explain")
    async def explain(body: Question, scope: Annotated[Scope, Depends(Asks(Action.EXPLAIN))]) -> dict[str, object]:
        policies = await parse(body.sources, scope) if body.sources else controller.policies
        parties = visibility.question(controller, policies, body.source, body.destination, scope.tenants)
        found = await controller.explain(*parties, body.port, policies)
        return asdict(visibility.explanation(found, policies, scope.tenants))

    async def listed(kind: str, scope: Scope) -> list[dict[str, object]]:
        return visibility.rows(await views.objects(controller, kind), scope.tenants)

    @app.get("/v1/objects/endpoints")
    async def endpoints(scope: Annotated[Scope, Depends(Asks(Action.READ_ENDPOINTS))]) -> list[dict[str, object]]:
        return await listed("endpoints", scope)

    @app.get("/v1/objects/hosts")
    async def hosts(_: Annotated[Scope, Depends(Asks(Action.READ_HOSTS))]) -> list[dict[str, object]]:
        return await views.objects(controller, "hosts")

    @app.get("/v1/objects/revisions")
    async def revisions(scope: Annotated[Scope, Depends(Asks(Action.READ_REVISIONS))]) -> list[dict[str, object]]:
        found = await views.objects(controller, "revisions")
        return visibility.revisions(found, scope.tenants, scope.principal.id)

    @app.get("/v1/objects/{kind}")
    async def objects(kind: str, scope: Annotated[Scope, Depends(Asks(Action.READ_POLICY))]) -> list[dict[str, object]]:
        return await listed(kind, scope)

    @app.post("/v1/endpoints")
    async def add_endpoint(
        body: NewEndpoint, scope: Annotated[Scope, Depends(Asks(Action.ADD_ENDPOINT))]
    ) -> dict[str, object]:
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
        return {**answer(rollout, scope), "endpoint": endpoint.id, "state": status.state.value if status else "pending"}

    @app.delete("/v1/endpoints/{name:path}")
    async def remove_endpoint(
        name: str, scope: Annotated[Scope, Depends(Asks(Action.REMOVE_ENDPOINT))]
    ) -> dict[str, object]:
        found = visibility.find_endpoint(controller, name, scope.tenants)
        return answer(await controller.attachments.remove(found.id, scope.principal.id), scope)

    @app.patch("/v1/endpoints/{name:path}")
    async def label_endpoint(
        name: str, body: Labels, scope: Annotated[Scope, Depends(Asks(Action.LABEL_ENDPOINT))]
    ) -> dict[str, object]:
        found = visibility.find_endpoint(controller, name, scope.tenants)
        return answer(await controller.attachments.label(found.id, body.labels, scope.principal.id), scope)

    @app.post("/v1/tokens")
    async def token(body: Token, scope: Annotated[Scope, Depends(Asks(Action.ENROL_HOST))]) -> dict[str, object]:
        life = timedelta(seconds=body.life_s)
        return {"token": str(await controller.membership.make_token(body.host, life, scope.principal.id))}

    @app.post("/v1/hosts/{name}/{state}")
    async def move_host(
        name: str, state: HostState, scope: Annotated[Scope, Depends(Asks(Action.MOVE_HOST))]
    ) -> dict[str, object]:
        return answer(await controller.move_host(name, state, scope.principal.id), scope)

    add_learning(app, controller)

    @app.get("/v1/flows")
    async def flows(
        scope: Annotated[Scope, Depends(Asks(Action.READ_FLOWS))],
        source: str = "",
        destination: str = "",
        verdict: Annotated[str, Query(pattern="^(|allow|deny|would-deny|invalid)$")] = "",
        since: AwareDatetime | None = None,
        follow: bool = False,
        limit: Annotated[int, Query(ge=1, le=65_536)] = 1_000,
    ) -> StreamingResponse:
        wanted = FlowFilter(source, destination, verdict, since, scope.tenants)

        async def lines() -> AsyncIterator[bytes]:
            if follow:
                async for flow in controller.flows.follow(wanted):
                    yield json.dumps(flow).encode() + b"\n"
            else:
                for flow in controller.flows.newest(wanted, limit):
                    yield json.dumps(flow).encode() + b"\n"

        return StreamingResponse(lines(), media_type="application/x-ndjson")

    @app.get("/v1/whoami")
    async def whoami(scope: Annotated[Scope, Depends(Asks(Action.WHOAMI))]) -> dict[str, object]:
        me = scope.principal
        return {"name": me.id, "role": me.role.value, "tenants": sorted(me.tenants)}

    @app.get("/v1/access/tokens")
    async def access_tokens(_: Annotated[Scope, Depends(Asks(Action.READ_ACCESS))]) -> list[dict[str, object]]:
        return [views.access_token(record, controller.membership.now) for record in controller.access.all()]

    @app.post("/v1/access/tokens")
    async def make_access_token(
        body: NewAccessToken, scope: Annotated[Scope, Depends(Asks(Action.CHANGE_ACCESS))]
    ) -> dict[str, object]:
        life = timedelta(seconds=body.life_s)
        made = await controller.access.create(body.name, body.role, body.tenants, life, scope.principal.id)
        return {"token": made}

    @app.delete("/v1/access/tokens/{name}")
    async def revoke_access_token(
        name: str, scope: Annotated[Scope, Depends(Asks(Action.CHANGE_ACCESS))]
    ) -> dict[str, object]:
        await controller.access.revoke(name, scope.principal.id)
        return {}

    @app.get("/v1/audit")
    async def audit(_: Annotated[Scope, Depends(Asks(Action.READ_AUDIT))]) -> list[dict[str, object]]:
        return [views.audit_record(record) for record in await controller.ledger.audit()]

    @app.get("/v1/audit/verify")
    async def verify_audit(_: Annotated[Scope, Depends(Asks(Action.READ_AUDIT))], head: str = "") -> dict[str, object]:
        records = await controller.ledger.audit()
        return {"head": verify(records, head), "records": len(records)}

    return app


def _failing(allowed: bool) -> FailingAssertions:
    return FailingAssertions.ALLOW if allowed else FailingAssertions.BLOCK


def _pairs(sources: list[Source]) -> list[tuple[str, bytes]]:
    return [(source.file, source.text.encode()) for source in sources]
