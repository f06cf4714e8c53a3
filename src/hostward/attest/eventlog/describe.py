"""Event data in fields that people read. Nothing here decides: what is unknown or malformed is shown as bytes."""

from __future__ import annotations

from collections.abc import Callable

from hostward.attest.algorithms import name_of
from hostward.attest.cursor import Cursor
from hostward.attest.eventlog.device_path import device_path_text
from hostward.attest.eventlog.guids import guid_name, guid_text
from hostward.attest.eventlog.log import Event
from hostward.attest.eventlog.measured import matches_data
from hostward.attest.eventlog.partition_table import describe_gpt
from hostward.attest.eventlog.types import EventType
from hostward.attest.eventlog.uefi_variable import describe_variable, parse_variable
from hostward.errors import EvidenceError

_MOST_RAW = 256
_MOST_TEXT = 4096
_MOST_TABLES = 256
_TAGS = {
    0x8F3B22EC: "linux-initrd",
    0x8F3B22ED: "linux-load-options",
    0xF5BC582A: "systemd-loader-conf",
    0x6C46F751: "systemd-devicetree-addon",
    0x49DFFE0F: "systemd-initrd-addon",
    0xDAC08E1A: "systemd-microcode-addon",
    0x13AED6DB: "systemd-uki-profile",
}


def describe_event(event: Event) -> dict[str, object]:
    """One event as JSON has it; ``data_verified`` is whether its digest is of the data, null where that cannot be told."""
    shown: dict[str, object] = {
        "number": event.number,
        "offset": event.offset,
        "pcr": event.pcr,
        "type": event.type_name,
        "digests": {name_of(algorithm).replace("_", "-"): digest.hex() for algorithm, digest in event.digests.items()},
        "bytes": len(event.data),
        "data_verified": matches_data(event),
    }
    reader = _READERS.get(event.type)
    try:
        shown["data"] = reader(event.data) if reader else _raw(event.data)
    except EvidenceError as error:
        shown["data"] = {**_raw(event.data), "undecoded": error.reason}
    return shown


def _raw(data: bytes) -> dict[str, object]:
    return {"raw": data[:_MOST_RAW].hex()}


def _text(data: bytes) -> dict[str, object]:
    """ASCII, or the UTF-16 that UEFI programs write; else bytes."""
    high = data[1::2]
    wide = not len(data) % 2 and high[:1] == b"\0" and 2 * high.count(0) > len(high)
    for encoding in ("utf-16-le", "utf-8") if wide else ("utf-8",):
        try:
            text = data[:_MOST_TEXT].decode(encoding).rstrip("\0")
        except UnicodeDecodeError:
            continue
        if text.replace("\n", "").replace("\t", "").isprintable():
            return {"text": text}
    return _raw(data)


def _separator(data: bytes) -> dict[str, object]:
    value = int.from_bytes(data, "little") if len(data) == 4 else -1
    meaning = {0: "end of pre-boot", 0xFFFFFFFF: "end of pre-boot", 1: "error"}.get(value)
    return {"separator": meaning} if meaning else _text(data)


def _variable(data: bytes) -> dict[str, object]:
    return describe_variable(parse_variable(data))


def _authority(data: bytes) -> dict[str, object]:
    return describe_variable(parse_variable(data), authority=True)


def _image(data: bytes) -> dict[str, object]:
    cursor = Cursor(data, "little")
    address, size, _, path = (cursor.u64(what) for what in ("address", "size", "link address", "length of the path"))
    if path > cursor.left:
        raise cursor.error(f"a device path of {path} bytes, {cursor.left} are left")
    return {"path": device_path_text(cursor.take(path, "device path")), "address": address, "size": size}


def _blob(data: bytes) -> dict[str, object]:
    if len(data) != 16:
        return _text(data)
    cursor = Cursor(data, "little")
    return {"base": cursor.u64("base"), "size": cursor.u64("size")}


def _named_blob(data: bytes) -> dict[str, object]:
    cursor = Cursor(data, "little")
    name = cursor.take(cursor.u8("size of the description"), "description").decode("utf-8", "replace").rstrip("\0")
    return {"description": name, "base": cursor.u64("base"), "size": cursor.u64("size")}


def _tables(cursor: Cursor) -> list[str]:
    count = cursor.u64("number of tables")
    if count > _MOST_TABLES:
        raise cursor.error(f"{count} tables")
    tables = []
    for _ in range(count):
        tables.append(guid_name(cursor.take(16, "table")))
        cursor.u64("address")
    return tables


def _handoff(data: bytes) -> dict[str, object]:
    return {"tables": _tables(Cursor(data, "little"))}


def _named_handoff(data: bytes) -> dict[str, object]:
    cursor = Cursor(data, "little")
    name = cursor.take(cursor.u8("size of the description"), "description").decode("utf-8", "replace").rstrip("\0")
    return {"description": name, "tables": _tables(cursor)}


def _version(data: bytes) -> dict[str, object]:
    return {"guid": guid_text(data)} if len(data) == 16 and data[1::2].count(0) < 8 else _text(data)


def _tag(data: bytes) -> dict[str, object]:
    cursor = Cursor(data, "little")
    number, size = cursor.u32("tag"), cursor.u32("size of the tag")
    if size > cursor.left:
        raise cursor.error(f"a tag of {size} bytes, {cursor.left} are left")
    return {"tag": _TAGS.get(number, f"{number:#010x}"), **_text(cursor.take(size, "content of the tag"))}


def _no_action(data: bytes) -> dict[str, object]:
    signature = data[:16].rstrip(b"\0").decode("ascii", "replace")
    if signature == "StartupLocality" and len(data) >= 17:
        return {"signature": signature, "locality": data[16]}
    if signature == "SP800-155 Event" and len(data) >= 36:
        return {"signature": signature, "manifest": guid_text(data[20:36])}
    if signature.startswith("Spec ID Event") and len(data) >= 24:
        return {"signature": signature, "version": f"{data[21]}.{data[20]}", "errata": data[22]}
    return {"signature": signature, **_raw(data)} if signature.isprintable() and signature else _raw(data)


_READERS: dict[int, Callable[[bytes], dict[str, object]]] = {
    EventType.EV_NO_ACTION: _no_action,
    EventType.EV_SEPARATOR: _separator,
    EventType.EV_ACTION: _text,
    EventType.EV_EFI_ACTION: _text,
    EventType.EV_IPL: _text,
    EventType.EV_COMPACT_HASH: _text,
    EventType.EV_OMIT_BOOT_DEVICE_EVENTS: _text,
    EventType.EV_S_CRTM_VERSION: _version,
    EventType.EV_S_CRTM_CONTENTS: _blob,
    EventType.EV_POST_CODE: _blob,
    EventType.EV_POST_CODE2: _named_blob,
    EventType.EV_EVENT_TAG: _tag,
    EventType.EV_EFI_VARIABLE_DRIVER_CONFIG: _variable,
    EventType.EV_EFI_VARIABLE_BOOT: _variable,
    EventType.EV_EFI_VARIABLE_BOOT2: _variable,
    EventType.EV_EFI_VARIABLE_AUTHORITY: _authority,
    EventType.EV_EFI_BOOT_SERVICES_APPLICATION: _image,
    EventType.EV_EFI_BOOT_SERVICES_DRIVER: _image,
    EventType.EV_EFI_RUNTIME_SERVICES_DRIVER: _image,
    EventType.EV_EFI_GPT_EVENT: describe_gpt,
    EventType.EV_EFI_GPT_EVENT2: describe_gpt,
    EventType.EV_EFI_PLATFORM_FIRMWARE_BLOB: _blob,
    EventType.EV_EFI_PLATFORM_FIRMWARE_BLOB2: _named_blob,
    EventType.EV_EFI_HANDOFF_TABLES: _handoff,
    EventType.EV_EFI_HANDOFF_TABLES2: _named_handoff,
}
