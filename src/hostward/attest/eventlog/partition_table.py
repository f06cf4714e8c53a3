"""UEFI_GPT_DATA: the partition table of the disk that was booted from."""

from __future__ import annotations

from hostward.attest.cursor import Cursor
from hostward.attest.eventlog.guids import guid_name, guid_text

_SIGNATURE = b"EFI PART"
_MOST_PARTITIONS = 256
_ENTRY = 128


def describe_gpt(data: bytes) -> dict[str, object]:
    """Disk and partitions. Raises EvidenceError."""
    cursor = Cursor(data, "little")
    signature = cursor.take(8, "signature")
    if signature != _SIGNATURE:
        raise cursor.error("no partition table: the signature is missing")
    cursor.take(48, "revision, size, checksum and places")
    disk = guid_text(cursor.take(16, "disk"))
    cursor.take(8, "place of the entries")
    cursor.u32("number of entries")
    size = cursor.u32("size of an entry")
    cursor.u32("checksum of the entries")
    count = cursor.u64("number of partitions")
    if size < _ENTRY or count > _MOST_PARTITIONS:
        raise cursor.error(f"{count} partitions in entries of {size} bytes")
    partitions = []
    for _ in range(count):
        entry = cursor.take(size, "partition")
        partitions.append(
            {
                "type": guid_name(entry[:16]),
                "id": guid_text(entry[16:32]),
                "first_block": int.from_bytes(entry[32:40], "little"),
                "last_block": int.from_bytes(entry[40:48], "little"),
                "name": entry[56:128].decode("utf-16-le", "replace").rstrip("\0"),
            }
        )
    return {"disk": disk, "partitions": partitions}
