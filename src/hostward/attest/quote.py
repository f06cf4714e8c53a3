"""TPMS_ATTEST of the type quote (TPM 2.0 Library, Part 2, 10.12): what a TPM signed about its PCRs and its clock."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache

from hostward.attest.algorithms import Hash, hash_of, name_of
from hostward.attest.cursor import Cursor
from hostward.errors import EvidenceError

# A restricted key signs nothing from outside that begins so; without it a "quote" may be anybody's text.
TPM_GENERATED = 0xFF544347
_ST_ATTEST_QUOTE = 0x8018
_MOST_DATA = 66  # TPMT_HA with the longest hash
_MOST_SELECTIONS = 16
_MOST_PCRS = 24  # of the PC Client platform, which every evidence here is of
_HEAD = struct.Struct(">IH")
_CLOCK = struct.Struct(">QIIBQ")  # TPMS_CLOCK_INFO, and the firmware's version behind it
_BANK = struct.Struct(">HB")
_TYPES = {
    0x8014: "an NV certification",
    0x8015: "a command audit",
    0x8016: "a session audit",
    0x8017: "a certification",
    0x8019: "a time attestation",
    0x801A: "a creation certification",
}


@dataclass(frozen=True, slots=True)
class PcrSelection:
    """Some PCRs of one bank, ascending."""

    bank: Hash
    pcrs: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.bank.name}:{','.join(map(str, self.pcrs))}"


@dataclass(frozen=True, slots=True)
class Clock:
    """TPMS_CLOCK_INFO. ``safe`` says that no larger clock was ever reported before."""

    clock_ms: int
    reset_count: int
    restart_count: int
    safe: bool


@dataclass(frozen=True, slots=True)
class Quote:
    """What was signed. ``digest`` is over the selected values one after the other, by the hash of the signing scheme."""

    signer: bytes
    qualifying_data: bytes
    clock: Clock
    firmware_version: int
    selection: tuple[PcrSelection, ...]
    digest: bytes


def parse_quote(data: bytes) -> Quote:
    """Read TPMS_ATTEST as `tpm2_quote -m` writes it. Raises EvidenceError."""
    cursor = Cursor(data, "big")
    magic, kind = _HEAD.unpack(cursor.take(_HEAD.size, "the head of a quote"))
    if magic != TPM_GENERATED:
        raise EvidenceError(f"magic is {magic:#010x}, not TPM_GENERATED: no TPM made this", offset=0)
    if kind != _ST_ATTEST_QUOTE:
        raise EvidenceError(f"this is {_TYPES.get(kind, f'of type {kind:#06x}')}, not a quote", offset=4)
    signer = cursor.sized("qualified signer", 68)
    qualifying_data = cursor.sized("qualifying data", _MOST_DATA)
    clock_ms, resets, restarts, safe, firmware = _CLOCK.unpack(cursor.take(_CLOCK.size, "clock and firmware version"))
    if safe > 1:
        raise cursor.error(f"safe is {safe}, neither yes nor no")
    selection = parse_selection(cursor)
    digest = cursor.sized("PCR digest", 64)
    cursor.finish("the quote")
    return Quote(signer, qualifying_data, Clock(clock_ms, resets, restarts, bool(safe)), firmware, selection, digest)


def parse_selection(cursor: Cursor) -> tuple[PcrSelection, ...]:
    """Read TPML_PCR_SELECTION; a bank without a PCR is left out, as the TPM's digest does. Raises EvidenceError."""
    count = cursor.u32("number of PCR selections")
    if count > _MOST_SELECTIONS:
        raise cursor.error(f"{count} PCR selections, more than {_MOST_SELECTIONS}")
    selections: list[PcrSelection] = []
    for _ in range(count):
        start = cursor.place
        number, size = _BANK.unpack(cursor.take(_BANK.size, "PCR bank"))
        bits = int.from_bytes(cursor.take(size, "PCR selection"), "little")
        if bits >> _MOST_PCRS:
            raise EvidenceError(f"PCRs above {_MOST_PCRS - 1} are selected", offset=start)
        if not bits:
            continue
        selected = _selected(hash_of(number, "a PCR bank", start), bits)
        if any(selected.bank is each.bank for each in selections):
            raise EvidenceError(f"bank {name_of(number)} is selected twice", offset=start)
        selections.append(selected)
    return tuple(selections)


@lru_cache(maxsize=1024)
def _selected(bank: Hash, bits: int) -> PcrSelection:
    """Hosts select the same again and again."""
    return PcrSelection(bank, tuple(pcr for pcr in range(_MOST_PCRS) if bits >> pcr & 1))
