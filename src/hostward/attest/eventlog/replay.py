"""PCR values that a log explains, by bank."""

from __future__ import annotations

from collections.abc import Iterable

from hostward.attest.algorithms import HASHES, Hash, name_of
from hostward.attest.eventlog.log import Event, EventLog
from hostward.attest.eventlog.types import EventType
from hostward.errors import EvidenceError

_LOCALITY = b"StartupLocality\0"
# What TPM2_Startup may be sent from (0 and 3), and 4 where the hardware measured the CRTM before it.
_LOCALITIES = (0, 3, 4)


def replay(log: EventLog, bank: Hash) -> dict[int, bytes]:
    """Values of the PCRs that the log extends in one bank. Raises EvidenceError if an event lacks its digest."""
    if bank.algorithm not in log.banks:
        held = ", ".join(name_of(each) for each in log.banks)
        raise EvidenceError(f"the event log has no {bank.name} bank, only {held}")
    values: dict[int, bytes] = {}
    algorithm = bank.algorithm.value
    start = startup_locality(log.events)
    new = bank.new
    for event in log.events:
        if event.type == EventType.EV_NO_ACTION:
            continue
        digest = event.digests.get(algorithm)
        if digest is None:
            raise EvidenceError(f"event {event.number} has no {bank.name} digest", offset=event.offset)
        before = values.get(event.pcr)
        if before is None:
            before = initial_value(bank, event.pcr, start)
        values[event.pcr] = new(before + digest).digest()
    return values


def replayable(log: EventLog) -> list[Hash]:
    """Banks whose hash is known here and whose digest every event has."""
    return [
        HASHES[number]
        for number in log.banks
        if number in HASHES and all(number in event.digests for event in log.events if event.extends)
    ]


def startup_locality(events: Iterable[Event]) -> int:
    """Where TPM2_Startup came from, which PCR 0 begins with. Raises EvidenceError if the log contradicts itself."""
    found: int | None = None
    for event in events:
        if event.type != EventType.EV_NO_ACTION or event.data[:16] != _LOCALITY or event.pcr != 0:
            continue
        if len(event.data) < 17 or event.data[16] not in _LOCALITIES:
            raise EvidenceError(f"event {event.number} names no locality of a start", offset=event.offset)
        if found not in (None, event.data[16]):
            raise EvidenceError(f"event {event.number} names another startup locality", offset=event.offset)
        found = event.data[16]
    return found or 0


def initial_value(bank: Hash, pcr: int, locality: int = 0) -> bytes:
    """What a PCR holds after a start, before any extension, in events of the log.

    PCRs 17 to 22 hold ones until a dynamic launch makes them zero; what a log says of them comes after such a launch.
    """
    return bytes(bank.size - 1) + bytes((locality if pcr == 0 else 0,))
