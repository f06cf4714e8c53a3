"""What the monitor measures is logged before it is extended; a crash, another process or a stranger in the PCR is told."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from tests.unit.attester.machine import Machine, evidence_of, judge

from hostward.attester.monitor_log import MonitorLog
from hostward.attester.tpm import Tpm
from hostward.errors import TpmError, UsageError

PACKAGE = hashlib.sha256(b"package").digest()
OBJECT = hashlib.sha256(b"object").digest()


def log_file(machine: Machine) -> Path:
    return next((machine.folder / "state").glob("monitor-*"))


def test_a_crash_between_log_and_extension_is_made_good(machine: Machine) -> None:
    attester = machine.attester()
    attester.measure("package", PACKAGE)
    attester.close()
    with log_file(machine).open("ab") as log:
        log.write(f"hostward:object:x=sha256:{OBJECT.hex()}\n".encode())
    assert not attester.measure("object:x", OBJECT)
    trust = machine.trust(attester)
    result = judge(evidence_of(attester), trust)
    assert result.monitor == {"package": PACKAGE, "object:x": OBJECT}
    attester.close()
    with log_file(machine).open("ab") as log:
        log.write(b"hostward:object:y=sha2")  # torn: neither whole nor extended
    assert attester.measure("object:y", OBJECT)
    attester.close()
    assert not attester.measure("object:y", OBJECT), "nothing of the torn line is left"
    assert judge(evidence_of(attester), trust).monitor == {"package": PACKAGE, "object:x": OBJECT, "object:y": OBJECT}


def test_somebody_else_in_the_monitors_pcr_is_an_error(machine: Machine) -> None:
    attester = machine.attester()
    attester.measure("package", PACKAGE)
    attester.close()
    tpm = Tpm(machine.tcti)
    tpm.extend(15, {bank: bank.digest(b"anything") for bank in tpm.banks(15)})
    tpm.close()
    with pytest.raises(TpmError, match="somebody else extended it"):
        attester.measure("object:x", OBJECT)


def test_two_processes_do_not_measure_at_once(machine: Machine) -> None:
    attester = machine.attester()
    attester.measure("package", PACKAGE)
    count = int(log_file(machine).stem.rpartition("-")[2])
    with pytest.raises(TpmError, match="another process"):
        MonitorLog(machine.folder / "state", count)


@pytest.mark.parametrize("name", ["", "object:", "other", "object:a=b", "object:\n", "config:" + "x" * 200])
def test_names_and_digests_are_checked(machine: Machine, name: str) -> None:
    with pytest.raises(UsageError):
        machine.attester().measure(name, PACKAGE)
    with pytest.raises(UsageError):
        machine.attester().measure("package", b"short")
    with pytest.raises(UsageError):
        machine.attester().collect(bytes(65), 0)
