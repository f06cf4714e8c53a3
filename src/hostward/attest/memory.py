"""What a verifier remembers between appraisals, so that a host that was seen costs little. All of it is bounded.

Everything is kept by the bytes that it was made from: memory saves work and decides nothing.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from datetime import datetime
from typing import Generic, TypeVar

from hostward.attest.algorithms import Hash
from hostward.attest.boot import BootFacts, read_boot
from hostward.attest.certificate import Certificate, parse_certificate
from hostward.attest.ek_certificate import Endorsement, endorse
from hostward.attest.eventlog import EventLog, parse_event_log
from hostward.attest.ima import TemplateMemory
from hostward.attest.public import TpmPublic, parse_public

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


# Bytes of a boot log; of a larger one, which no machine of ours has, nothing is kept.
_MOST_REMEMBERED = 256 << 10


class Recent(Generic[Key, Value]):
    """The values used last; what is made anew for a key is made by ``make``, whose errors are not kept."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: OrderedDict[Key, Value] = OrderedDict()

    def get(self, key: Key, make: Callable[[], Value]) -> Value:
        """The value of a key."""
        found = self._kept.get(key)
        if found is None:
            found = self._kept[key] = make()
            if len(self._kept) > self._most:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(key)
        return found

    def peek(self, key: Key) -> Value | None:
        """The value of a key if it is there."""
        return self._kept.get(key)

    def forget(self, key: Key) -> None:
        """Make it anew the next time."""
        self._kept.pop(key, None)


class VerifierMemory:
    """For one thread: keys, certificates, boots and IMA templates that were read."""

    def __init__(self, hosts: int = 10_000, boots: int = 128) -> None:
        self.templates = TemplateMemory()
        self._keys: Recent[bytes, TpmPublic] = Recent(2 * hosts)
        self._certificates: Recent[bytes, Certificate] = Recent(hosts)
        self._endorsements: Recent[tuple[object, ...], Endorsement] = Recent(hosts)
        self._logs: Recent[bytes, EventLog] = Recent(boots)
        self._boots: Recent[tuple[bytes, str], BootFacts] = Recent(boots)

    def public(self, data: bytes) -> TpmPublic:
        """A key. Raises EvidenceError."""
        return self._keys.get(data, lambda: parse_public(data))

    def certificate(self, data: bytes) -> Certificate:
        """A certificate. Raises EvidenceError."""
        return self._certificates.get(data, lambda: parse_certificate(data))

    def endorsement(
        self,
        key: TpmPublic,
        evidence: tuple[bytes | None, tuple[bytes, ...]],
        roots: Sequence[Certificate],
        now: datetime,
    ) -> Endorsement:
        """Who vouches for a key by its certificate and those between; a path holds until it ends. Raises EvidenceError."""
        of = (key.name, evidence, tuple(root.signed for root in roots))
        found = self._endorsements.peek(of)
        if found is not None and not found.since <= now <= found.until:
            self._endorsements.forget(of)
        return self._endorsements.get(of, lambda: endorse(key, *evidence, roots, frozenset(), now, self.certificate))

    def event_log(self, data: bytes) -> EventLog:
        """A boot log; hosts of one kind often have the same, and a host sends its own again. Raises EvidenceError."""
        if len(data) > _MOST_REMEMBERED:
            return parse_event_log(data)
        return self._logs.get(hashlib.sha256(data).digest(), lambda: parse_event_log(data))

    def boot(self, data: bytes, bank: Hash) -> BootFacts:
        """The boot that a log tells of, in one bank. Raises EvidenceError."""
        if len(data) > _MOST_REMEMBERED:
            return read_boot(self.event_log(data), bank)
        key = hashlib.sha256(data).digest(), bank.name
        return self._boots.get(key, lambda: read_boot(self.event_log(data), bank))
