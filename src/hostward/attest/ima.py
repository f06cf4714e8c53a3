"""IMA's list of measured files (binary_runtime_measurements), read and replayed into PCR 10.

Lists grow for as long as a machine runs, so reading resumes: a checkpoint says how many bytes and entries were read and
what the PCR held then. Entries are the same on many machines, hence one bounded memory of templates for all of them.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from hostward.attest.algorithms import BY_NAME, SHA1, Hash
from hostward.attest.cursor import Cursor
from hostward.errors import EvidenceError

PCR = 10
# Of what is sent at once: memory is some 800 bytes for each new entry. Resuming has no bound.
MOST_BYTES = 32 << 20
MOST_ENTRIES = 200_000
_MOST_TEMPLATE = 1 << 20  # a measured SELinux policy is the largest that there is
_HEAD = struct.Struct("<I20sI")
_U32 = struct.Struct("<I")
_NAME_SIZE = 24  # where the length of the template's name stands
_MOST_NAME = 32
_NO_DIGEST = bytes(20)
# Fields of a template begin with the file's digest and name in all of these (Documentation/security/IMA-templates.rst).
_TEMPLATES: Mapping[bytes, int] = {
    b"ima-ng": 2,
    b"ima-sig": 3,
    b"ima-ngv2": 2,
    b"ima-sigv2": 3,
    b"ima-buf": 3,
    b"ima-modsig": 5,
}
_SIGNED = frozenset({b"ima-sig", b"ima-sigv2", b"ima-modsig"})


@dataclass(slots=True)
class Template:
    """What one entry measured. ``extended`` remembers its hash for each bank that it was replayed in."""

    name: str
    algorithm: str
    digest: bytes
    path: str
    signature: bytes
    data: bytes
    template_hash: bytes
    file: tuple[str, str, bytes]  # path, algorithm and digest, as reference values have it
    extended: dict[str, bytes] = field(default_factory=dict)


class ImaEntry(NamedTuple):
    """An entry of the list; of a violation (a file written while it was read) the digest says nothing."""

    number: int
    offset: int
    end: int  # where the next begins
    template: Template
    violation: bool

    def __str__(self) -> str:
        return f"IMA entry {self.number} ({self.template.path})"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How far a list was read, and what PCR 10 held then, by bank."""

    offset: int = 0
    entries: int = 0
    values: Mapping[str, bytes] = field(default_factory=dict)
    reference: str = ""  # digest of the reference values that the entries were judged by

    def value(self, bank: Hash) -> bytes:
        """Of one bank. Raises EvidenceError if the checkpoint was made without it."""
        if not self.entries:
            return bytes(bank.size)
        found = self.values.get(bank.name)
        if found is None:
            raise EvidenceError(f"the IMA checkpoint has no {bank.name} value, only {', '.join(self.values) or 'none'}")
        return found


class TemplateMemory:
    """Entries that were read and found good, by their bytes; when full, the oldest half goes."""

    _MOST_REMEMBERED = 4096  # bytes of one

    def __init__(self, most: int = 100_000) -> None:
        self._most = most
        self.known: dict[bytes, tuple[Template, bool]] = {}

    def read(self, entry: bytes, number: int, place: int) -> tuple[Template, bool]:
        """What an entry that is not known measured, and whether it is a violation. Raises EvidenceError."""
        _, listed, size = _HEAD.unpack_from(entry)
        name = entry[_HEAD.size : _HEAD.size + size]
        start = _HEAD.size + size + 4
        template = _parse_template(name, entry[start:], place + start, number)
        violation = listed == _NO_DIGEST
        if not violation and listed != template.template_hash:
            raise EvidenceError(f"the template hash of IMA entry {number} is not of its data", offset=place + 4)
        if len(entry) <= self._MOST_REMEMBERED:
            if len(self.known) >= self._most:
                for old in list(self.known)[: self._most // 2 + 1]:
                    del self.known[old]
            self.known[entry] = template, violation
        return template, violation


def parse_ima(data: bytes, start: Checkpoint, memory: TemplateMemory) -> list[ImaEntry]:
    """Read what follows a checkpoint. Raises EvidenceError with the offset in the whole list."""
    if len(data) > MOST_BYTES:
        raise EvidenceError(f"the IMA list is longer than {MOST_BYTES} bytes", offset=start.offset + MOST_BYTES)
    entries: list[ImaEntry] = []
    base, first, end, number = start.offset, 0, len(data), start.entries
    unpack, known = _U32.unpack_from, memory.known
    # A quarter of the whole time less than by the constructor, which takes names and defaults into account.
    make: Callable[[tuple[int, int, int, Template, bool]], ImaEntry] = partial(tuple.__new__, ImaEntry)
    while first < end:
        if end - first < _HEAD.size:
            raise EvidenceError(f"the head of IMA entry {number} is cut off", offset=base + first)
        (size,) = unpack(data, first + _NAME_SIZE)
        offset = first + _HEAD.size + size + 4  # where the template begins
        if offset > end:
            raise EvidenceError(f"IMA entry {number} is cut off", offset=base + first)
        (size,) = unpack(data, offset - 4)
        if size > end - offset or size > _MOST_TEMPLATE:
            left = end - offset
            raise EvidenceError(f"IMA entry {number} claims {size} bytes, {left} are left", offset=base + offset - 4)
        offset += size
        entry = data[first:offset]
        found = known.get(entry)
        if found is None:
            _check_head(entry, number, base + first)
            found = memory.read(entry, number, base + first)
        if len(entries) == MOST_ENTRIES:
            raise EvidenceError(f"more than {MOST_ENTRIES} IMA entries at once", offset=base + first)
        entries.append(make((number, base + first, base + offset, *found)))
        first = offset
        number += 1
    return entries


def _check_head(entry: bytes, number: int, place: int) -> None:
    pcr, _, size = _HEAD.unpack_from(entry)
    if pcr != PCR:
        raise EvidenceError(f"IMA entry {number} is of PCR {pcr}, not {PCR}", offset=place)
    name = entry[_HEAD.size : _HEAD.size + min(size, _MOST_NAME)]
    if size > _MOST_NAME or name not in _TEMPLATES:
        shown = name.decode("ascii", "replace")
        raise EvidenceError(f"IMA entry {number} has the unknown template {shown!r}", offset=place + _HEAD.size)


def running_values(entries: Sequence[ImaEntry], start: bytes, bank: Hash) -> list[bytes]:
    """What PCR 10 held before the first of the entries, and after each."""
    name, new = bank.name, bank.new
    ones = b"\xff" * bank.size  # a violation is logged as zeros and extended as ones
    value = start
    values = [value]
    for _, _, _, template, violation in entries:
        if violation:
            digest = ones
        else:
            known = template.extended
            digest = known.get(name) or known.setdefault(name, new(template.data).digest())
        value = new(value + digest).digest()
        values.append(value)
    return values


def boot_aggregate(entry: ImaEntry, pcrs: Mapping[str, Mapping[int, bytes]]) -> None:
    """Whether the list's first entry was made of these PCR values by bank. Raises EvidenceError."""
    template = entry.template
    if template.path != "boot_aggregate" or entry.violation:
        raise EvidenceError(f"the IMA list begins with {template.path}, not with boot_aggregate", offset=entry.offset)
    bank = BY_NAME.get(template.algorithm)
    values = pcrs.get(template.algorithm)
    if bank is None or values is None:
        raise EvidenceError(f"boot_aggregate is of the {template.algorithm} bank, which no log explains")
    # security/integrity/ima/ima_crypto.c: PCRs 0 to 7, and 8 and 9 too unless the bank is SHA-1's.
    last = 7 if bank is SHA1 else 9
    expected = bank.digest(b"".join(values.get(pcr, bytes(bank.size)) for pcr in range(last + 1)))
    if template.digest != expected:
        raise EvidenceError(f"boot_aggregate is {template.digest.hex()}, and PCRs 0 to {last} give {expected.hex()}")


def _parse_template(name: bytes, data: bytes, place: int, number: int) -> Template:
    cursor = Cursor(data, "little", base=place)
    fields: list[bytes] = []
    while cursor.left:
        if len(fields) == _TEMPLATES[name]:
            raise cursor.error(f"{cursor.left} bytes follow the fields of IMA entry {number}")
        fields.append(cursor.take(cursor.u32(f"a field of IMA entry {number}"), f"a field of IMA entry {number}"))
    if len(fields) != _TEMPLATES[name]:
        raise cursor.error(f"IMA entry {number} has {len(fields)} fields, and {name.decode()} has {_TEMPLATES[name]}")
    algorithm, _, digest = fields[0].partition(b":\0")
    if name.endswith(b"v2"):
        algorithm = algorithm.rpartition(b":")[2]  # "ima:sha256" or "verity:sha256"
    path = fields[1].removesuffix(b"\0").decode("utf-8", "backslashreplace")
    signature = fields[2] if name in _SIGNED else b""
    digest_of = hashlib.sha1(data).digest()  # noqa: S324 - what the list has; banks are extended with their own
    shown = algorithm.decode("ascii", "backslashreplace")
    return Template(name.decode(), shown, digest, path, signature, data, digest_of, (path, shown, digest))
