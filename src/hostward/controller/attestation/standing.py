"""What the controller knows of one host's attestation at this moment, and what of it outlives the controller."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from hostward.attest.appraisal import Appraisal
from hostward.attest.epoch import Epoch
from hostward.attest.ima import Checkpoint
from hostward.attest.quote import Clock
from hostward.store.records import AttestationRecord

_SERIALS = 2  # a certificate and the one that it replaces


@dataclass(slots=True)
class Standing:
    """One host. ``good`` is whether its last evidence was, or the brake held its eviction up (``braked``)."""

    host: str
    record: AttestationRecord | None = None
    boots_before: int = 0  # what gates have seen of it, where nothing is on record
    last: Epoch | None = None
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    connected: bool = False
    peer: str = ""
    good: bool = False
    braked: bool = False
    told: bool = False  # whether anybody was told how it stands since the controller started
    at: datetime | None = None  # of the last appraisal
    at_s: float = 0.0  # the same on the event loop's clock
    took_s: float = 0.0  # of the verifier's processor
    appraisal: Appraisal | None = None
    first: Appraisal | None = None  # of this boot: the one that read the logs from the start
    quote: bytes = b""  # SHA-256 of the last
    nonce: bytes = b""
    pulse_key: bytes = b""
    serials: tuple[str, ...] = ()
    programs: Mapping[str, bytes] = field(default_factory=dict)
    policies: Mapping[str, bytes] = field(default_factory=dict)
    # Its evidence did not fit into an ordinary message: the next may be as long as there is.
    large: bool = False
    rests_until_s: float = 0.0  # on the event loop's clock: it is not asked before, on whatever connection
    refused: str = ""  # why it could not even be judged

    def remember_serial(self, serial: str) -> None:
        """A certificate was issued; the one before it is good until the agent uses the new one."""
        self.serials = (serial, *self.serials)[:_SERIALS]

    @property
    def against(self) -> Sequence[str]:
        """What speaks against it, in words."""
        found = self.appraisal.findings if self.appraisal is not None else ()
        return [f"{each.rule.label}: {each.what}" for each in found if each.tier.name == "CONTRAINDICATED"]


def standing_of(host: str, record: AttestationRecord | None) -> Standing:
    """What a controller that starts knows: the host has to prove itself anew, and nothing older than what is written."""
    if record is None:
        return Standing(host)
    clock = Clock(record.clock_ms, record.reset_count, record.restart_count, safe=True)
    epoch = Epoch(bytes.fromhex(record.ak_name), clock, bytes.fromhex(record.boot_id), record.revision)
    return Standing(host, record, last=epoch)


def record_of(ek: str, epoch: Epoch, boots: int) -> AttestationRecord:
    """What is written down of a boot."""
    clock = epoch.clock
    return AttestationRecord(
        ek,
        epoch.ak_name.hex(),
        boots,
        clock.clock_ms,
        clock.reset_count,
        clock.restart_count,
        epoch.boot_id.hex(),
        epoch.revision,
    )
