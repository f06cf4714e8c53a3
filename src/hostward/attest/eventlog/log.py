"""The two forms of a TCG event log, read event by event, every bound checked.

Crypto-agile (TCG_PCR_EVENT2): the first event is `Spec ID Event03` and declares the banks and the sizes of their digests.
SHA-1 only (TCG_PCR_EVENT): what TPM 1.2 and early TPM 2.0 firmware writes. What follows the log in a fixed area of memory,
all bits one, is no event and no error; anything else that is no event is an error with its offset.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from hostward.attest.algorithms import HASHES, Algorithm, name_of
from hostward.attest.cursor import Cursor
from hostward.attest.eventlog.types import EventType, type_name
from hostward.errors import EvidenceError

# Real logs are 10 to 100 KiB and firmware reserves 64 KiB to 1 MiB for one.
MOST_BYTES = 8 << 20
MOST_EVENTS = 50_000
_MOST_BANKS = 16
_MOST_DIGEST = 64
_MOST_PCR = 23
_SPEC_ID_3 = b"Spec ID Event03\0"
_SPEC_ID_FAMILY = b"Spec ID Event"
_HEAD = struct.Struct("<III")
_SHA1_HEAD = struct.Struct("<II20sI")
_NO_PCR = 0xFFFFFFFF


class Format(StrEnum):
    """How events are written."""

    CRYPTO_AGILE = "crypto-agile"
    SHA1_ONLY = "sha1-only"


@dataclass(frozen=True, slots=True)
class Event:
    """One measurement; ``number`` counts from 0 and ``offset`` is its first byte. ``digests`` are by TPM_ALG_ID."""

    number: int
    offset: int
    pcr: int
    type: int
    digests: Mapping[int, bytes]
    data: bytes

    @property
    def type_name(self) -> str:
        """The type as people know it."""
        return type_name(self.type)

    @property
    def extends(self) -> bool:
        """Whether it went into a PCR; what only informs did not."""
        return self.type != EventType.EV_NO_ACTION

    def __str__(self) -> str:
        return f"event {self.number} at offset {self.offset} ({self.type_name}, PCR {self.pcr})"


@dataclass(frozen=True, slots=True)
class EventLog:
    """A log that was read whole; ``banks`` are the algorithms that it declares, known here or not."""

    format: Format
    banks: tuple[int, ...]
    events: tuple[Event, ...]
    padding_bytes: int = 0


def parse_event_log(data: bytes) -> EventLog:
    """Read a log of either form. Raises EvidenceError with the offset and why."""
    if not data:
        raise EvidenceError("the event log is empty", offset=0)
    if len(data) > MOST_BYTES:
        raise EvidenceError(f"the event log has {len(data)} bytes, more than {MOST_BYTES}", offset=MOST_BYTES)
    cursor = Cursor(data, "little")
    first = _sha1_event(cursor, data, 0)
    sizes = _declared_banks(first, cursor)
    form = Format.SHA1_ONLY if sizes is None else Format.CRYPTO_AGILE
    banks: tuple[int, ...] = (Algorithm.SHA1.value,) if sizes is None else tuple(sizes)
    events = [first]
    padding = 0
    while cursor.left:
        if data[cursor.offset] == 0xFF and _is_padding(data, cursor.offset):
            padding = cursor.left
            break
        if len(events) == MOST_EVENTS:
            raise cursor.error(f"more than {MOST_EVENTS} events")
        number = len(events)
        events.append(_sha1_event(cursor, data, number) if sizes is None else _agile_event(cursor, data, number, sizes))
    return EventLog(form, banks, tuple(events), padding)


def _is_padding(data: bytes, offset: int) -> bool:
    return data.count(0xFF, offset) == len(data) - offset


def _check_head(number: int, offset: int, pcr: int, kind: int) -> None:
    if pcr <= _MOST_PCR or (kind == EventType.EV_NO_ACTION and pcr == _NO_PCR):
        return
    raise EvidenceError(f"event {number} is of PCR {pcr}, and there are 0 to {_MOST_PCR}", offset=offset)


def _sha1_event(cursor: Cursor, data: bytes, number: int) -> Event:
    start = cursor.offset
    if cursor.left < _SHA1_HEAD.size:
        raise cursor.error(f"the head of event {number} needs {_SHA1_HEAD.size} bytes, {cursor.left} are left")
    pcr, kind, digest, size = _SHA1_HEAD.unpack_from(data, start)
    _check_head(number, start, pcr, kind)
    cursor.offset = start + _SHA1_HEAD.size
    return Event(number, start, pcr, kind, {Algorithm.SHA1.value: digest}, _content(cursor, number, size))


def _agile_event(cursor: Cursor, data: bytes, number: int, sizes: Mapping[int, int]) -> Event:
    start = cursor.offset
    if cursor.left < _HEAD.size:
        raise cursor.error(f"the head of event {number} needs {_HEAD.size} bytes, {cursor.left} are left")
    pcr, kind, count = _HEAD.unpack_from(data, start)
    _check_head(number, start, pcr, kind)
    cursor.offset = start + _HEAD.size
    if count > len(sizes):
        raise EvidenceError(f"event {number} has {count} digests, and the log declares {len(sizes)}", offset=start + 8)
    if not count and kind != EventType.EV_NO_ACTION:
        raise EvidenceError(f"event {number} ({type_name(kind)}) has no digest", offset=start + 8)
    digests: dict[int, bytes] = {}
    for _ in range(count):
        algorithm = cursor.u16(f"algorithm of a digest of event {number}")
        size = sizes.get(algorithm)
        if size is None:
            raise EvidenceError(
                f"event {number} has a digest by {name_of(algorithm)}, which the log does not declare",
                offset=cursor.offset - 2,
            )
        if algorithm in digests:
            raise EvidenceError(f"event {number} has two {name_of(algorithm)} digests", offset=cursor.offset - 2)
        digests[algorithm] = cursor.take(size, f"{name_of(algorithm)} digest of event {number}")
    return Event(number, start, pcr, kind, digests, _content(cursor, number, cursor.u32(f"size of event {number}")))


def _content(cursor: Cursor, number: int, size: int) -> bytes:
    if size > cursor.left:
        raise EvidenceError(
            f"event {number} claims {size} bytes of data, {cursor.left} are left", offset=cursor.offset - 4
        )
    return cursor.take(size, "event data")


def _declared_banks(first: Event, after: Cursor) -> dict[int, int] | None:
    """Sizes of digests by algorithm in the order declared, or None for a log of the old form. Raises EvidenceError."""
    if first.type != EventType.EV_NO_ACTION or not first.data.startswith(_SPEC_ID_FAMILY):
        return None
    if first.data[:16] != _SPEC_ID_3:
        return None  # "Spec ID Event00" and "02" stand before logs of the old form
    cursor = Cursor(first.data, "little", base=after.offset - len(first.data))
    cursor.take(16, "signature")
    cursor.take(8, "platform class and version")
    count = cursor.u32("number of banks")
    if not 0 < count <= _MOST_BANKS:
        raise EvidenceError(f"the log declares {count} banks, not 1 to {_MOST_BANKS}", offset=cursor.place - 4)
    sizes: dict[int, int] = {}
    for _ in range(count):
        algorithm, size = cursor.u16("algorithm of a bank"), cursor.u16("size of a bank's digests")
        known = HASHES.get(algorithm)
        wrong = size != known.size if known else not 0 < size <= _MOST_DIGEST
        if wrong:
            raise EvidenceError(f"{name_of(algorithm)} digests of {size} bytes", offset=cursor.place - 2)
        if algorithm in sizes:
            raise EvidenceError(f"the log declares the bank {name_of(algorithm)} twice", offset=cursor.place - 4)
        sizes[algorithm] = size
    cursor.take(cursor.u8("size of the vendor's information"), "the vendor's information")
    return sizes
