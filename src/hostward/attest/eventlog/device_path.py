"""UEFI device paths as text (UEFI Specification, 10.6): the nodes that boots go through, others by their numbers."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Callable

from hostward.attest.cursor import Cursor
from hostward.attest.eventlog.guids import guid_text

_END = 0x7F
_MOST_NODES = 64
_EISA_PNP = 0x41D0
_ROOTS = {0x0A03: "PciRoot", 0x0A08: "PcieRoot"}


def device_path_text(data: bytes) -> str:
    """The path as UEFI shells write it. Raises EvidenceError if a node does not fit."""
    cursor = Cursor(data, "little")
    parts: list[str] = []
    separator = ""
    for _ in range(_MOST_NODES):
        if not cursor.left:
            break
        kind, subtype, size = cursor.u8("type"), cursor.u8("subtype"), cursor.u16("length")
        if size < 4:
            raise cursor.error(f"a device path node of {size} bytes")
        body = cursor.take(size - 4, "device path node")
        if kind == _END:
            if subtype == 0xFF:
                break
            separator = ","
            continue
        parts.append(separator + _node(kind, subtype, body))
        separator = "/"
    return "".join(parts)


def _node(kind: int, subtype: int, body: bytes) -> str:
    writer = _WRITERS.get((kind, subtype))
    if writer is not None:
        try:
            return writer(body)
        except (struct.error, ValueError, IndexError):
            pass  # a node that is shorter than its kind: shown as bytes
    return f"Path({kind},{subtype},{body[:64].hex().upper()})"


def _acpi(body: bytes) -> str:
    hid, uid = struct.unpack_from("<II", body)
    if hid & 0xFFFF == _EISA_PNP:
        root = _ROOTS.get(hid >> 16)
        return f"{root}({uid:#x})" if root else f"Acpi(PNP{hid >> 16:04X},{uid:#x})"
    return f"Acpi({hid:#010x},{uid:#x})"


def _pci(body: bytes) -> str:
    return f"Pci({body[1]:#x},{body[0]:#x})"


def _memory(body: bytes) -> str:
    kind, start, end = struct.unpack_from("<IQQ", body)
    return f"MemoryMapped({kind:#x},{start:#x},{end:#x})"


def _vendor(name: str) -> Callable[[bytes], str]:
    def write(body: bytes) -> str:
        more = f",{body[16:48].hex().upper()}" if len(body) > 16 else ""
        return f"{name}({guid_text(body[:16])}{more})"

    return write


def _guid(name: str) -> Callable[[bytes], str]:
    return lambda body: f"{name}({guid_text(body[:16])})"


def _numbers(name: str, layout: str) -> Callable[[bytes], str]:
    return lambda body: f"{name}({','.join(f'{value:#x}' for value in struct.unpack_from(layout, body))})"


def _mac(body: bytes) -> str:
    kind = body[32]
    return f"MAC({body[: 6 if kind in (0, 1) else 32].hex()},{kind:#x})"


def _ipv4(body: bytes) -> str:
    return f"IPv4({ipaddress.IPv4Address(body[4:8])})"


def _ipv6(body: bytes) -> str:
    return f"IPv6({ipaddress.IPv6Address(body[16:32])})"


def _nvme(body: bytes) -> str:
    namespace, unique = struct.unpack_from("<I8s", body)
    return f"NVMe({namespace:#x},{'-'.join(f'{byte:02X}' for byte in reversed(unique))})"


def _hard_drive(body: bytes) -> str:
    number, start, size, signature, _, kind = struct.unpack_from("<IQQ16sBB", body)
    if kind == 2:
        name = f"GPT,{guid_text(signature)}"
    elif kind == 1:
        name = f"MBR,{int.from_bytes(signature[:4], 'little'):#010x}"
    else:
        name = f"{kind},0"
    return f"HD({number},{name},{start:#x},{size:#x})"


def _file(body: bytes) -> str:
    return body.decode("utf-16-le", "replace").rstrip("\0")


def _uri(body: bytes) -> str:
    return f"Uri({body.decode('utf-8', 'replace')})"


_WRITERS: dict[tuple[int, int], Callable[[bytes], str]] = {
    (1, 1): _pci,
    (1, 3): _memory,
    (1, 4): _vendor("VenHw"),
    (1, 5): _numbers("Ctrl", "<I"),
    (2, 1): _acpi,
    (3, 1): _numbers("Ata", "<BBH"),
    (3, 2): _numbers("Scsi", "<HH"),
    (3, 5): _numbers("USB", "<BB"),
    (3, 10): _vendor("VenMsg"),
    (3, 11): _mac,
    (3, 12): _ipv4,
    (3, 13): _ipv6,
    (3, 17): _numbers("Unit", "<B"),
    (3, 18): _numbers("Sata", "<HHH"),
    (3, 23): _nvme,
    (3, 24): _uri,
    (3, 26): _numbers("SD", "<B"),
    (3, 29): _numbers("eMMC", "<B"),
    (4, 1): _hard_drive,
    (4, 2): _numbers("CDROM", "<IQQ"),
    (4, 3): _vendor("VenMedia"),
    (4, 4): _file,
    (4, 6): _guid("FvFile"),
    (4, 7): _guid("Fv"),
    (4, 8): lambda body: "Offset({:#x},{:#x})".format(*struct.unpack_from("<4xQQ", body)),
}
