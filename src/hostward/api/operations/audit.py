"""Operations on the audit log: reading it page by page, and verifying all of it."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

from fastapi import Depends, FastAPI, Query

from hostward.api import views
from hostward.api.answers.audit import AuditPage, AuditVerified
from hostward.api.answers.refusals import refusals
from hostward.api.asking import Asks
from hostward.controller.access import Action, Scope
from hostward.controller.service import Controller

_TAGS: list[str | Enum] = ["audit"]
PAGE = 200
PAGE_MAX = 1_000


def add_audit(app: FastAPI, controller: Controller) -> None:
    """Add the operations, for one controller."""

    @app.get("/v1/audit", summary="The audit log, oldest first, in pages", tags=_TAGS, responses=refusals(409))
    async def audit(
        _: Annotated[Scope, Depends(Asks(Action.READ_AUDIT))],
        after: Annotated[int, Query(ge=0, lt=2**63, description="The number of the last record that you have.")] = 0,
        limit: Annotated[int, Query(ge=1, le=PAGE_MAX, description="How many records at most.")] = PAGE,
    ) -> AuditPage:
        # One more than is shown: whether there is a next page is known without asking twice.
        found = await controller.ledger.audit(after, limit + 1)
        rows = [views.audit_row(record) for record in found[:limit]]
        return AuditPage(records=rows, next=found[limit - 1].number if len(found) > limit else None)

    @app.get("/v1/audit/verify", summary="Verify the whole chain", tags=_TAGS, responses=refusals(409))
    async def verify_audit(
        _: Annotated[Scope, Depends(Asks(Action.READ_AUDIT))],
        head: Annotated[str, Query(description="A head that was answered earlier, and must still be there.")] = "",
    ) -> AuditVerified:
        verified = await controller.ledger.verify_audit(head)
        return AuditVerified(head=verified.head, records=verified.records)
