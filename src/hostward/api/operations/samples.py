"""The operation that shows samples, and what they estimate."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, FastAPI, Query
from fastapi.responses import StreamingResponse

from hostward.api.answers.refusals import refusals
from hostward.api.answers.samples import SampleLine, SampleStreamLine, SampleTotalLine
from hostward.api.asking import Asks
from hostward.api.json_lines import JsonLines, lines_of
from hostward.api.requests import Since
from hostward.controller.access import Action, Scope
from hostward.controller.flows import FlowFilter
from hostward.controller.service import Controller


def add_samples(app: FastAPI, controller: Controller) -> None:
    """Add the operation, for one controller."""

    @app.get(
        "/v1/samples",
        summary="Samples of packets and what they estimate, one JSON object a line",
        tags=["flows"],
        response_class=JsonLines,
        responses={200: lines_of(SampleStreamLine), **refusals()},
    )
    async def samples(
        scope: Annotated[Scope, Depends(Asks(Action.READ_FLOWS))],
        source: Annotated[str, Query(description="An endpoint, an IP address or `internet`.")] = "",
        destination: Annotated[str, Query(description="The same.")] = "",
        verdict: Annotated[str, Query(pattern="^(|allow|deny|would-deny|invalid)$")] = "",
        since: Annotated[Since | None, Query(description="Inclusive.")] = None,
        follow: Annotated[bool, Query(description="Go on with what comes.")] = False,
        limit: Annotated[int, Query(ge=1, le=32_768, description="How many, the newest, if not followed.")] = 1_000,
    ) -> StreamingResponse:
        wanted = FlowFilter(source, destination, verdict, since, scope.tenants)

        async def lines() -> AsyncIterator[bytes]:
            if follow:
                async for line in controller.samples.follow(wanted):
                    yield _line(line)
            else:
                for line in controller.samples.newest(wanted, limit):
                    yield _line(line)

        return JsonLines(lines())


def _line(line: dict[str, object]) -> bytes:
    shape = SampleLine if line["kind"] == "sample" else SampleTotalLine
    return shape.model_validate(line).model_dump_json().encode() + b"\n"
