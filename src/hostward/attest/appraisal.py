"""The appraisal of one host's evidence: from the signature inwards, each step on what the step before proved."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TypeVar

from hostward.attest.binding import Binding
from hostward.attest.boot import BootFacts
from hostward.attest.certificate import Certificate
from hostward.attest.comparison import compare_boot, compare_files
from hostward.attest.ek_certificate import Endorsement, ek_hash
from hostward.attest.epoch import Epoch, advance
from hostward.attest.eventlog import EventLog, replay
from hostward.attest.findings import WAIVABLE, Aspect, Finding, Rule, Tier, bounded, failed, passed, warned
from hostward.attest.ima import PCR as IMA_PCR
from hostward.attest.ima import Checkpoint, ImaEntry, boot_aggregate, parse_ima, running_values
from hostward.attest.ima_ascii import binary_form, looks_like_text
from hostward.attest.memory import VerifierMemory
from hostward.attest.monitor import compare_monitor, read_monitor
from hostward.attest.pcrs import RESETTABLE, appraised_bank, explained_prefix
from hostward.attest.public import TpmPublic, check_attestation_key, check_endorsement_key
from hostward.attest.quote import Quote, parse_quote
from hostward.attest.reference import Reference
from hostward.attest.signature import parse_signature, verify_signature
from hostward.errors import EvidenceError

Answer = TypeVar("Answer")
# Firmware, its settings, what it boots, Secure Boot, and IMA: always quoted, and whatever else the log extends.
_ALWAYS_QUOTED = frozenset({*range(8), IMA_PCR})


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a host sent, as bytes. ``binding`` is None for a quote over the nonce alone."""

    quote: bytes
    signature: bytes
    ak: bytes
    event_log: bytes
    ima: bytes  # what follows the checkpoint; binary, or text from the start
    ek: bytes = b""
    ek_certificate: bytes | None = None
    intermediates: tuple[bytes, ...] = ()
    binding: Binding | None = None


@dataclass(frozen=True, slots=True)
class Trust:
    """What the verifier knew before: none of it comes from the host."""

    roots: Sequence[Certificate] = ()
    inventory: frozenset[str] = frozenset()
    reference: Reference | None = None
    enrolled_ak: bytes | None = None  # name of the key that was activated in this host's TPM
    enrolled_ek: str = ""  # hash of the EK that it was activated by; empty if that was not recorded
    last: Epoch | None = None
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    without: frozenset[str] = frozenset()  # names of WAIVABLE


@dataclass(slots=True)
class Appraisal:
    """What came out.

    ``epoch`` is there only if the quote proves who made it and when, ``checkpoint`` only if nothing speaks against the
    host: what lies before a checkpoint is not judged again.
    """

    findings: list[Finding] = field(default_factory=list)
    endorsement: Endorsement | None = None
    quote: Quote | None = None
    boot: BootFacts | None = None
    entries: Sequence[ImaEntry] = ()  # those that the quote covers
    monitor: Mapping[str, bytes] = field(default_factory=dict)  # the last digest of each name in PCR 15
    epoch: Epoch | None = None
    checkpoint: Checkpoint | None = None
    policy: str = ""  # digest of the reference values that it was judged by

    @property
    def tier(self) -> Tier:
        """The worst of what was found; without a finding nothing was proven."""
        return max((finding.tier for finding in self.findings), default=Tier.CONTRAINDICATED)


def appraise(evidence: Evidence, trust: Trust, nonce: bytes, now: datetime, memory: VerifierMemory) -> Appraisal:
    """Judge evidence for this nonce at this time. Never raises for what a host sent: every refusal is a finding."""
    result = Appraisal(policy=f"sha256:{trust.reference.digest}" if trust.reference else "none")
    _Steps(evidence, trust, nonce, now, memory, result).run()
    waived = frozenset(rule for name in trust.without for rule in WAIVABLE[name])
    result.findings = [
        replace(each, tier=Tier.WARNING) if each.rule in waived and each.tier is Tier.CONTRAINDICATED else each
        for each in bounded(result.findings)
    ]
    against = [each for each in result.findings if each.tier is Tier.CONTRAINDICATED]
    if any(each.rule.aspect is Aspect.IDENTITY for each in against):
        result.epoch = None
    if against:
        result.checkpoint = None
    return result


class _Steps:
    """The order of an appraisal. A step whose ground is missing is not taken: its rule would speak of nothing."""

    def __init__(
        self, evidence: Evidence, trust: Trust, nonce: bytes, now: datetime, memory: VerifierMemory, result: Appraisal
    ) -> None:
        self._evidence = evidence
        self._trust = trust
        self._nonce = nonce
        self._now = now
        self._memory = memory
        self._result = result

    def run(self) -> None:
        self._try(Rule.EK_ENDORSED, self._endorsement)
        key = self._try(Rule.AK_ATTRIBUTES, self._attestation_key)
        quote = key and self._try(Rule.QUOTE_GENUINE, lambda: self._genuine_quote(key))
        if not key or not quote:
            return
        self._result.quote = quote
        self._enrolment(key)
        self._try(Rule.QUOTE_FRESH, lambda: self._freshness(quote))
        self._try(Rule.QUOTE_EPOCH, lambda: self._epoch(key, quote))
        log = self._try(Rule.LOG_READABLE, lambda: self._memory.event_log(self._evidence.event_log))
        boot = log and self._try(Rule.QUOTE_SELECTION, lambda: self._boot(quote, log))
        entries = self._try(Rule.LOG_READABLE, self._ima_entries)
        values = log and boot and self._try(Rule.QUOTE_SELECTION, lambda: self._values(quote, log, boot))
        if not log or not boot or not values or entries is None:
            return
        covered = self._try(Rule.LOG_EXPLAINS, lambda: self._explained(quote, log, values, entries))
        if covered is None:
            return
        self._result.boot, self._result.entries = boot, covered
        self._judge_boot(boot)
        self._judge_monitor(boot)
        self._judge_files(values, covered)

    def _try(self, rule: Rule, step: Callable[[], Answer]) -> Answer | None:
        try:
            return step()
        except EvidenceError as error:
            self._say(failed(rule, error.what))
            return None

    def _say(self, *findings: Finding) -> None:
        self._result.findings += findings

    def _endorsement(self) -> None:
        evidence, trust, memory = self._evidence, self._trust, self._memory
        if not evidence.ek:
            raise EvidenceError("no endorsement key came with the evidence")
        key = memory.public(evidence.ek)
        name = ek_hash(key)
        if trust.enrolled_ek and name != trust.enrolled_ek:
            self._say(
                failed(Rule.AK_IMPOSTOR, f"the endorsement key is {name}: another TPM", expected=trust.enrolled_ek)
            )
            return
        try:
            check_endorsement_key(key)
        except EvidenceError as error:
            self._say(failed(Rule.EK_ATTRIBUTES, error.what))
            return
        if name in trust.inventory:
            found = Endorsement(name, "inventory")
        else:
            found = memory.endorsement(key, (evidence.ek_certificate, evidence.intermediates), trust.roots, self._now)
        self._result.endorsement = found
        self._say(passed(Rule.EK_ENDORSED, f"by {found.by}; {found.manufacturer or 'listed'} {found.model}".rstrip()))

    def _attestation_key(self) -> TpmPublic:
        key = self._memory.public(self._evidence.ak)
        check_attestation_key(key)
        return key

    def _genuine_quote(self, key: TpmPublic) -> Quote:
        quote = parse_quote(self._evidence.quote)
        verify_signature(key, parse_signature(self._evidence.signature), self._evidence.quote)
        self._say(passed(Rule.QUOTE_GENUINE, f"signed by the attestation key {key.name.hex()}"))
        return quote

    def _enrolment(self, key: TpmPublic) -> None:
        enrolled = self._trust.enrolled_ak
        if enrolled is None:
            self._say(failed(Rule.AK_ENROLLED, "no activation of this attestation key is on record"))
        elif enrolled != key.name:
            what = f"the attestation key is {key.name.hex()}: another TPM, or a key that was never activated"
            self._say(failed(Rule.AK_IMPOSTOR, what, expected=enrolled.hex()))
        else:
            self._say(passed(Rule.AK_ENROLLED, "activated in this host's TPM"))

    def _freshness(self, quote: Quote) -> None:
        binding = self._evidence.binding
        if binding is None:
            self._say(warned(Rule.QUOTE_BOUND, "the quote is over the nonce alone, and bound to no key of a channel"))
        expected = binding.qualifying_data(self._nonce) if binding else self._nonce
        if quote.qualifying_data != expected:
            what = f"qualifying data is {quote.qualifying_data.hex() or 'empty'}"
            self._say(failed(Rule.QUOTE_FRESH, what, expected=expected.hex()))
        else:
            self._say(passed(Rule.QUOTE_FRESH, "over this nonce, and what was bound to it"))

    def _epoch(self, key: TpmPublic, quote: Quote) -> None:
        binding = self._evidence.binding or Binding()
        epoch = Epoch(key.name, quote.clock, binding.boot_id, binding.revision)
        anew = advance(self._trust.last, epoch)
        if anew and self._trust.checkpoint.entries:
            raise EvidenceError("this is another boot, and its IMA list was not sent from the start")
        self._result.epoch = epoch
        text = f"boot {quote.clock.reset_count}, restart {quote.clock.restart_count}"
        self._say(passed(Rule.QUOTE_EPOCH, f"{text}: {'a new one' if anew else 'seen before'}"))

    def _boot(self, quote: Quote, log: EventLog) -> BootFacts:
        extended = {event.pcr for event in log.events if event.extends}
        needed = _ALWAYS_QUOTED - {IMA_PCR} if "ima" in self._trust.without else _ALWAYS_QUOTED
        bank = appraised_bank(quote.selection, needed | extended - RESETTABLE)
        return self._memory.boot(self._evidence.event_log, bank)

    def _values(self, quote: Quote, log: EventLog, boot: BootFacts) -> dict[str, Mapping[int, bytes]]:
        """By bank: every bank that is quoted has to be in the log, whole."""
        banks = [each.bank for each in quote.selection]
        return {bank.name: boot.values if bank is boot.bank else replay(log, bank) for bank in banks}

    def _ima_entries(self) -> list[ImaEntry]:
        start, reference = self._trust.checkpoint, self._trust.reference
        if start.entries and start.reference != (reference.digest if reference else ""):
            raise EvidenceError("the reference values changed: the IMA list has to be sent from the start")
        data = self._evidence.ima
        if not start.entries and looks_like_text(data):
            data = binary_form(data)
        return parse_ima(data, start, self._memory.templates)

    def _explained(
        self, quote: Quote, log: EventLog, values: Mapping[str, Mapping[int, bytes]], entries: Sequence[ImaEntry]
    ) -> Sequence[ImaEntry]:
        start, reference = self._trust.checkpoint, self._trust.reference
        banks = [each.bank for each in quote.selection if IMA_PCR in each.pcrs]
        running = {bank.name: running_values(entries, start.value(bank), bank) for bank in banks}
        signed_by = parse_signature(self._evidence.signature).hash
        count = explained_prefix(quote.digest, signed_by, quote.selection, values, running)
        if count is None:
            raise EvidenceError(
                f"the event log and no prefix of the {len(entries)} IMA entries give the quoted digest "
                f"{quote.digest.hex()} over {' and '.join(map(str, quote.selection))}"
            )
        covered = entries[:count]
        offset = covered[-1].end if covered else start.offset
        at = {bank: of[count] for bank, of in running.items()}
        judged_by = reference.digest if reference else ""
        self._result.checkpoint = Checkpoint(offset, start.entries + count, at, judged_by)
        events = sum(event.extends for event in log.events)
        self._say(passed(Rule.LOG_EXPLAINS, f"{events} boot events and {count} of {len(entries)} IMA entries"))
        return covered

    def _judge_boot(self, boot: BootFacts) -> None:
        self._say(*boot.findings)
        if boot.secure_boot is None:
            self._say(failed(Rule.BOOT_SECURE, "the boot log does not prove whether Secure Boot was on"))
        elif not boot.secure_boot:
            self._say(failed(Rule.BOOT_SECURE, "Secure Boot was off"))
        else:
            self._say(passed(Rule.BOOT_SECURE, "Secure Boot was on"))
        reference = self._trust.reference
        if reference is None:
            self._say(failed(Rule.REFERENCE, "there are no reference values: nothing that was measured is known"))
        else:
            self._say(*compare_boot(boot, reference, self._now))

    def _judge_monitor(self, boot: BootFacts) -> None:
        measured, findings = read_monitor(boot)
        self._result.monitor = {each.name: each.digest for each in measured}
        self._say(*findings)
        reference = self._trust.reference
        if reference is not None:
            self._say(*compare_monitor(measured, reference, self._now))

    def _judge_files(self, values: Mapping[str, Mapping[int, bytes]], entries: Sequence[ImaEntry]) -> None:
        if not self._trust.checkpoint.entries:
            self._try(Rule.IMA_AGGREGATE, lambda: self._aggregate(values, entries))
        reference = self._trust.reference
        if reference is not None:
            self._say(*compare_files(entries, reference, self._now))

    def _aggregate(self, values: Mapping[str, Mapping[int, bytes]], entries: Sequence[ImaEntry]) -> None:
        if not entries:
            raise EvidenceError("the quote covers no entry of the IMA list")
        boot_aggregate(entries[0], values)
        self._say(passed(Rule.IMA_AGGREGATE, "the IMA list is of this boot"))
