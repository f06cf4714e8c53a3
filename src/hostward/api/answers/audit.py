"""The audit log as the API shows it."""

from __future__ import annotations

from pydantic import Field

from hostward.api.answers.base import Answer, Moment
from hostward.store.records import AuditResult


class AuditRow(Answer):
    """One record."""

    name: str = Field(description="Its number as text: 1, 2, 3 … without a gap.")
    time: Moment = Field(description="Of a record that stands for several refusals, the time of the last.")
    who: str = Field(description="How they were authenticated, and who; `peer:ADDRESS` if they were not.")
    action: str
    objects: list[str] = Field(description="What it was about, a few of them if it stands for several refusals.")
    summary: str
    result: AuditResult
    count: int = Field(description="How many refusals alike it stands for, those on record already not counted.")
    revision_before: int
    revision_after: int = Field(description="The same as `revision_before` where nothing was committed.")
    hash: str = Field(description="Over the record and the hash of the one before it.")


class AuditPage(Answer):
    """Some of the audit log, oldest first."""

    records: list[AuditRow]
    next: int | None = Field(description="Give it as `after` for the next page; null if this is the last.")


class AuditVerified(Answer):
    """The chain is whole."""

    head: str = Field(
        description="The hash of the newest record. Kept elsewhere, it shows later whether an end was cut off."
    )
    records: int = Field(description="How many records were verified: all.")
