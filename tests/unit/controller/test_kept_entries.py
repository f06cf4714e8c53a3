"""What is kept of an IMA list says the same of every file."""

from __future__ import annotations

from bench.attester import BootLog, ima_list

from hostward.attest.ima import Checkpoint, TemplateMemory, parse_ima
from hostward.controller.attestation.kept_entries import KeptEntries


def test_files_order_and_violations_are_kept() -> None:
    listed = ima_list(BootLog(), ["/usr/bin/a", "/usr/bin/b"])
    listed.add("/var/log/c", bytes(32), violation=True)
    whole = parse_ima(bytes(listed.data), Checkpoint(), TemplateMemory())
    kept = KeptEntries(whole)
    assert [(e.number, e.template, e.violation) for e in kept] == [(e.number, e.template, e.violation) for e in whole]
    assert kept[-1].violation
    assert [entry.template.path for entry in kept[1:3]] == ["/usr/bin/a", "/usr/bin/b"]
    assert len(kept) == 4
