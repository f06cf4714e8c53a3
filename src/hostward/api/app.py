"""The REST API: pydantic at the edge, the controller's values inside. Errors are {what, subject, hint, problems}.

On the Unix socket, which only its owner may open, whoever reaches it is the operator. Elsewhere
``serving.BearerGate`` lets in.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from dataclasses import asdict
from datetime import timedelta
from typing import Annotated

from fastapi import FastAPI, Header, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import AwareDatetime, BaseModel, Field

from hostward.api import views
from hostward.api.learning import learning_routes
from hostward.controller.flows import FlowFilter
from hostward.controller.proofs import FailingAssertions
from hostward.controller.publisher import Rollout
from hostward.controller.service import Controller
from hostward.errors import ConflictError, HostwardError, NotFoundError, PolicyError, UsageError
from hostward.model.endpoint import DEFAULT_NETWORK, Endpoint, Port
from hostward.store.records import HostState

log = logging.getLogger(__name__)

_STATUS = {NotFoundError: 404, ConflictError: 409, UsageError: 400, PolicyError: 422}


_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"


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


# Who asks, as they call themselves: for the history, not for any decision.
OPERATOR = "operator"
Author = Annotated[str, Header(alias="Hostward-Author", max_length=64, pattern=r"^[\w.@+-]+$")]


def make_app(controller: Controller) -> FastAPI:
    """The application for one controller."""
    app = FastAPI(title="Hostward", version="1", docs_url=None, redoc_url=None)

    @app.exception_handler(HostwardError)
    async def refused(_: Request, error: HostwardError) -> JSONResponse:
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

    def answer(rollout: Rollout) -> dict[str, object]:
        return {"revision": rollout.revision, "hosts": [views.outcome(host) for host in rollout.hosts]}

    @app.post("/v1/apply")
    async def apply(body: Apply, author: Author = OPERATOR) -> dict[str, object]:
        return answer(
            await controller.apply(
                _pairs(body.sources),
                author,
                planned=body.planned,
                confirm_within_s=body.confirm_within_s,
                assertions=_failing(body.allow_failing),
                unbroken_within_s=body.observed_within_s if body.no_breaking else 0.0,
            )
        )

    @app.post("/v1/plan")
    async def plan(body: Apply) -> dict[str, object]:
        return await views.plan(controller, await controller.parse(_pairs(body.sources)), body.observed_within_s)

    @app.post("/v1/confirm")
    async def confirm() -> dict[str, object]:
        await controller.confirm()
        return {}

    @app.post("/v1/rollback/{revision}")
    async def rollback(revision: int, allow_failing: bool = False, author: Author = OPERATOR) -> dict[str, object]:
        return answer(await controller.rollback(revision, author, _failing(allow_failing)))

    @app.delete("/v1/tenants/{name}")
    async def delete_tenant(name: str, allow_failing: bool = False, author: Author = OPERATOR) -> dict[str, object]:
        return answer(await controller.delete_tenant(name, author, _failing(allow_failing)))

    @app.post("/v1/explain")
    async def explain(body: Question) -> dict[str, object]:
        policies = await controller.parse(_pairs(body.sources)) if body.sources else None
        return asdict(await controller.explain(body.source, body.destination, body.port, policies))

    @app.get("/v1/objects/{kind}")
    async def objects(kind: str) -> list[dict[str, object]]:
        return await views.objects(controller, kind)

    @app.post("/v1/endpoints")
    async def add_endpoint(body: NewEndpoint, author: Author = OPERATOR) -> dict[str, object]:
        hosts = list(controller.ledger.state.hosts)
        if not body.host and len(hosts) != 1:
            raise UsageError("which host carries it?", subject=body.name, hint=f"the hosts are {', '.join(hosts)}")
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
        rollout = await controller.attachments.add(endpoint, author)
        status = controller.fleet.view(endpoint.host).statuses.get(endpoint.id)
        return {**answer(rollout), "endpoint": endpoint.id, "state": status.state.value if status else "pending"}

    @app.delete("/v1/endpoints/{name:path}")
    async def remove_endpoint(name: str, author: Author = OPERATOR) -> dict[str, object]:
        return answer(await controller.attachments.remove(name, author))

    @app.patch("/v1/endpoints/{name:path}")
    async def label_endpoint(name: str, body: Labels, author: Author = OPERATOR) -> dict[str, object]:
        return answer(await controller.attachments.label(name, body.labels, author))

    @app.post("/v1/tokens")
    async def token(body: Token) -> dict[str, object]:
        made = await controller.membership.make_token(body.host, timedelta(seconds=body.life_s))
        return {"token": str(made)}

    @app.post("/v1/hosts/{name}/{state}")
    async def move_host(name: str, state: HostState, author: Author = OPERATOR) -> dict[str, object]:
        return answer(await controller.move_host(name, state, author))

    app.include_router(learning_routes(controller))

    @app.get("/v1/flows")
    async def flows(
        source: str = "",
        destination: str = "",
        verdict: Annotated[str, Query(pattern="^(|allow|deny|would-deny|invalid)$")] = "",
        since: AwareDatetime | None = None,
        follow: bool = False,
        limit: Annotated[int, Query(ge=1, le=65_536)] = 1_000,
    ) -> StreamingResponse:
        wanted = FlowFilter(source, destination, verdict, since)

        async def lines() -> AsyncIterator[bytes]:
            if follow:
                async for flow in controller.flows.follow(wanted):
                    yield json.dumps(flow).encode() + b"\n"
            else:
                for flow in controller.flows.newest(wanted, limit):
                    yield json.dumps(flow).encode() + b"\n"

        return StreamingResponse(lines(), media_type="application/x-ndjson")

    return app


def _failing(allowed: bool) -> FailingAssertions:
    return FailingAssertions.ALLOW if allowed else FailingAssertions.BLOCK


def _pairs(sources: list[Source]) -> list[tuple[str, bytes]]:
    return [(source.file, source.text.encode()) for source in sources]
