"""Operations on hosts' evidence: how it stands, why, and what can be learnt from it."""

from __future__ import annotations

from datetime import timedelta
from enum import Enum
from typing import Annotated

from fastapi import Depends, FastAPI

import hostward
from hostward.api.answers.attestation import (
    AttestationDetail,
    AttestationRow,
    ReferenceDocument,
    Released,
    Reloaded,
    ResultToken,
)
from hostward.api.answers.refusals import refusals
from hostward.api.asking import Asks
from hostward.api.attestation_views import detail_of, row_of
from hostward.attest.ear import ear_claims, sign_ear
from hostward.attest.learning import learn
from hostward.controller.access import Action, Scope
from hostward.controller.attestation.runner import AttestationRunner
from hostward.controller.attestation.standing import Standing
from hostward.controller.service import Controller
from hostward.errors import ConflictError

_TAGS: list[str | Enum] = ["attestation"]
_RESULT_LIFE = timedelta(minutes=5)


def add_attestation(app: FastAPI, controller: Controller) -> None:
    """Add the operations, for one controller."""

    def runner() -> AttestationRunner:
        if controller.attestation is None:
            raise ConflictError(
                "this controller attests no hosts", hint="docs/howto/attest-hosts.md says how to switch it on"
            )
        return controller.attestation

    def judged(host: str) -> Standing:
        controller.membership.record(host)
        standing = runner().attestation.standing(host)
        if standing.appraisal is None:
            raise ConflictError(
                "it has not sent evidence since the controller started", subject=f"host {host}", hint=standing.refused
            )
        return standing

    @app.get("/v1/attestation", summary="The evidence of every host", tags=_TAGS, responses=refusals(409))
    async def status(scope: Annotated[Scope, Depends(Asks(Action.READ_HOSTS))]) -> list[AttestationRow]:
        scope.require_site("the evidence of hosts")
        await runner().granter.look()
        return [row_of(runner(), record) for record in controller.ledger.state.hosts.values()]

    @app.post(
        "/v1/attestation/reload",
        summary="Read roots, inventory and reference values anew, and ask every host",
        tags=_TAGS,
        responses=refusals(409),
    )
    async def reload(scope: Annotated[Scope, Depends(Asks(Action.MOVE_HOST))]) -> Reloaded:
        scope.require_site("what hosts are judged by")
        return Reloaded(values=await runner().reload())

    @app.get("/v1/attestation/{host}", summary="Every finding about a host", tags=_TAGS, responses=refusals(404, 409))
    async def explain(host: str, scope: Annotated[Scope, Depends(Asks(Action.READ_HOSTS))]) -> AttestationDetail:
        scope.require_site("the evidence of hosts")
        await runner().granter.look()
        return detail_of(runner(), controller.membership.record(host))

    @app.post(
        "/v1/attestation/{host}/release",
        summary="Undo at its gates that a host was cut off",
        tags=_TAGS,
        responses=refusals(404, 409),
    )
    async def release(host: str, scope: Annotated[Scope, Depends(Asks(Action.MOVE_HOST))]) -> Released:
        scope.require_site("the gates of hosts")
        controller.membership.record(host)
        return Released(ports=await runner().release(host))

    @app.get(
        "/v1/attestation/{host}/reference",
        summary="Reference values learnt from a host",
        tags=_TAGS,
        responses=refusals(404, 409),
    )
    async def reference(host: str, scope: Annotated[Scope, Depends(Asks(Action.READ_HOSTS))]) -> ReferenceDocument:
        scope.require_site("the evidence of hosts")
        appraisal = judged(host).first
        if appraisal is None:
            raise ConflictError("its logs were not read from the start yet", subject=f"host {host}")
        return ReferenceDocument(document=dict(learn(appraisal, f"learnt from {host}")))

    @app.get(
        "/v1/attestation/{host}/result",
        summary="The last appraisal as a signed attestation result (EAR)",
        tags=_TAGS,
        responses=refusals(404, 409),
    )
    async def result(host: str, scope: Annotated[Scope, Depends(Asks(Action.READ_HOSTS))]) -> ResultToken:
        scope.require_site("the evidence of hosts")
        standing = judged(host)
        assert standing.appraisal is not None
        assert standing.at is not None
        build, policy = f"hostward {hostward.__version__}", standing.appraisal.policy
        claims = ear_claims(standing.appraisal, standing.nonce, standing.at, _RESULT_LIFE, build, policy)
        return ResultToken(token=sign_ear(claims, runner().result_key))
