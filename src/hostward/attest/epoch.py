"""A boot is an epoch. What is older than what was seen is refused: a quote, an epoch, a revision (invariant 12)."""

from __future__ import annotations

from dataclasses import dataclass

from hostward.attest.quote import Clock
from hostward.errors import EvidenceError


@dataclass(frozen=True, slots=True)
class Epoch:
    """The newest that was accepted of one attestation key; its numbers only grow, until the TPM's owner clears it.

    A cleared TPM has lost the key, so that a new one begins anew, after activation. Counters are comparable for keys
    under the endorsement hierarchy; for others a TPM adds a constant (Part 1, 36.7).
    """

    ak_name: bytes
    clock: Clock
    boot_id: bytes = b""
    revision: int = 0


def advance(last: Epoch | None, now: Epoch) -> bool:
    """Whether the machine started anew since the last that was accepted. Raises EvidenceError if this one is older."""
    if last is None or last.ak_name != now.ak_name:
        return True
    before, clock = last.clock, now.clock
    if clock.reset_count < before.reset_count:
        raise EvidenceError(
            f"the quote is of boot {clock.reset_count}, and boot {before.reset_count} was seen already: it is old"
        )
    rebooted = clock.reset_count > before.reset_count
    if not rebooted:
        if clock.restart_count < before.restart_count:
            raise EvidenceError(
                f"the quote is of restart {clock.restart_count}, and restart {before.restart_count} was seen: it is old"
            )
        # Within one boot the clock runs on; only a loss of power may set it back, and that is counted as a boot.
        if clock.clock_ms < before.clock_ms:
            raise EvidenceError(f"the TPM's clock is {clock.clock_ms} ms, and {before.clock_ms} ms was seen: it is old")
    if last.boot_id and now.boot_id:
        if rebooted and now.boot_id == last.boot_id:
            raise EvidenceError(
                f"the TPM was started anew (boot {clock.reset_count} after {before.reset_count}), and the machine was not"
            )
        if not rebooted and now.boot_id != last.boot_id:
            raise EvidenceError("the kernel was started anew, and the TPM was not: it was not measured from the start")
    if now.revision < last.revision:
        raise EvidenceError(f"the host enforces revision {now.revision}, and it enforced {last.revision} before")
    return rebooted
