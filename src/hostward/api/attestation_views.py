"""How the API shows what the controller knows of a host's evidence."""

from __future__ import annotations

from typing import Literal

from hostward.api.answers.attestation import AttestationDetail, AttestationRow, FindingRow, GateRow
from hostward.attest.findings import Tier
from hostward.controller.attestation.grants import PortView
from hostward.controller.attestation.runner import AttestationRunner
from hostward.controller.attestation.standing import Standing
from hostward.gate.messages import Mode
from hostward.store.records import HostRecord

_MODES: dict[Mode, Literal["quarantine", "open", "cut"]] = {
    Mode.QUARANTINE: "quarantine",
    Mode.OPEN: "open",
    Mode.CUT: "cut",
}
_TIERS: dict[Tier, Literal["affirming", "warning", "contraindicated"]] = {
    Tier.AFFIRMING: "affirming",
    Tier.WARNING: "warning",
    Tier.CONTRAINDICATED: "contraindicated",
}


def row_of(runner: AttestationRunner, record: HostRecord) -> AttestationRow:
    """A host in one line."""
    standing = runner.attestation.standing(record.name)
    known = standing.record
    return AttestationRow(
        name=record.name,
        host=known.ek if known else "",
        state=record.state,
        evidence=_evidence(standing),
        measured=runner.attestation.settings.measured,
        reference=_reference(standing),
        appraised=standing.at.isoformat() if standing.at else "",
        connected=standing.connected,
        boot=known.boots if known else 0,
        revision=standing.last.revision if standing.last else 0,
        against=list(standing.against),
        refused=standing.refused,
        gates=[_gate(view) for view in runner.granter.views(record.name)],
    )


def detail_of(runner: AttestationRunner, record: HostRecord) -> AttestationDetail:
    """A host with everything that was found."""
    standing = runner.attestation.standing(record.name)
    result = standing.appraisal
    boot, quote = (result.boot, result.quote) if result else (None, None)
    return AttestationDetail(
        **dict(row_of(runner, record)),
        quoted=[str(each) for each in quote.selection] if quote else [],
        pcrs={str(pcr): value.hex() for pcr, value in sorted(boot.values.items())} if boot else {},
        files_measured=standing.checkpoint.entries,
        programs={name: digest.hex() for name, digest in sorted(standing.programs.items())},
        policies={name: digest.hex() for name, digest in sorted(standing.policies.items())},
        findings=[
            FindingRow(
                rule=each.rule.label,
                tier=_TIERS[each.tier],
                what=each.what,
                where=each.where,
                expected=each.expected,
                why=each.rule.why,
            )
            for each in (result.findings if result else ())
        ],
    )


def _evidence(standing: Standing) -> Literal["good", "warning", "bad", "braked", "none"]:
    if standing.appraisal is None:
        return "none"
    if standing.braked:
        return "braked"
    if not standing.good:
        return "bad"
    return "warning" if standing.appraisal.tier is Tier.WARNING else "good"


def _reference(standing: Standing) -> str:
    policy = standing.appraisal.policy if standing.appraisal is not None else "none"
    return "" if policy == "none" else policy


def _gate(view: PortView) -> GateRow:
    state = view.state
    return GateRow(
        gate=view.gate,
        port=view.port,
        open=state.open if state else None,
        mode=_MODES[state.mode] if state else "",
        why=state.why if state else "",
        trouble=view.trouble,
        grant_left_ms=state.grant_left_ms if state else 0,
        pulse_left_ms=state.pulse_left_ms if state else 0,
    )
