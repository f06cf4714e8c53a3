"""A machine with a real TPM in software, and a verifier's judgement of what its attester collects."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hostward.attest.appraisal import Appraisal, Evidence, Trust, appraise
from hostward.attest.certificate import Certificate
from hostward.attest.learning import learn
from hostward.attest.memory import VerifierMemory
from hostward.attest.public import parse_public
from hostward.attest.reference import Reference, read_reference
from hostward.attester import Attester, AttesterSettings
from hostward.lab.processes import Started
from hostward.lab.tpm import (
    SoftwareBoot,
    software_boot,
    start_anywhere,
    tcti_of,
)

NONCE = b"n" * 32


@dataclass
class Machine:
    """A host with a TPM that was booted, and what a verifier trusts of it."""

    folder: Path
    roots: Sequence[Certificate]
    files: list[Path]
    boot: SoftwareBoot | None = None
    process: Started | None = None
    port: int = 0
    attesters: list[Attester] = field(default_factory=list)

    @property
    def tcti(self) -> str:
        return tcti_of(self.port)

    def start(self) -> None:
        """Power on, and boot."""
        self.process, self.port = start_anywhere(self.folder / "tpm")
        self.boot = software_boot(self.tcti, self.folder / "boot", self.files)

    def stop(self) -> None:
        """Power off."""
        for attester in self.attesters:
            attester.close()
        if self.process is not None:
            self.process.end()

    def attester(self, **changes: Any) -> Attester:
        assert self.boot is not None
        where: dict[str, Any] = {"boot_log": self.boot.boot_log, "ima_log": self.boot.ima_log}
        attester = Attester(AttesterSettings(self.tcti, self.folder / "state", **{**where, **changes}))
        self.attesters.append(attester)
        return attester

    def trust(self, attester: Attester, **changes: Any) -> Trust:
        """As after an activation of this attester's key."""
        known: dict[str, Any] = {"roots": self.roots, "enrolled_ak": parse_public(attester.identity().ak).name}
        return Trust(**{**known, "without": frozenset({"secure-boot"}), **changes})


def evidence_of(attester: Attester, ima_offset: int = 0) -> Evidence:
    identity, collected = attester.identity(), attester.collect(NONCE, ima_offset)
    return Evidence(
        collected.quote,
        collected.signature,
        identity.ak,
        collected.event_log,
        collected.ima,
        identity.ek,
        identity.ek_certificate,
        identity.intermediates,
    )


def judge(evidence: Evidence, trust: Trust) -> Appraisal:
    # Now, since the CA's certificates begin when the tests do.
    return appraise(evidence, trust, NONCE, datetime.now(UTC), VerifierMemory())


def learnt(evidence: Evidence, trust: Trust) -> Reference:
    document: Mapping[str, object] = learn(judge(evidence, trust), "good")
    return read_reference([json.dumps(document).encode()])
