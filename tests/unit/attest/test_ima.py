"""IMA's list: both forms, violations, template hashes, checkpoints, and the aggregate of the boot."""

from __future__ import annotations

import struct
import tracemalloc

import pytest
from bench.attester import ImaList, boot_log, file_digest, ima_list

from hostward.attest.algorithms import SHA1, SHA256
from hostward.attest.ima import MOST_BYTES, Checkpoint, TemplateMemory, boot_aggregate, parse_ima, running_values
from hostward.attest.ima_ascii import binary_form, looks_like_text
from hostward.errors import EvidenceError

START = Checkpoint()


def good() -> ImaList:
    listed = ima_list(boot_log((SHA1, SHA256)), ["/bin/a", "/bin/b"])
    listed.add("/bin/signed", file_digest("/bin/signed"), signature=b"\3signature")
    listed.add("/bin/unsigned", file_digest("/bin/unsigned"), signature=b"")
    listed.add("/var/log/x", bytes(32), violation=True)
    return listed


def test_entries_are_read_and_replayed_in_each_bank() -> None:
    listed = good()
    entries = parse_ima(bytes(listed.data), START, TemplateMemory())
    shown = [(entry.template.path, entry.violation, entry.template.signature) for entry in entries]
    assert shown[1:] == [
        ("/bin/a", False, b""),
        ("/bin/b", False, b""),
        ("/bin/signed", False, b"\3signature"),
        ("/bin/unsigned", False, b""),
        ("/var/log/x", True, b""),
    ]
    assert entries[1].template.digest == file_digest("/bin/a")
    for bank in (SHA1, SHA256):
        assert running_values(entries, bytes(bank.size), bank)[-1] == listed.values[bank.name]
    assert [entry.offset for entry in entries[1:]] == [entry.end for entry in entries[:-1]]
    assert entries[-1].end == len(listed.data)


def test_a_violation_is_logged_as_zeros_and_extended_as_ones() -> None:
    listed = ImaList()
    listed.add("/x", bytes(32), violation=True)
    assert listed.data[4:24] == bytes(20)
    entries = parse_ima(bytes(listed.data), START, TemplateMemory())
    assert running_values(entries, bytes(32), SHA256)[1] == SHA256.digest(bytes(32) + b"\xff" * 32)


def test_text_is_the_same_list() -> None:
    listed = good()
    text = "".join(listed.text).encode()
    assert looks_like_text(text)
    assert not looks_like_text(bytes(listed.data))
    assert binary_form(text) == bytes(listed.data)


@pytest.mark.parametrize(
    "text",
    [
        b"10 " + b"0" * 40 + b" ima-ng sha256:00 /x\n\n10",
        b"11 " + b"0" * 40 + b" ima-ng sha256:00 /x\n",
        b"10 " + b"0" * 39 + b" ima-ng sha256:00 /x\n",
        b"10 " + b"0" * 40 + b" ima-ng sha256:000 /x\n",
        b"10 " + b"0" * 40 + b" ima-ng sha256:00 /x y\n",
        b"\n" * 100_000,
        b"10 " + b"0" * 100_000,
    ],
)
def test_text_that_is_no_list_is_refused_with_the_offset(text: bytes) -> None:
    with pytest.raises(EvidenceError) as refused:
        binary_form(text)
    assert refused.value.offset is not None


def test_reading_goes_on_where_it_ended() -> None:
    listed = good()
    memory = TemplateMemory()
    entries = parse_ima(bytes(listed.data), START, memory)
    running = running_values(entries, bytes(32), SHA256)
    for count, entry in enumerate(entries):
        checkpoint = Checkpoint(entry.offset, count, {"sha256": running[count]})
        rest = parse_ima(bytes(listed.data)[entry.offset :], checkpoint, memory)
        assert rest == entries[count:]
        assert running_values(rest, checkpoint.value(SHA256), SHA256)[-1] == listed.values["sha256"]
    with pytest.raises(EvidenceError, match="no sha1 value, only sha256"):
        Checkpoint(1, 1, {"sha256": bytes(32)}).value(SHA1)


def test_a_list_that_is_cut_off_says_where() -> None:
    data = bytes(good().data)
    ends = {entry.end for entry in parse_ima(data, START, TemplateMemory())}
    for size in range(1, len(data)):
        if size in ends:
            continue
        with pytest.raises(EvidenceError) as refused:
            parse_ima(data[:size], START, TemplateMemory())
        assert refused.value.offset is not None
        assert refused.value.offset <= size


def test_changed_entries_are_refused_also_where_the_memory_knows_the_true_ones() -> None:
    listed = good()
    memory = TemplateMemory()
    entries = parse_ima(bytes(listed.data), START, memory)
    for entry in entries[:-1]:
        data = bytearray(listed.data)
        data[data.index(entry.template.digest, entry.offset)] ^= 1
        with pytest.raises(EvidenceError, match=rf"offset {entry.offset + 4}: the template hash of IMA entry"):
            parse_ima(bytes(data), START, memory)


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        (struct.pack("<I20sI", 11, bytes(20), 6) + b"ima-ng" + struct.pack("<I", 0), "PCR 11, not 10"),
        (struct.pack("<I20sI", 10, bytes(20), 3) + b"ima" + struct.pack("<I", 0), "unknown template 'ima'"),
        (struct.pack("<I20sI", 10, bytes(20), 40) + b"i" * 40 + struct.pack("<I", 0), "unknown template"),
        (struct.pack("<I20sI", 10, bytes(20), 6) + b"ima-ng" + struct.pack("<I", 1 << 31), "claims 2147483648 bytes"),
        (struct.pack("<I20sI", 10, bytes(20), 0xFFFFFFFF) + b"ima-ng" + struct.pack("<I", 0), "cut off"),
        (struct.pack("<I20sI", 10, bytes(20), 6) + b"ima-ng" + struct.pack("<II", 4, 0), "1 fields, and ima-ng has 2"),
        (struct.pack("<I20sI", 10, bytes(20), 6) + b"ima-ng" + struct.pack("<IIII", 12, 0, 0, 0), "follow the fields"),
    ],
)
def test_entries_that_are_none_are_refused(entry: bytes, why: str) -> None:
    with pytest.raises(EvidenceError, match=why):
        parse_ima(entry, START, TemplateMemory())


def test_long_lists_are_refused_in_bounded_memory() -> None:
    listed = ImaList()
    listed.add("/x", bytes(32))
    data = bytes(listed.data) * (100_000_000 // len(listed.data))
    tracemalloc.start()
    with pytest.raises(EvidenceError, match=f"longer than {MOST_BYTES}"):
        parse_ima(data, START, TemplateMemory())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20
    with pytest.raises(EvidenceError, match="more than 200000 IMA entries"):
        parse_ima(data[:MOST_BYTES], START, TemplateMemory())


def test_the_memory_is_bounded() -> None:
    memory = TemplateMemory(most=10)
    listed = ImaList()
    for number in range(100):
        listed.add(f"/file/{number}", file_digest(str(number)))
    assert len(parse_ima(bytes(listed.data), START, memory)) == 100
    assert len(memory.known) <= 10


def test_the_first_entry_belongs_to_the_boot() -> None:
    log = boot_log((SHA1, SHA256))
    (first, *_) = parse_ima(bytes(ima_list(log, []).data), START, TemplateMemory())
    boot_aggregate(first, log.values)
    other = boot_log((SHA1, SHA256), secure_boot=False)
    with pytest.raises(EvidenceError, match="PCRs 0 to 9 give"):
        boot_aggregate(first, other.values)
    with pytest.raises(EvidenceError, match="of the sha256 bank, which no log explains"):
        boot_aggregate(first, {"sha1": log.values["sha1"]})
    listed = ImaList((SHA1,))
    sha1 = b"".join(log.values["sha1"].get(pcr, bytes(20)) for pcr in range(8))
    listed.add("boot_aggregate", SHA1.digest(sha1), algorithm="sha1")
    listed.add("/x", bytes(32))
    aggregate, other_entry = parse_ima(bytes(listed.data), START, TemplateMemory())
    boot_aggregate(aggregate, log.values)
    with pytest.raises(EvidenceError, match="begins with /x"):
        boot_aggregate(other_entry, log.values)
