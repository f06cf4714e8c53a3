"""Attestation of hosts as the API shows it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hostward.api.answers.base import Answer
from hostward.store.records import HostState


class GateRow(Answer):
    """A gate's port behind which the host is."""

    gate: str
    port: str
    open: bool | None = Field(description="As the gate last said; null if it was not reached yet.")
    mode: Literal["quarantine", "open", "cut", ""] = Field(description="What the last grant made of it.")
    why: str = Field(description="Why it is closed, in the gate's words.")
    trouble: str = Field(description="What keeps the controller from renewing the grant; else empty.")
    grant_left_ms: int
    pulse_left_ms: int


class FindingRow(Answer):
    """What a rule found; docs/reference/evidence.md lists the rules."""

    rule: str
    tier: Literal["affirming", "warning", "contraindicated"]
    what: str
    where: str = Field(description="Which event, entry or file.")
    expected: str
    why: str = Field(description="Why it matters.")


class AttestationRow(Answer):
    """A host and its evidence."""

    name: str
    host: str = Field(description="SHA-256 of its endorsement key; empty before it enrolled a TPM.")
    state: HostState
    evidence: Literal["good", "warning", "bad", "braked", "none"] = Field(
        description="`braked`: bad, and not evicted, because too many hosts began to mismatch at once."
    )
    measured: str = Field(description="`software-measured` in a lab, whose evidence proves nothing of a machine.")
    reference: str = Field(
        description="Digest of the reference values that it was judged by; empty if there were none."
    )
    appraised: str = Field(description="When, RFC 3339; empty if not since the controller started.")
    connected: bool = Field(description="Whether it can be asked now.")
    boot: int = Field(description="The number of its boot, as gates count.")
    revision: int = Field(description="Which it proved to enforce.")
    against: list[str] = Field(description="What speaks against it.")
    refused: str = Field(description="Why its last connection was refused; else empty.")
    gates: list[GateRow]


class AttestationDetail(AttestationRow):
    """The same with every finding, and what the evidence is bound to."""

    quoted: list[str] = Field(description="The PCRs that were quoted, by bank.")
    pcrs: dict[str, str]
    files_measured: int
    programs: dict[str, str] = Field(description="Digests of what is attached, by place.")
    policies: dict[str, str] = Field(description="Digests of what decides, by endpoint.")
    findings: list[FindingRow]


class ReferenceDocument(Answer):
    """Reference values learnt from a host, to be read, signed and put where hosts are judged by them."""

    document: dict[str, object]


class Reloaded(Answer):
    """What is trusted was read anew."""

    values: int = Field(description="Reference values: parts of a boot, and files.")


class Released(Answer):
    """No gate of the host holds it cut off any more."""

    ports: list[str] = Field(description="As `gate/port`; they wait for a grant like any other.")


class ResultToken(Answer):
    """An attestation result, a signed JWT (draft-ietf-rats-ear-04)."""

    token: str
