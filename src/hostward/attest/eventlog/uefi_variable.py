"""UEFI_VARIABLE_DATA: variables that firmware measures, and what the known ones hold."""

from __future__ import annotations

import hashlib
import re
import struct
import uuid
import warnings
from dataclasses import dataclass

from cryptography import x509

from hostward.attest.cursor import Cursor
from hostward.attest.eventlog.device_path import device_path_text
from hostward.attest.eventlog.guids import guid_name, guid_text
from hostward.errors import EvidenceError

_MOST_NAME = 1024
_MOST_SIGNATURES = 4096
_BOOT_OPTION = re.compile(r"(Boot|Driver|SysPrep|PlatformRecovery)[0-9A-Fa-f]{4}")
_SWITCHES = frozenset({"SecureBoot", "SetupMode", "AuditMode", "DeployedMode", "VendorKeys", "MokSBState"})
_KEY_STORES = frozenset({"PK", "KEK", "db", "dbx", "dbt", "dbr", "MokList", "MokListX", "MokListTrusted"})
_X509 = "X509"


@dataclass(frozen=True, slots=True)
class UefiVariable:
    """A variable as it was measured."""

    vendor: str
    name: str
    content: bytes


def parse_variable(data: bytes) -> UefiVariable:
    """Read UEFI_VARIABLE_DATA. Raises EvidenceError."""
    cursor = Cursor(data, "little")
    vendor = guid_text(cursor.take(16, "vendor"))
    characters, size = cursor.u64("length of the name"), cursor.u64("length of the content")
    if characters > _MOST_NAME:
        raise cursor.error(f"a variable's name of {characters} characters")
    name = cursor.take(2 * characters, "name").decode("utf-16-le", "replace").rstrip("\0")
    if size > cursor.left:
        raise cursor.error(f"a variable's content of {size} bytes, {cursor.left} are left")
    return UefiVariable(vendor, name, cursor.take(size, "content"))


def describe_variable(variable: UefiVariable, *, authority: bool = False) -> dict[str, object]:
    """The known variables in fields, others as bytes. ``authority`` is what let an image pass: one signature alone."""
    shown: dict[str, object] = {"variable": variable.name, "vendor": _vendor_name(variable.vendor)}
    content = variable.content
    try:
        if authority and variable.name in _KEY_STORES | {"Shim"}:
            shown["signature"] = _one_signature(content)
        elif variable.name in _SWITCHES and len(content) <= 1:
            shown["value"] = bool(content and content[0])
        elif variable.name == "BootOrder":
            shown["order"] = [f"{number:04X}" for (number,) in struct.iter_unpack("<H", content[: len(content) & ~1])]
        elif _BOOT_OPTION.fullmatch(variable.name):
            shown.update(describe_load_option(content))
        elif variable.name in _KEY_STORES:
            shown["signatures"] = _signature_lists(content)
        else:
            shown["content"] = _readable(content)
    except EvidenceError as error:
        shown["content"], shown["undecoded"] = content[:256].hex(), error.reason
    return shown


def _one_signature(content: bytes) -> dict[str, str]:
    """EFI_SIGNATURE_DATA; shim before 15.5 measures the certificate without its owner."""
    if content[:2] == b"\x30\x82":
        return _certificate(content)
    owner = guid_name(Cursor(content, "little").take(16, "owner"))
    return {"owner": owner, **_certificate(content[16:])}


def _vendor_name(vendor: str) -> str:
    return guid_name(uuid.UUID(vendor).bytes_le)


def _readable(content: bytes) -> str:
    """Text where it is text, else hexadecimal."""
    text = content.rstrip(b"\0\n").decode("ascii", "replace")
    return text if text and text.isprintable() and "\ufffd" not in text else content[:256].hex()


def describe_load_option(content: bytes) -> dict[str, object]:
    """EFI_LOAD_OPTION. Raises EvidenceError."""
    cursor = Cursor(content, "little")
    attributes, size = cursor.u32("attributes"), cursor.u16("length of the path list")
    description = bytearray()
    while (pair := cursor.take(2, "description")) != b"\0\0":
        description += pair
    path = device_path_text(cursor.take(size, "path list"))
    return {
        "active": bool(attributes & 1),
        "description": description.decode("utf-16-le", "replace"),
        "path": path,
    }


def _signature_lists(content: bytes) -> dict[str, object]:
    """EFI_SIGNATURE_LISTs: certificates by name, hashes by count (a dbx has hundreds)."""
    cursor = Cursor(content, "little")
    certificates: list[dict[str, str]] = []
    hashes: dict[str, int] = {}
    seen = 0
    while cursor.left:
        kind = guid_name(cursor.take(16, "type of signatures"))
        size, head, each = cursor.u32("size of the list"), cursor.u32("size of its head"), cursor.u32("signature size")
        if each < 16 or size < 28 + head:
            raise cursor.error("a signature list whose sizes contradict each other")
        cursor.take(head, "head of the list")
        body = cursor.take(size - 28 - head, "signatures")
        count, rest = divmod(len(body), each)
        if rest:
            raise cursor.error(f"{rest} bytes follow the last signature of a list")
        seen += count
        if seen > _MOST_SIGNATURES:
            raise cursor.error(f"more than {_MOST_SIGNATURES} signatures")
        if kind == _X509:
            for start in range(0, len(body), each):
                owner = guid_name(body[start : start + 16])
                certificates.append({"owner": owner, **_certificate(body[start + 16 : start + each])})
        else:
            hashes[kind] = hashes.get(kind, 0) + count
    return {"certificates": certificates, "hashes": hashes}


def _certificate(data: bytes) -> dict[str, str]:
    shown = {"sha256": hashlib.sha256(data).hexdigest()}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old CAs have serial numbers that the library frowns at
            shown["subject"] = x509.load_der_x509_certificate(data).subject.rfc4514_string()
    except Exception:
        # The parser of certificates has more kinds of failure than it documents; what is shown is no decision.
        shown["subject"] = ""
    return shown
