"""Every host's evidence: who may enrol which TPM, what a judgement brings about, and what is told of it.

Owns the standings. It must not talk to hosts (``desk``) nor to gates (``grants``), nor know what a rule means
(``hostward.attest``).
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from hostward.attest.appraisal import Appraisal, Evidence, Trust, appraise
from hostward.attest.epoch import advance
from hostward.attest.findings import Tier
from hostward.attest.ima import Checkpoint
from hostward.attest.memory import VerifierMemory
from hostward.controller.attestation.brake import Brake, is_mismatch
from hostward.controller.attestation.grants import Granter, Wanted
from hostward.controller.attestation.kept_entries import KeptEntries
from hostward.controller.attestation.settings import AttestationMode, AttestationSettings
from hostward.controller.attestation.standing import Standing, record_of, standing_of
from hostward.controller.attestation.trust_files import TrustFolder
from hostward.controller.ledger import Clock, Ledger
from hostward.errors import EnrolmentError
from hostward.export.webhooks import Webhooks
from hostward.gate.messages import Mode
from hostward.store.records import AttestationRecord, HostState

log = logging.getLogger(__name__)

# Moves a host to a state, and why.
Move = Callable[[str, HostState, str], Awaitable[None]]
# So many hosts at once may send evidence of the greatest length.
_MOST_LARGE = 2


class Attestation:
    """Call from the event loop's thread; judging itself happens in another, one at a time."""

    def __init__(
        self, settings: AttestationSettings, trust: TrustFolder, ledger: Ledger, clock: Clock, move: Move
    ) -> None:
        self.settings = settings
        self.trust = trust
        self._ledger, self._clock, self._move = ledger, clock, move
        self._memory = VerifierMemory()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="appraise")
        self._standings: dict[str, Standing] = {}
        self._hosts_of = {record.ek: host for host, record in ledger.state.attestations.items()}
        self.large = asyncio.Semaphore(_MOST_LARGE)
        self.brake = Brake(settings.brake_share)
        self.granter: Granter | None = None
        self.webhooks = Webhooks(settings.webhooks)
        self.judged = self.refused = 0
        self.generation = 0  # of what is trusted: evidence that was asked for before is not judged by it

    # -- what is known

    def standing(self, host: str) -> Standing:
        """Of an enrolled host; what outlived the last run of the controller, where there is nothing newer."""
        if host not in self._standings:
            self._standings[host] = standing_of(host, self._ledger.state.attestations.get(host))
        return self._standings[host]

    async def forget(self, host: str) -> None:
        """It joined by a token of its own: the operator meant a new beginning, with whatever TPM it has now."""
        await self._ledger.put_attestation(host, None)
        self._hosts_of = {ek: owner for ek, owner in self._hosts_of.items() if owner != host}
        known = self._standings.pop(host, None)
        if known is not None and known.record is not None:
            # Gates count its boots on.
            self._standings[host] = replace(standing_of(host, None), boots_before=known.record.boots)

    def believe(self, trust: TrustFolder) -> None:
        """Judge by this from now on, everything from the start."""
        self.trust = trust
        self.generation += 1
        for standing in self._standings.values():
            standing.checkpoint = Checkpoint()

    # -- enrolment

    def check_tpm(self, host: str, ek: str) -> None:
        """Whether a host may come with this endorsement key. Raises EnrolmentError."""
        known = self._ledger.state.attestations.get(host)
        if known is not None and known.ek != ek:
            raise EnrolmentError(
                f"its TPM is {ek[:16]}…, and {host} was enrolled with {known.ek[:16]}…",
                subject=host,
                hint=f"if its TPM was replaced, let it join again: hostward host token {host}",
            )
        owner = self._hosts_of.get(ek, host)
        if owner != host:
            raise EnrolmentError(f"its TPM is host {owner}'s", subject=host)

    def refuse(self, host: str, why: str) -> None:
        """A connection was refused. What the host earned stands until it ends: anybody may fail in its name."""
        standing = self.standing(host)
        standing.refused = why
        self.refused += 1

    # -- judgement

    async def judge(self, host: str, evidence: Evidence, nonce: bytes, activated: bytes) -> Standing:
        """Judge evidence, remember what it proved, and bring about what follows.

        ``activated`` is the name of the attestation key that was activated in the host's TPM, now or earlier.
        """
        standing = self.standing(host)
        record = standing.record
        trust = Trust(
            roots=self.trust.roots,
            inventory=self.trust.inventory,
            reference=self.trust.reference,
            enrolled_ak=activated,
            enrolled_ek=record.ek if record else "",
            last=standing.last,
            checkpoint=standing.checkpoint,
            without=self.settings.without,
        )
        generation = self.generation
        now = self._clock()
        loop = asyncio.get_running_loop()
        result, standing.took_s = await loop.run_in_executor(
            self._thread, _timed, lambda: appraise(evidence, trust, nonce, now, self._memory)
        )
        self.judged += 1
        result.entries = KeptEntries(result.entries)
        standing.at, standing.at_s = now, loop.time()
        standing.appraisal, standing.nonce, standing.refused = result, nonce, ""
        # Not the evidence itself: of ten thousand hosts it would fill the memory.
        standing.quote = hashlib.sha256(evidence.quote).digest()
        if not trust.checkpoint.entries:
            standing.first = result
        await self._remember(standing, result, evidence)
        if generation != self.generation:
            standing.checkpoint = Checkpoint()
        await self._decide(standing, result)
        return standing

    async def _remember(self, standing: Standing, result: Appraisal, evidence: Evidence) -> None:
        """What the quote proved of who it is and when, durably where a later run of the controller needs it."""
        epoch = result.epoch
        anew = epoch is not None and advance(standing.last, epoch)
        standing.checkpoint = result.checkpoint or Checkpoint()
        if epoch is None or result.endorsement is None:
            return
        standing.last = epoch
        if standing.record is None or anew:
            boots = (standing.record.boots if standing.record else standing.boots_before) + 1
            await self._write(standing, record_of(result.endorsement.ek, epoch, boots))
        binding = evidence.binding
        if binding is not None:
            standing.pulse_key = binding.pulse_key
            standing.programs, standing.policies = binding.programs, binding.policies

    async def _write(self, standing: Standing, record: AttestationRecord) -> None:
        # Claimed before it is written: two hosts that show one TPM at the same moment are not both believed.
        self.check_tpm(standing.host, record.ek)
        self._hosts_of[record.ek] = standing.host
        # Before anything is done with it: a boot that was seen is never forgotten again.
        await self._ledger.put_attestation(standing.host, record)
        standing.record = record

    async def _decide(self, standing: Standing, result: Appraisal) -> None:
        host, was_good, was_braked, first = standing.host, standing.good, standing.braked, not standing.told
        standing.braked = False
        standing.good = result.tier is not Tier.CONTRAINDICATED
        now_s = asyncio.get_running_loop().time()
        if standing.good:
            self.brake.ended(host)
        else:
            self.refused += 1
            mismatch = is_mismatch(result.findings)
            if mismatch and was_good and not self.brake.evicts(host, self._hosts(), now_s):
                standing.good = standing.braked = True
                log.error("host %s mismatches, and too many do: it keeps its network until somebody looks", host)
            else:
                for text in standing.against:
                    log.warning("evidence of host %s: %s", host, text)
        self.tell_gates(standing)
        if first or (was_good, was_braked) != (standing.good, standing.braked):
            event = "braked" if standing.braked else "trusted" if standing.good else "untrusted"
            audit = self.settings.mode is AttestationMode.AUDIT
            self.webhooks.tell(event, host, self._clock(), against=list(standing.against), audit=audit)
            standing.told = True
        if self.settings.mode is AttestationMode.AUDIT:
            return
        known = self._ledger.state.hosts.get(host)
        if known is None:
            return
        if not standing.good:
            standing.serials = ()
            if known.state is HostState.ADMITTED:
                await self._move(host, HostState.UNTRUSTED, "; ".join(standing.against)[:400])
        elif known.state is HostState.UNTRUSTED:
            await self._move(host, HostState.ADMITTED, "its evidence is good")

    def tell_gates(self, standing: Standing) -> None:
        """What the gates are to hold of a host from now on."""
        record = standing.record
        known = self._ledger.state.hosts.get(standing.host)
        if self.granter is None or record is None or known is None:
            return
        host = bytes.fromhex(record.ek)
        state = known.state
        if state is HostState.EVICTED:
            wanted = Wanted(Mode.CUT, host, record.boots)
        elif state is HostState.QUARANTINED or not standing.good or not standing.pulse_key:
            wanted = Wanted(Mode.QUARANTINE, host, record.boots)
        else:
            wanted = Wanted(
                Mode.OPEN,
                host,
                record.boots,
                standing.pulse_key,
                _digest_of(standing),
                standing.quote,
                standing.at_s + self.settings.evidence_life_s,
            )
        self.granter.want(standing.host, wanted)

    async def outrun(self, host: str, boot: int) -> None:
        """A gate has seen a later boot than is written here: the database was copied back. Count on from there."""
        standing = self.standing(host)
        if standing.record is not None and standing.record.boots <= boot:
            log.warning("host %s: a gate has seen boot %d, and %d is on record", host, boot, standing.record.boots)
            await self._write(standing, replace(standing.record, boots=boot + 1))
            self.tell_gates(standing)

    def _hosts(self) -> int:
        return len(self._ledger.state.hosts)

    def close(self) -> None:
        """Let go of the thread."""
        self._thread.shutdown()


def _timed(work: Callable[[], Appraisal]) -> tuple[Appraisal, float]:
    """The result, and the seconds of the processor that it took."""
    start_s = time.thread_time()
    return work(), time.thread_time() - start_s


def _digest_of(standing: Standing) -> bytes:
    """Over what the host enforces, for the grant's record."""
    digest = hashlib.sha256()
    for of in (standing.programs, standing.policies):
        for name in sorted(of):
            digest.update(name.encode() + b"\0" + of[name])
    return digest.digest()
