"""The operation that shows alerts, as they were raised or as they come."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, FastAPI, Query
from fastapi.responses import StreamingResponse

from hostward.api.answers.alerts import AlertLine
from hostward.api.answers.refusals import refusals
from hostward.api.asking import Asks
from hostward.api.json_lines import JsonLines, lines_of
from hostward.api.requests import Since
from hostward.controller.access import Action, Scope
from hostward.controller.alerts import AlertFilter
from hostward.controller.service import Controller


def add_alerts(app: FastAPI, controller: Controller) -> None:
    """Add the operation, for one controller."""

    @app.get(
        "/v1/alerts",
        summary="Alerts, one EVE JSON object a line",
        tags=["alerts"],
        response_class=JsonLines,
        responses={200: lines_of(AlertLine), **refusals()},
    )
    async def alerts(
        scope: Annotated[Scope, Depends(Asks(Action.READ_ALERTS))],
        since: Annotated[Since | None, Query(description="Inclusive.")] = None,
        follow: Annotated[bool, Query(description="Go on with what comes.")] = False,
        limit: Annotated[int, Query(ge=1, le=8_192, description="How many, the newest, if not followed.")] = 1_000,
    ) -> StreamingResponse:
        wanted = AlertFilter(since, scope.tenants)

        async def lines() -> AsyncIterator[bytes]:
            if follow:
                async for alert in controller.alerts.follow(wanted):
                    yield _line(alert)
            else:
                for alert in controller.alerts.newest(wanted, limit):
                    yield _line(alert)

        return JsonLines(lines())


def _line(alert: dict[str, object]) -> bytes:
    return AlertLine.model_validate(alert).model_dump_json(exclude_none=True).encode() + b"\n"
