"""The operation that shows flows, as they were seen or as they come."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, FastAPI, Query
from fastapi.responses import StreamingResponse

from hostward.api.answers.flows import FlowLine
from hostward.api.answers.refusals import refusals
from hostward.api.asking import Asks
from hostward.api.json_lines import JsonLines, lines_of
from hostward.api.requests import Since
from hostward.controller.access import Action, Scope
from hostward.controller.flows import FlowFilter
from hostward.controller.service import Controller


def add_flows(app: FastAPI, controller: Controller) -> None:
    """Add the operation, for one controller."""

    @app.get(
        "/v1/flows",
        summary="Flows, one JSON object a line",
        tags=["flows"],
        response_class=JsonLines,
        responses={
            200: lines_of(FlowLine),
            **refusals(),
        },
    )
    async def flows(
        scope: Annotated[Scope, Depends(Asks(Action.READ_FLOWS))],
        source: Annotated[str, Query(description="An endpoint, an IP address or `internet`.")] = "",
        destination: Annotated[str, Query(description="The same.")] = "",
        verdict: Annotated[str, Query(pattern="^(|allow|deny|would-deny|invalid)$")] = "",
        since: Annotated[Since | None, Query(description="Inclusive.")] = None,
        follow: Annotated[bool, Query(description="Go on with what comes.")] = False,
        limit: Annotated[int, Query(ge=1, le=65_536, description="How many, the newest, if not followed.")] = 1_000,
    ) -> StreamingResponse:
        wanted = FlowFilter(source, destination, verdict, since, scope.tenants)

        async def lines() -> AsyncIterator[bytes]:
            if follow:
                async for flow in controller.flows.follow(wanted):
                    yield _line(flow)
            else:
                for flow in controller.flows.newest(wanted, limit):
                    yield _line(flow)

        return JsonLines(lines())


def _line(flow: dict[str, object]) -> bytes:
    return FlowLine.model_validate(flow).model_dump_json().encode() + b"\n"
