"""Boot logs of both forms: read, replayed, and refused with the offset and the reason."""

from __future__ import annotations

import struct
import tracemalloc

import pytest
from bench.attester import BootLog, boot_log

from hostward.attest.algorithms import SHA1, SHA256, SHA384
from hostward.attest.eventlog import EventType, Format, parse_event_log, replay
from hostward.attest.eventlog.log import MOST_BYTES, MOST_EVENTS
from hostward.attest.eventlog.measured import matches_data
from hostward.attest.eventlog.replay import replayable
from hostward.errors import EvidenceError


def sha1_log(*events: tuple[int, int, bytes]) -> bytes:
    return b"".join(
        struct.pack("<II20sI", pcr, kind, SHA1.digest(data), len(data)) + data for pcr, kind, data in events
    )


def test_every_bank_is_replayed() -> None:
    log = boot_log((SHA1, SHA256, SHA384))
    parsed = parse_event_log(bytes(log.data))
    assert parsed.format is Format.CRYPTO_AGILE
    assert [bank.name for bank in replayable(parsed)] == ["sha1", "sha256", "sha384"]
    for bank in (SHA1, SHA256, SHA384):
        assert replay(parsed, bank) == log.values[bank.name]


def test_the_form_with_sha1_alone_is_replayed() -> None:
    data = sha1_log((0, EventType.EV_S_CRTM_VERSION, b"1"), (0, EventType.EV_SEPARATOR, bytes(4)), (4, 0xD, b"x"))
    log = parse_event_log(data)
    first = SHA1.extend(bytes(20), SHA1.digest(b"1"))
    assert log.format is Format.SHA1_ONLY
    assert replay(log, SHA1) == {
        0: SHA1.extend(first, SHA1.digest(bytes(4))),
        4: SHA1.extend(bytes(20), SHA1.digest(b"x")),
    }
    with pytest.raises(EvidenceError, match="no sha256 bank, only sha1"):
        replay(log, SHA256)


def test_pcr_0_begins_with_the_startup_locality_and_what_only_informs_is_not_extended() -> None:
    log = BootLog()
    log.add(0, EventType.EV_NO_ACTION, b"StartupLocality\0\x03")
    log.add(0, EventType.EV_S_CRTM_VERSION, b"1")
    log.add(0xFFFFFFFF, EventType.EV_NO_ACTION, b"anything")
    start = bytes(31) + b"\3"
    assert replay(parse_event_log(bytes(log.data)), SHA256) == {0: SHA256.extend(start, SHA256.digest(b"1"))}
    log.add(0, EventType.EV_NO_ACTION, b"StartupLocality\0\x04")
    with pytest.raises(EvidenceError, match="another startup locality"):
        replay(parse_event_log(bytes(log.data)), SHA256)


def test_memory_after_the_log_is_no_event() -> None:
    data = bytes(boot_log().data)
    assert parse_event_log(data + b"\xff" * 1000).padding_bytes == 1000
    with pytest.raises(EvidenceError, match=rf"offset {len(data)}: .*PCR 4294967295"):
        parse_event_log(data + b"\xff" * 1000 + b"\0")


def test_a_log_that_is_cut_off_says_where() -> None:
    data = bytes(boot_log(commands=1).data)
    ends = {event.offset for event in parse_event_log(data).events} | {len(data)}
    for size in range(1, len(data)):
        if size not in ends:
            with pytest.raises(EvidenceError, match=r"are left|needs") as refused:
                parse_event_log(data[:size])
            assert refused.value.offset is not None
            assert refused.value.offset <= size


def agile(
    pcr: int = 0, kind: int = 1, digests: bytes = b"", count: int = 1, data: bytes = b"x", size: int = -1
) -> bytes:
    head = struct.pack("<III", pcr, kind, count)
    return bytes(BootLog().data) + head + digests + struct.pack("<I", len(data) if size < 0 else size) + data


DIGEST = struct.pack("<H", 0x000B) + bytes(32)


@pytest.mark.parametrize(
    ("log", "why"),
    [
        (b"", "empty"),
        (agile(pcr=24, digests=DIGEST), "PCR 24"),
        (agile(digests=struct.pack("<H", 0x0004) + bytes(20)), "sha1, which the log does not declare"),
        (agile(digests=struct.pack("<H", 0x7777) + bytes(32)), "0x7777, which the log does not declare"),
        (agile(digests=DIGEST * 2, count=2), "2 digests, and the log declares 1"),
        (agile(count=0), "has no digest"),
        (agile(digests=DIGEST, size=1_000_000), "claims 1000000 bytes of data, 1 are left"),
        (agile(digests=DIGEST, size=0xFFFFFFFF), "claims 4294967295 bytes"),
        (agile(count=0xFFFFFFFF), "4294967295 digests"),
        (b"\x7fELF" + bytes(100), "PCR"),
    ],
)
def test_what_is_no_log_is_refused_with_the_offset(log: bytes, why: str) -> None:
    with pytest.raises(EvidenceError, match=why) as refused:
        parse_event_log(log)
    assert refused.value.offset is not None


@pytest.mark.parametrize(
    ("banks", "why"),
    [
        ([], "declares 0 banks"),
        ([(0x000B, 20)], "sha256 digests of 20 bytes"),
        ([(0x000B, 32), (0x000B, 32)], "sha256 twice"),
        ([(0x7777, 0)], "0x7777 digests of 0 bytes"),
        ([(0x7777, 65)], "0x7777 digests of 65 bytes"),
        ([(number, 32) for number in range(100, 117)], "declares 17 banks"),
    ],
)
def test_banks_have_to_be_declared_well(banks: list[tuple[int, int]], why: str) -> None:
    spec = b"Spec ID Event03\0" + struct.pack("<IBBBBI", 0, 0, 2, 0, 2, len(banks))
    spec += b"".join(struct.pack("<HH", *bank) for bank in banks) + b"\0"
    with pytest.raises(EvidenceError, match=why):
        parse_event_log(struct.pack("<II20sI", 0, 3, bytes(20), len(spec)) + spec)


def test_a_bank_of_an_unknown_hash_is_read_and_not_replayed() -> None:
    spec = (
        b"Spec ID Event03\0"
        + struct.pack("<IBBBBI", 0, 0, 2, 0, 2, 2)
        + struct.pack("<HHHH", 0x7777, 8, 0x000B, 32)
        + b"\0"
    )
    log = struct.pack("<II20sI", 0, 3, bytes(20), len(spec)) + spec
    log += struct.pack("<III", 0, 1, 2) + struct.pack("<H", 0x7777) + bytes(8) + DIGEST + struct.pack("<I", 0)
    parsed = parse_event_log(log)
    assert [bank.name for bank in replayable(parsed)] == ["sha256"]


def test_an_event_that_lacks_a_banks_digest_spoils_the_bank_alone() -> None:
    log = bytes(BootLog((SHA1, SHA256)).data)
    log += struct.pack("<III", 0, 1, 1) + DIGEST + struct.pack("<I", 0)
    parsed = parse_event_log(log)
    assert [bank.name for bank in replayable(parsed)] == ["sha256"]
    with pytest.raises(EvidenceError, match="no sha1 digest"):
        replay(parsed, SHA1)


def test_what_is_too_long_is_refused_without_being_read() -> None:
    data = bytes(boot_log().data)
    data *= 100_000_000 // len(data)
    tracemalloc.start()
    with pytest.raises(EvidenceError, match=f"more than {MOST_BYTES}"):
        parse_event_log(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20
    event = struct.pack("<III", 0, 1, 1) + DIGEST + struct.pack("<I", 0)
    with pytest.raises(EvidenceError, match=f"more than {MOST_EVENTS} events"):
        parse_event_log(bytes(BootLog().data) + event * (MOST_EVENTS + 5))


def test_data_is_believed_only_in_the_bank_that_is_asked_for() -> None:
    log = BootLog((SHA1, SHA256))
    log.add(4, EventType.EV_EFI_ACTION, b"said")
    (event,) = (each for each in parse_event_log(bytes(log.data)).events if each.extends)
    assert matches_data(event, SHA256) is True
    forged = bytes(log.data).replace(SHA1.digest(b"said"), SHA1.digest(b"done"))
    (event,) = (each for each in parse_event_log(forged).events if each.extends)
    assert matches_data(event, SHA256) is True
    assert matches_data(event, SHA1) is False
