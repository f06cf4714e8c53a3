"""How a controller attests its hosts (design §7)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum
from pathlib import Path


@dataclass(frozen=True, slots=True)
class GateAddress:
    """A gate: where its own channel is (``HOST:PORT``), by what it is known, and which host is behind each of its ports.

    ``fingerprint`` is the SHA-256 of the SubjectPublicKeyInfo that it shows, in hexadecimal.
    """

    name: str
    address: str
    fingerprint: str
    ports: Mapping[str, str] = field(default_factory=dict)


class AttestationMode(Enum):
    """What evidence that speaks against a host brings about."""

    ENFORCE = "enforce"
    AUDIT = "audit"  # it is told of, and nothing else


@dataclass(frozen=True, slots=True)
class AttestationSettings:
    """``trust`` is a folder of roots, inventory and reference values (docs/reference/evidence.md); times in seconds.

    ``without`` are names of ``hostward.attest.findings.WAIVABLE``. ``grace_s`` is a grant's life: how long a host keeps its
    network without the controller. ``brake_share`` is the share of hosts that may begin to mismatch within five minutes.
    """

    trust: Path
    mode: AttestationMode = AttestationMode.ENFORCE
    without: frozenset[str] = frozenset()
    evidence_s: float = 20.0
    grace_s: float = 60.0
    pulse_s: float = 2.5
    certificate_life: timedelta = timedelta(minutes=5)
    brake_share: float = 0.02
    # Shown with every host: in a lab, whose hosts measure themselves, `software-measured`.
    measured: str = "by a TPM"
    webhooks: tuple[str, ...] = ()

    @property
    def evidence_life_s(self) -> float:
        """How long a good appraisal stands for a host that answers no more: two answers may be lost."""
        return 3 * self.evidence_s
