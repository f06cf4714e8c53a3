"""The REST API: pydantic at the edge, the controller's values inside. Errors are {what, subject, hint, problems}.

Served on a Unix socket that only its owner may open: whoever reaches it is the operator.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Annotated

from fastapi import FastAPI, Query, Request
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, Field

from hostward.api import views
from hostward.controller.flows import FlowFilter
from hostward.controller.service import Controller, Rollout
from hostward.errors import ConflictError, HostwardError, NotFoundError, PolicyError, UsageError
from hostward.model.endpoint import DEFAULT_NETWORK, Endpoint, Port
from hostward.store.records import HostState

log = logging.getLogger(__name__)

_STATUS = {NotFoundError: 404, ConflictError: 409, UsageError: 400, PolicyError: 422}


class Source(BaseModel):
    """One policy file."""

    file: str
    text: str


class Apply(BaseModel):
    """Policy files to apply, plan or check."""

    sources: list[Source]
    planned: int = 0
    confirm_within_s: float = Field(0.0, ge=0, le=86_400)
    author: str = "operator"


class Question(BaseModel):
    """A question for ``explain``; with ``sources`` as if they were applied."""

    source: str
    destination: str
    port: str
    sources: list[Source] = []


class NewEndpoint(BaseModel):
    """An endpoint to attach. ``host`` may be left out where there is only one."""

    tenant: str
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")
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


def make_app(controller: Controller) -> FastAPI:
    """The application for one controller."""
    app = FastAPI(title="Hostward", version="1", docs_url=None, redoc_url=None)

    @app.exception_handler(HostwardError)
    async def refused(_: Request, error: HostwardError) -> JSONResponse:
        status = next((code for kind, code in _STATUS.items() if isinstance(error, kind)), 409)
        problems = [asdict(problem) for problem in error.problems] if isinstance(error, PolicyError) else []
        body = {"what": error.what, "subject": error.subject, "hint": error.hint, "problems": problems}
        return JSONResponse(body, status)

    @app.exception_handler(Exception)
    async def failed(_: Request, error: Exception) -> JSONResponse:
        log.error("the API failed", exc_info=error)
        body = {"what": f"the controller failed: {type(error).__name__}", "subject": "", "hint": "its log says more"}
        return JSONResponse({**body, "problems": []}, 500)

    def answer(rollout: Rollout) -> dict[str, object]:
        return {"revision": rollout.revision, "hosts": [views.outcome(host) for host in rollout.hosts]}

    @app.post("/v1/apply")
    async def apply(body: Apply) -> dict[str, object]:
        return answer(
            await controller.apply(
                _pairs(body.sources), body.author, planned=body.planned, confirm_within_s=body.confirm_within_s
            )
        )

    @app.post("/v1/plan")
    async def plan(body: Apply) -> dict[str, object]:
        return views.plan(controller, controller.parse(_pairs(body.sources)))

    @app.post("/v1/confirm")
    async def confirm() -> dict[str, object]:
        controller.confirm()
        return {}

    @app.post("/v1/rollback/{revision}")
    async def rollback(revision: int) -> dict[str, object]:
        return answer(await controller.rollback(revision, "operator"))

    @app.delete("/v1/tenants/{name}")
    async def delete_tenant(name: str) -> dict[str, object]:
        return answer(await controller.delete_tenant(name, "operator"))

    @app.post("/v1/explain")
    async def explain(body: Question) -> dict[str, object]:
        policies = controller.parse(_pairs(body.sources)) if body.sources else None
        return asdict(controller.explain(body.source, body.destination, body.port, policies))

    @app.get("/v1/objects/{kind}")
    async def objects(kind: str) -> list[dict[str, object]]:
        return await views.objects(controller, kind)

    @app.post("/v1/endpoints")
    async def add_endpoint(body: NewEndpoint) -> dict[str, object]:
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
        rollout = await controller.add_endpoint(endpoint, "operator")
        status = controller.fleet.view(endpoint.host).statuses.get(endpoint.id)
        return {**answer(rollout), "endpoint": endpoint.id, "state": status.state.value if status else "pending"}

    @app.delete("/v1/endpoints/{name:path}")
    async def remove_endpoint(name: str) -> dict[str, object]:
        return answer(await controller.remove_endpoint(name, "operator"))

    @app.patch("/v1/endpoints/{name:path}")
    async def label_endpoint(name: str, body: Labels) -> dict[str, object]:
        return answer(await controller.label_endpoint(name, body.labels, "operator"))

    @app.post("/v1/tokens")
    async def token(body: Token) -> dict[str, object]:
        made = await controller.membership.make_token(body.host, timedelta(seconds=body.life_s))
        return {"token": str(made)}

    @app.post("/v1/hosts/{name}/{state}")
    async def move_host(name: str, state: HostState) -> dict[str, object]:
        return answer(await controller.move_host(name, state, "operator"))

    @app.get("/v1/flows")
    async def flows(
        source: str = "",
        destination: str = "",
        verdict: str = "",
        since: datetime | None = None,
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


def _pairs(sources: list[Source]) -> list[tuple[str, bytes]]:
    return [(source.file, source.text.encode()) for source in sources]
