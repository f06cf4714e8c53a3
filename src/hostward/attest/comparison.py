"""Boot and files beside the reference values: what is known, what was replaced, what is not known, and where it differs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from hostward.attest.algorithms import Hash
from hostward.attest.boot import BootFacts
from hostward.attest.components import SETTINGS, Component
from hostward.attest.eventlog.describe import describe_event
from hostward.attest.findings import Finding, Rule, failed, passed, warned
from hostward.attest.ima import ImaEntry
from hostward.attest.reference import ALWAYS, Alternative, Reference, Standing

_PASSING = (Standing.CURRENT, Standing.SUPERSEDED)


def compare_boot(facts: BootFacts, reference: Reference, now: datetime) -> list[Finding]:
    """Every part that was measured or should have been."""
    findings: list[Finding] = []
    for part in Component:
        if part is Component.MONITOR:
            continue  # it has rules of its own: monitor.py
        alternatives = reference.parts.get(part, [])
        if part in facts.parts or alternatives:
            findings.append(_compare_part(facts, part, alternatives, now))
    return findings


def _compare_part(facts: BootFacts, part: Component, alternatives: Sequence[Alternative], now: datetime) -> Finding:
    measured = facts.digests(part)
    bank = facts.bank
    standing = None
    label = ""
    for alternative in alternatives:
        if alternative.digests.get(bank.name) != measured:
            continue
        standing, label = alternative.window.standing(now), alternative.label
        if standing is Standing.CURRENT:
            return passed(Rule.BOOT_COMPONENT, f"{part}: {label or 'known'}, {len(measured)} events")
    if standing is Standing.SUPERSEDED:
        return warned(Rule.BOOT_SUPERSEDED, f"{part}: {label or 'this state'} was replaced")
    if standing is not None:
        what, where, expected = f"{part}: {label or 'this state'} is {standing.value}", "", "a state that is current"
    else:
        what, where, expected = _difference(facts, part, alternatives, bank, measured)
    if part in SETTINGS:
        return warned(Rule.BOOT_SETTING, what, where=where, expected=expected)
    return failed(Rule.BOOT_COMPONENT, what, where=where, expected=expected)


def _difference(
    facts: BootFacts, part: Component, alternatives: Sequence[Alternative], bank: Hash, measured: tuple[bytes, ...]
) -> tuple[str, str, str]:
    """The first event that differs from the alternative that agrees longest."""
    events = facts.parts.get(part, ())
    known = [(each.digests[bank.name], each.label) for each in alternatives if bank.name in each.digests]
    if not known:
        where = str(events[0]) if events else ""
        return f"{part}: the reference values say nothing of it in the {bank.name} bank", where, ""
    agree, digests, label = max(
        ((_common(digests, measured), digests, label) for digests, label in known), key=lambda each: each[0]
    )
    name = f" ({label})" if label else ""
    if agree == len(measured):
        return f"{part}: it ends after {agree} events", "", f"{digests[agree].hex()} as event {agree + 1}{name}"
    event = events[agree]
    shown = describe_event(event)["data"]
    expected = f"{digests[agree].hex()}{name}" if agree < len(digests) else f"nothing after {agree} events{name}"
    return f"{part}: {measured[agree].hex()} is not known: {str(shown)[:200]}", str(event), expected


def _common(one: Sequence[bytes], other: Sequence[bytes]) -> int:
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def compare_files(entries: Sequence[ImaEntry], reference: Reference, now: datetime) -> list[Finding]:
    """Every file that was measured; entry 0 is the boot's aggregate, which has a rule of its own."""
    findings: list[Finding] = []
    known = 0
    files = reference.files
    for entry in entries:
        template = entry[3]  # by number: this loop is most of an appraisal
        window = files.get(template.file)
        if window is ALWAYS and not entry[4]:
            known += 1
            continue
        if window is not None and not entry.violation:
            standing = window.standing(now)
            if standing in _PASSING:
                known += 1
            if standing is Standing.SUPERSEDED:
                findings.append(warned(Rule.IMA_SUPERSEDED, f"{template.path} was replaced", where=str(entry)))
            elif standing is not Standing.CURRENT:
                findings.append(failed(Rule.IMA_FILE, f"{template.path} is {standing.value}", where=str(entry)))
            continue
        if template.path == "boot_aggregate":
            if entry.number:
                findings.append(failed(Rule.IMA_RESTART, "another kernel was started by kexec", where=str(entry)))
            continue
        findings.append(_unknown(entry, reference))
    findings.append(passed(Rule.IMA_FILE, f"{known} of {len(entries)} IMA entries are known files"))
    return findings


def _unknown(entry: ImaEntry, reference: Reference) -> Finding:
    template = entry.template
    expected = " or ".join(reference.paths.get(template.path, ())[:4])
    why = reference.tolerates(template.path)
    if entry.violation:
        what = f"{template.path} was written while it was read"
        # A file that must be one of those known cannot be vouched for; of others nothing was promised.
        if expected:
            return failed(Rule.IMA_VIOLATION, what, where=str(entry), expected=expected)
        return warned(Rule.IMA_VIOLATION, what, where=str(entry))
    if why:
        return warned(Rule.IMA_TOLERATED, f"{template.path}: {why}", where=str(entry))
    what = f"{template.algorithm}:{template.digest.hex()} of {template.path} is not known"
    return failed(Rule.IMA_FILE, what, where=str(entry), expected=expected or "no such file")
