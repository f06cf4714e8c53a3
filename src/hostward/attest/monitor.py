"""PCR 15: what the monitor measured of itself after the boot, by name.

Other parts are compared as whole sequences. This one grows while a host runs: with each new object and each change of the
configuration. So each measurement is judged alone, and all of them, not only the last: a host that once ran an object which
nobody knows stays suspect until it boots anew. The kernel measures none of this. It is the monitor's own word, as good as
the file of the monitor that IMA measured before it ran.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from hostward.attest.algorithms import Hash
from hostward.attest.boot import BootFacts
from hostward.attest.components import MONITOR_PCR, Component
from hostward.attest.eventlog import Event
from hostward.attest.findings import Finding, Rule, failed, passed, warned
from hostward.attest.reference import Reference, Standing
from hostward.errors import EvidenceError

__all__ = ["MONITOR_PCR", "PACKAGE", "Measurement", "compare_monitor", "is_judged", "read_monitor", "reference_path"]

# The one name that every host with a monitor measures.
PACKAGE = "package"
MOST_NAME = 200
_NAME = rb"package|(?:object|config):[A-Za-z0-9][A-Za-z0-9._/@+-]*"
_NAMED = re.compile(_NAME)
_DATA = re.compile(rb"hostward:(?P<name>" + _NAME + rb")=sha256:(?P<digest>[0-9a-f]{64})")
_SHOWN_BYTES = 80


@dataclass(frozen=True, slots=True)
class Measurement:
    """SHA-256 of something that the monitor is made of, or was told."""

    name: str
    digest: bytes

    def __post_init__(self) -> None:
        if len(self.name) > MOST_NAME or not _NAMED.fullmatch(self.name.encode()):
            raise EvidenceError(f"{self.name[:_SHOWN_BYTES]!r} is no name of a measurement of the monitor")
        if len(self.digest) != 32:
            raise EvidenceError(f"a digest of {len(self.digest)} bytes, not 32")

    def data(self) -> bytes:
        """The event's data, whose hash in each bank is its digest there."""
        return f"hostward:{self.name}=sha256:{self.digest.hex()}".encode()


def parse_measurement(data: bytes) -> Measurement:
    """Read an event's data. Raises EvidenceError unless it is exactly what ``Measurement.data`` writes."""
    found = _DATA.fullmatch(data)
    if found is None:
        raise EvidenceError(f"{data[:_SHOWN_BYTES]!r} is no measurement of the monitor")
    return Measurement(found["name"].decode(), bytes.fromhex(found["digest"].decode()))


def reference_path(name: str) -> str:
    """What a measurement's name is called among the files of reference values."""
    return f"hostward:{name}"


def is_judged(name: str) -> bool:
    """Whether reference values decide; a configuration differs from host to host, and is on record."""
    return not name.startswith("config:")


def read_monitor(boot: BootFacts) -> tuple[list[Measurement], list[Finding]]:
    """What was measured, in order, and a finding for each event of the PCR that is no measurement."""
    measured: list[Measurement] = []
    findings: list[Finding] = []
    for event in boot.parts.get(Component.MONITOR, ()):
        try:
            measured.append(_measurement(event, boot.bank))
        except EvidenceError as error:
            findings.append(failed(Rule.MONITOR_COMPONENT, error.what, where=str(event), expected=_expected_form()))
    return measured, findings


def _measurement(event: Event, bank: Hash) -> Measurement:
    # Not matches_data: it also takes forms that other programs hash, and here one form is written.
    if bank.digest(event.data) != event.digests[bank.algorithm]:
        raise EvidenceError("its data is not what was measured")
    return parse_measurement(event.data)


def _expected_form() -> str:
    return "hostward:NAME=sha256:HEX, with package, object:… or config:… as its name"


def compare_monitor(measured: Sequence[Measurement], reference: Reference, now: datetime) -> list[Finding]:
    """Each measurement beside the reference values, and whether the package was measured where they know one."""
    findings: list[Finding] = []
    known = 0
    judged = [each for each in measured if is_judged(each.name)]
    for each in judged:
        finding = _judge(each, reference, now)
        if finding is None:
            known += 1
        else:
            findings.append(finding)
    package = reference.paths.get(reference_path(PACKAGE), ())
    if package and not any(each.name == PACKAGE for each in judged):
        what = "the monitor did not measure its package: it does not run, or keeps what it is to itself"
        findings.append(failed(Rule.MONITOR_COMPONENT, what, expected=" or ".join(package[:4])))
    if judged:
        what = f"{known} of {len(judged)} measurements of the monitor are known"
        findings.append(passed(Rule.MONITOR_COMPONENT, what))
    return findings


def _judge(measured: Measurement, reference: Reference, now: datetime) -> Finding | None:
    """None if it is known and current."""
    path = reference_path(measured.name)
    window = reference.files.get((path, "sha256", measured.digest))
    standing = window.standing(now) if window else None
    if standing is Standing.CURRENT:
        return None
    if standing is Standing.SUPERSEDED:
        return warned(Rule.BOOT_SUPERSEDED, f"{measured.name} of the monitor was replaced", where=path)
    known = " or ".join(reference.paths.get(path, ())[:4])
    what = f"sha256:{measured.digest.hex()} of {measured.name} is {standing.value if standing else 'not known'}"
    return failed(Rule.MONITOR_COMPONENT, what, where=path, expected=known or "no such name")
