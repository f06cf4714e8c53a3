"""Evidence of a software TPM through the verifier: what is true passes, what was changed is refused by its rule."""

from __future__ import annotations

import hashlib
import secrets
import signal
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.unit.attester.machine import Machine, evidence_of, judge, learnt

from hostward.attest.appraisal import Appraisal
from hostward.attest.credential import make_credential
from hostward.attest.ek_certificate import endorse
from hostward.attest.eventlog import EventType, parse_event_log
from hostward.attest.findings import Rule, Tier
from hostward.attest.public import check_attestation_key, check_endorsement_key, parse_public
from hostward.attester.host_logs import read_ima
from hostward.attester.tpm import Tpm
from hostward.errors import EvidenceError, TpmError
from hostward.lab.tpm import software_measure, start_tpm

PACKAGE = hashlib.sha256(b"package").digest()
OBJECT = hashlib.sha256(b"object").digest()
CONFIGURATION = hashlib.sha256(b"configuration").digest()


def against(result: Appraisal) -> set[Rule]:
    return {finding.rule for finding in result.findings if finding.tier is Tier.CONTRAINDICATED}


def said(result: Appraisal) -> str:
    return "; ".join(f"{each.rule.label}: {each.what}" for each in result.findings if each.tier > Tier.AFFIRMING)


def test_the_makers_chain_vouches_for_the_endorsement_key(machine: Machine) -> None:
    identity = machine.attester().identity()
    key = parse_public(identity.ek)
    check_endorsement_key(key)
    now = datetime.now(UTC)
    found = endorse(key, identity.ek_certificate, identity.intermediates, machine.roots, frozenset(), now)
    assert "swtpm-localca-rootca" in found.by
    assert found.model == "swtpm"
    with pytest.raises(EvidenceError, match="no trusted root"):
        endorse(key, identity.ek_certificate, (), machine.roots, frozenset(), now)


def test_the_attestation_key_is_activated_in_this_tpm_and_kept(machine: Machine) -> None:
    attester = machine.attester()
    identity = attester.identity()
    ek, ak = parse_public(identity.ek), parse_public(identity.ak)
    check_attestation_key(ak)
    secret = secrets.token_bytes(32)
    credential = make_credential(ek, ak.name, secret, secrets.token_bytes(ek.hash.size))
    assert attester.activate(credential.id_object, credential.encrypted_secret) == secret
    other = make_credential(ek, b"\x00\x0b" + bytes(32), secret, secrets.token_bytes(ek.hash.size))
    with pytest.raises(TpmError, match=r"TPM2_ActivateCredential: .*integrity"):
        attester.activate(other.id_object, other.encrypted_secret)
    attester.close()
    assert attester.identity() == identity
    assert machine.attester().identity() == identity
    for path in (machine.folder / "state").iterdir():
        assert path.stat().st_mode & 0o777 == 0o600


def test_true_evidence_passes_and_says_what_the_monitor_measured(machine: Machine) -> None:
    attester = machine.attester()
    assert attester.measure("package", PACKAGE)
    assert attester.measure("object:endpoint.bpf.o", OBJECT)
    assert not attester.measure("object:endpoint.bpf.o", OBJECT)
    assert attester.measure("config:agent", CONFIGURATION)
    evidence, trust = evidence_of(attester), machine.trust(attester)
    reference = learnt(evidence, trust)
    assert set(reference.paths) == {str(machine.files[0]), "hostward:object:endpoint.bpf.o", "hostward:package"}
    result = judge(evidence, replace(trust, reference=reference))
    assert result.tier is Tier.WARNING, said(result)
    assert {each.rule for each in result.findings if each.tier is Tier.WARNING} == {Rule.BOOT_SECURE, Rule.QUOTE_BOUND}
    assert result.monitor == {
        "package": PACKAGE,
        "object:endpoint.bpf.o": OBJECT,
        "config:agent": CONFIGURATION,
    }
    attester.measure("config:agent", hashlib.sha256(b"another").digest())
    again = judge(evidence_of(attester), replace(trust, reference=reference))
    assert not against(again), said(again)
    assert again.monitor["config:agent"] != CONFIGURATION


def test_an_object_that_is_not_known_speaks_against_the_host_until_it_boots_anew(machine: Machine) -> None:
    attester = machine.attester()
    attester.measure("package", PACKAGE)
    attester.measure("object:endpoint.bpf.o", OBJECT)
    trust = machine.trust(attester)
    trust = replace(trust, reference=learnt(evidence_of(attester), trust))
    attester.measure("object:endpoint.bpf.o", hashlib.sha256(b"tampered with").digest())
    result = judge(evidence_of(attester), trust)
    assert against(result) == {Rule.MONITOR_COMPONENT}
    finding = next(each for each in result.findings if each.tier is Tier.CONTRAINDICATED)
    assert f"sha256:{OBJECT.hex()}" in finding.expected
    attester.measure("object:endpoint.bpf.o", OBJECT)
    assert against(judge(evidence_of(attester), trust)) == {Rule.MONITOR_COMPONENT}


def test_a_monitor_that_measures_nothing_or_hides_it_is_refused(machine: Machine) -> None:
    attester = machine.attester()
    bare = evidence_of(attester)
    attester.measure("package", PACKAGE)
    trust = machine.trust(attester)
    evidence = evidence_of(attester)
    trust = replace(trust, reference=learnt(evidence, trust))
    assert against(judge(bare, trust)) == {Rule.MONITOR_COMPONENT}
    assert Rule.LOG_EXPLAINS in against(judge(replace(evidence, event_log=bare.event_log), trust))


def test_the_list_of_files_is_resumed_from_a_checkpoint(machine: Machine) -> None:
    attester = machine.attester()
    trust = machine.trust(attester)
    reference = learnt(evidence_of(attester), trust)
    trust = replace(trust, reference=reference)
    first = judge(evidence_of(attester), trust)
    assert first.checkpoint is not None
    attester.close()
    stranger = machine.folder / "stranger"
    stranger.write_bytes(b"not known")
    assert machine.boot is not None
    software_measure(machine.tcti, machine.boot, [stranger])
    resumed = evidence_of(attester, first.checkpoint.offset)
    assert 0 < len(resumed.ima) < len(evidence_of(attester).ima)
    result = judge(resumed, replace(trust, checkpoint=first.checkpoint, last=first.epoch))
    assert against(result) == {Rule.IMA_FILE}
    assert [each.template.path for each in result.entries] == [str(stranger)]
    assert attester.collect(b"n" * 32, 1 << 20).ima == b""


def test_a_boot_is_an_epoch_with_a_log_of_its_own(machine: Machine) -> None:
    attester = machine.attester()
    attester.measure("package", PACKAGE)
    trust = machine.trust(attester)
    old = evidence_of(attester)
    before = judge(old, trust)
    machine.stop()
    machine.start()
    attester = machine.attester()
    assert machine.trust(attester).enrolled_ak == trust.enrolled_ak
    assert attester.measure("package", PACKAGE), "nothing is measured in this boot yet"
    assert len(list((machine.folder / "state").glob("monitor-*"))) == 1
    after = judge(evidence_of(attester), replace(trust, last=before.epoch))
    assert before.epoch is not None
    assert after.epoch is not None
    assert after.epoch.clock.reset_count == before.epoch.clock.reset_count + 1
    assert Rule.QUOTE_EPOCH in against(judge(old, replace(trust, last=after.epoch)))


def test_a_tpm_that_was_restarted_behind_the_monitors_back_is_noticed(machine: Machine) -> None:
    attester = machine.attester()
    attester.measure("package", PACKAGE)
    assert machine.process is not None
    machine.process.end()
    with pytest.raises(TpmError, match="TPM2_"):
        attester.collect(b"n" * 32, 0)
    machine.process = start_tpm(machine.folder / "tpm", machine.port, None)
    result = judge(evidence_of(attester), machine.trust(attester))
    assert Rule.LOG_EXPLAINS in against(result)


def test_a_tpm_that_loses_its_power_again_and_again_quotes_all_the_same(machine: Machine) -> None:
    for _ in range(8):  # a protected key would count each loss as a guess, and swtpm locks out after three
        assert machine.attester().collect(bytes(32), 0).quote
        assert machine.process is not None
        machine.process.kill()
        machine.start()


def test_another_tpms_key_is_made_anew_and_refused_as_an_impostor(machines: Callable[[str], Machine]) -> None:
    one, other = machines("one"), machines("other")
    attester = one.attester()
    identity, trust = attester.identity(), one.trust(attester)
    attester.close()
    (other.folder / "state").mkdir(mode=0o700)
    kept = one.folder / "state" / "attestation-key"
    (other.folder / "state" / "attestation-key").write_bytes(kept.read_bytes())
    impostor = other.attester()
    assert impostor.identity().ak != identity.ak
    assert impostor.identity().ek != identity.ek
    assert Rule.AK_IMPOSTOR in against(judge(evidence_of(impostor), trust))


@pytest.mark.parametrize("damage", ["cut", "private area", "public area", "sizes"])
def test_a_damaged_key_is_made_anew(machine: Machine, damage: str) -> None:
    attester = machine.attester()
    before = attester.identity()
    attester.close()
    path = machine.folder / "state" / "attestation-key"
    content = bytearray(path.read_bytes())
    if damage == "cut":
        del content[20:]
    else:
        content[{"private area": -1, "public area": 40, "sizes": 39}[damage]] ^= 1
    path.write_bytes(content)
    assert attester.identity().ak != before.ak
    assert attester.identity().ek == before.ek


_KILLED = """
import os, signal, sys
from hostward.attester.tpm import Tpm
from hostward.attester.endorsement import FORMS
tpm = Tpm(sys.argv[1])
ek = tpm.create_endorsement_key(FORMS[0].area())
with tpm._use_of(ek):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_killed_processes_left_in_the_tpm_is_flushed(machine: Machine) -> None:
    for _ in range(4):  # there is room for three objects and three sessions
        done = subprocess.run(
            [sys.executable, "-c", _KILLED, machine.tcti], capture_output=True, timeout=60, check=False
        )
        assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    attester = machine.attester()
    for _ in range(4):
        attester.collect(b"n" * 32, 0)
        attester.close()
    tpm = Tpm(machine.tcti)
    assert not tpm.handles(0x80000000)
    assert not tpm.handles(0x02000000)
    tpm.close()


def test_nothing_is_left_in_the_tpm_after_errors(machine: Machine) -> None:
    attester = machine.attester()
    identity = attester.identity()
    ek = parse_public(identity.ek)
    bad = make_credential(ek, b"\x00\x0b" + bytes(32), b"s", secrets.token_bytes(ek.hash.size))
    for _ in range(5):
        with pytest.raises(TpmError):
            attester.activate(bad.id_object, bad.encrypted_secret)
    assert attester.identity() == identity


def test_logs_that_cannot_serve_are_named(machine: Machine, tmp_path: Path) -> None:
    with pytest.raises(TpmError, match=r"there is no boot log[\s\S]*securityfs"):
        machine.attester(boot_log=tmp_path / "none").collect(b"n" * 32, 0)
    machine.attesters.pop().close()
    with pytest.raises(TpmError, match="there is no IMA list"):
        machine.attester(ima_log=tmp_path / "none").collect(b"n" * 32, 0)
    machine.attesters.pop().close()
    legacy = tmp_path / "legacy"
    legacy.write_bytes(struct.pack("<II20sI", 4, EventType.EV_SEPARATOR, hashlib.sha1(bytes(4)).digest(), 4) + bytes(4))
    with pytest.raises(TpmError, match="SHA-1 alone"):
        machine.attester(boot_log=legacy).collect(b"n" * 32, 0)


def test_what_follows_the_log_in_its_memory_is_left_out(machine: Machine) -> None:
    assert machine.boot is not None
    with machine.boot.boot_log.open("ab") as log:
        log.write(b"\xff" * 100)
    attester = machine.attester()
    attester.measure("package", PACKAGE)
    log = parse_event_log(attester.collect(b"n" * 32, 0).event_log)
    assert log.padding_bytes == 0
    assert log.events[-1].data == f"hostward:package=sha256:{PACKAGE.hex()}".encode()


def test_files_without_a_size_are_read_from_an_offset() -> None:
    path = Path("/proc/filesystems")
    whole = read_ima(path, 0)
    assert path.stat().st_size == 0
    assert read_ima(path, 10) == whole[10:] != b""
    assert read_ima(path, 1 << 20) == b""


def test_without_the_library_its_extra_is_named() -> None:
    script = "import sys; sys.modules['tpm2_pytss'] = None\nfrom hostward.attester.tpm import Tpm\nTpm('swtpm')"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert "TpmError" in done.stderr
    assert "hostward[tpm]" in done.stderr


def test_a_tpm_that_is_not_there_is_named() -> None:
    with pytest.raises(TpmError, match="connecting to the TPM"):
        Tpm("swtpm:host=127.0.0.1,port=1")
