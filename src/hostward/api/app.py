"""The REST API of one controller: its operations put together, and every error as {what, subject, hint, problems}.

Every operation asks leave for one action (``asking.Asks``); what its answer may hold is ``visibility``'s, and its form
``answers``'.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from hostward.api.answers.refusals import Mistake, Refusal
from hostward.api.asking import ACTION, PRINCIPAL
from hostward.api.document import DocumentedApi
from hostward.api.operations.access import add_access
from hostward.api.operations.alerts import add_alerts
from hostward.api.operations.attestation import add_attestation
from hostward.api.operations.audit import add_audit
from hostward.api.operations.endpoints import add_endpoints
from hostward.api.operations.flows import add_flows
from hostward.api.operations.hosts import add_hosts
from hostward.api.operations.learning import add_learning
from hostward.api.operations.objects import add_objects
from hostward.api.operations.policy import add_policy
from hostward.api.operations.samples import add_samples
from hostward.api.request_counts import RequestCounts
from hostward.controller.access import Principal
from hostward.controller.access.decision import CHANGES
from hostward.controller.service import Controller
from hostward.errors import AccessError, ConflictError, HostwardError, NotFoundError, PolicyError, UsageError

log = logging.getLogger(__name__)

_STATUS = {AccessError: 403, NotFoundError: 404, ConflictError: 409, UsageError: 400, PolicyError: 422}


def make_app(controller: Controller) -> FastAPI:
    """The application for one controller."""
    app = DocumentedApi(title="Hostward", version="1", docs_url=None, redoc_url=None, openapi_url="/v1/openapi.json")
    app.add_middleware(RequestCounts, counts=controller.measures.api_requests)
    _answer_errors(app, controller)
    for add in (
        add_policy,
        add_objects,
        add_endpoints,
        add_hosts,
        add_attestation,
        add_learning,
        add_flows,
        add_samples,
        add_alerts,
        add_access,
        add_audit,
    ):
        add(app, controller)
    return app


def _answer_errors(app: FastAPI, controller: Controller) -> None:
    @app.exception_handler(HostwardError)
    async def refused(request: Request, error: HostwardError) -> JSONResponse:
        who, action = request.scope.get(PRINCIPAL), request.scope.get(ACTION)
        if isinstance(who, Principal) and action is not None and (isinstance(error, AccessError) or action in CHANGES):
            await controller.refusals.note(who.id, action.value, error.what, error.subject)
        status = next((code for kind, code in _STATUS.items() if isinstance(error, kind)), 409)
        problems = [Mistake(**asdict(p)) for p in error.problems] if isinstance(error, PolicyError) else []
        return _answer(status, Refusal(what=error.what, subject=error.subject, hint=error.hint, problems=problems))

    @app.exception_handler(RequestValidationError)
    async def malformed(_: Request, error: RequestValidationError) -> JSONResponse:
        texts = [f"{'.'.join(map(str, part['loc'][1:]))}: {part['msg']}" for part in error.errors()]
        return _answer(400, Refusal(what="; ".join(texts), subject="", hint="", problems=[]))

    @app.exception_handler(HTTPException)
    async def unserved(_: Request, error: HTTPException) -> JSONResponse:
        """What is refused before any operation: a path or a method that there is not, a body that is no JSON."""
        return _answer(error.status_code, Refusal(what=error.detail, subject="", hint="", problems=[]), error.headers)

    @app.exception_handler(Exception)
    async def failed(_: Request, error: Exception) -> JSONResponse:
        log.error("the API failed", exc_info=error)
        what = f"the controller failed: {type(error).__name__}"
        return _answer(500, Refusal(what=what, subject="", hint="its log says more", problems=[]))


def _answer(status: int, refusal: Refusal, headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse(refusal.model_dump(), status, headers)
