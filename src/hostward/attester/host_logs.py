"""What the firmware and the kernel logged of their measurements, as files of securityfs, whose sizes are not told."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

from hostward.attest import ima
from hostward.attest.algorithms import HASHES, Hash, name_of
from hostward.attest.eventlog import EventType, Format, parse_event_log
from hostward.attest.eventlog.log import MOST_BYTES, EventLog
from hostward.attest.monitor import Measurement
from hostward.errors import EvidenceError, TpmError

_HINT = "is securityfs mounted on /sys/kernel/security, and does the kernel have {what}?"


def read_boot_log(path: Path) -> tuple[bytes, EventLog]:
    """A boot log without what its memory had behind it, and the same read. Raises TpmError, for SHA-1 logs too."""
    data = _read(path, 0, MOST_BYTES, "boot log", _HINT.format(what="a driver for the TPM"))
    try:
        log = parse_event_log(data)
    except EvidenceError as error:
        raise TpmError(f"the boot log cannot be read: {error.what}", subject=str(path)) from error
    if log.format is not Format.CRYPTO_AGILE:
        raise TpmError(
            "the firmware writes its log with SHA-1 alone, which proves nothing",
            subject=str(path),
            hint="look for an update of the firmware, or set its TPM to version 2.0 and a SHA-256 bank",
        )
    unknown = [name_of(each) for each in log.banks if each not in HASHES]
    if unknown:
        raise TpmError(f"the boot log has banks whose hash is unknown: {', '.join(unknown)}", subject=str(path))
    return data[: len(data) - log.padding_bytes], log


def read_ima(path: Path, offset: int) -> bytes:
    """IMA's binary list from this byte on. Raises TpmError."""
    hint = _HINT.format(what="IMA and a policy, ima_policy=tcb say")
    return _read(path, offset, ima.MOST_BYTES, "IMA list", hint)


def events_of(measurements: Sequence[Measurement], pcr: int, banks: Sequence[Hash]) -> bytes:
    """Measurements as events of a boot log, with a digest in each bank.

    EV_IPL: what boot loaders and services of the running system call theirs, which readers show as text.
    """
    return b"".join(event(pcr, EventType.EV_IPL, each.data(), banks) for each in measurements)


def event(pcr: int, kind: EventType, data: bytes, banks: Sequence[Hash]) -> bytes:
    """TCG_PCR_EVENT2 whose digests are of its data (PC Client Platform Firmware Profile, 10.2.2)."""
    digests = b"".join(struct.pack("<H", bank.algorithm) + bank.digest(data) for bank in banks)
    return struct.pack("<III", pcr, kind, len(banks)) + digests + struct.pack("<I", len(data)) + data


def _read(path: Path, offset: int, most_bytes: int, what: str, hint: str) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            content = file.read(most_bytes + 1)
    except FileNotFoundError as error:
        raise TpmError(f"there is no {what}", subject=str(path), hint=hint) from error
    except OSError as error:
        raise TpmError(f"the {what} cannot be read: {error.strerror}", subject=str(path)) from error
    if len(content) > most_bytes:
        raise TpmError(
            f"the {what} has more than {most_bytes} bytes, which no verifier reads at once", subject=str(path)
        )
    return content
