"""Event data in readable fields; what is unknown or malformed is shown and never an error."""

from __future__ import annotations

import struct

import pytest
from bench.attester import GLOBAL_VARIABLE, BootLog, Maker, image, variable

from hostward.attest.eventlog import EventType, parse_event_log
from hostward.attest.eventlog.describe import describe_event

X509_LIST = bytes.fromhex("a159c0a5e494a74a87b5ab155c2bf072")
SHA256_LIST = bytes.fromhex("2616c4c14c509240aca941f936934328")


def described(kind: int, data: bytes, measured: bytes | None = None, pcr: int = 4) -> dict[str, object]:
    log = BootLog()
    log.add(pcr, kind, data, measured)
    return describe_event(parse_event_log(bytes(log.data)).events[1])


def data_of(kind: int, data: bytes) -> object:
    return described(kind, data)["data"]


def test_variables() -> None:
    assert data_of(EventType.EV_EFI_VARIABLE_DRIVER_CONFIG, variable("SecureBoot", b"\1")) == {
        "variable": "SecureBoot",
        "vendor": "EFI_GLOBAL_VARIABLE",
        "value": True,
    }
    order = data_of(EventType.EV_EFI_VARIABLE_BOOT2, variable("BootOrder", b"\1\0\xab\0"))
    assert isinstance(order, dict)
    assert order["order"] == ["0001", "00AB"]
    path = bytes.fromhex("0101060001 1f".replace(" ", "")) + bytes.fromhex("7fff0400")
    option = struct.pack("<IH", 1, len(path)) + "disk".encode("utf-16-le") + b"\0\0" + path
    shown = data_of(EventType.EV_EFI_VARIABLE_BOOT, variable("Boot0001", option))
    assert isinstance(shown, dict)
    assert (shown["description"], shown["path"], shown["active"]) == ("disk", "Pci(0x1f,0x1)", True)


def test_key_stores_and_authorities() -> None:
    certificate = Maker().root()
    signature = bytes(16) + certificate
    lists = X509_LIST + struct.pack("<III", 28 + len(signature), 0, len(signature)) + signature
    lists += SHA256_LIST + struct.pack("<III", 28 + 96, 0, 48) + bytes(96)
    shown = data_of(EventType.EV_EFI_VARIABLE_DRIVER_CONFIG, variable("db", lists))
    assert isinstance(shown, dict)
    assert shown["signatures"]["hashes"] == {"SHA256": 2}
    assert [each["subject"] for each in shown["signatures"]["certificates"]] == ["CN=maker root"]
    for content in (signature, certificate):  # as the profile says, and as old shim does
        shown = data_of(EventType.EV_EFI_VARIABLE_AUTHORITY, variable("db", content))
        assert isinstance(shown, dict)
        assert shown["signature"]["subject"] == "CN=maker root"


def test_images_actions_separators_commands_and_tags() -> None:
    shown = data_of(EventType.EV_EFI_BOOT_SERVICES_APPLICATION, image("\\EFI\\BOOT\\BOOTX64.EFI"))
    assert isinstance(shown, dict)
    assert shown["path"] == "\\EFI\\BOOT\\BOOTX64.EFI"
    assert data_of(EventType.EV_SEPARATOR, bytes(4)) == {"separator": "end of pre-boot"}
    assert data_of(EventType.EV_SEPARATOR, b"\1\0\0\0") == {"separator": "error"}
    assert data_of(EventType.EV_EFI_ACTION, b"Calling EFI Application") == {"text": "Calling EFI Application"}
    command = described(EventType.EV_IPL, b"grub_cmd: linux /vmlinuz\0", b"linux /vmlinuz", pcr=8)
    assert command["data"] == {"text": "grub_cmd: linux /vmlinuz"}
    assert command["data_verified"] is True
    assert described(EventType.EV_IPL, b"grub_cmd: linux /vmlinuz\0", b"other", pcr=8)["data_verified"] is False
    stub = described(EventType.EV_IPL, ".linux\0".encode("utf-16-le"), b"kernel", pcr=11)
    assert stub["data"] == {"text": ".linux"}
    tag = described(EventType.EV_EVENT_TAG, struct.pack("<II", 0x8F3B22ED, 4) + b"a=b\0", b"a=b\0", pcr=9)
    assert tag["data"] == {"tag": "linux-load-options", "text": "a=b"}
    assert tag["data_verified"] is True
    named = described(
        EventType.EV_EVENT_TAG, struct.pack("<II", 0x8F3B22EC, 13) + b"Linux initrd\0", b"its content", pcr=9
    )
    assert named["data_verified"] is None


def test_partitions() -> None:
    esp = bytes.fromhex("28732ac11ff8d211ba4b00a0c93ec93b")
    entry = esp + bytes(15) + b"\7" + struct.pack("<QQQ", 2048, 4095, 0) + "EFI".encode("utf-16-le").ljust(72, b"\0")
    header = b"EFI PART" + bytes(48) + bytes(16) + struct.pack("<QIII", 2, 128, 128, 0)
    shown = data_of(EventType.EV_EFI_GPT_EVENT, header + struct.pack("<Q", 1) + entry)
    assert isinstance(shown, dict)
    (partition,) = shown["partitions"]
    assert (partition["type"], partition["name"], partition["first_block"]) == ("EFI_SYSTEM_PARTITION", "EFI", 2048)


DEVICE_PATHS = {
    "02010c00d041030a00000000": "PciRoot(0x0)",
    "0302080001000200": "Scsi(0x1,0x2)",
    "03170c000100000000000000": "Path(3,23,0100000000000000)",  # cut short
    "0317100001000000" + "0807060504030201": "NVMe(0x1,01-02-03-04-05-06-07-08)",
    "0318080061626364": "Uri(abcd)",
    "0c0d0600abcd": "Path(12,13,ABCD)",
    "0406140000112233445566778899aabbccddeeff": "FvFile(33221100-5544-7766-8899-aabbccddeeff)",
}


@pytest.mark.parametrize(("node", "text"), DEVICE_PATHS.items())
def test_device_paths_as_text(node: str, text: str) -> None:
    path = bytes.fromhex(node) + bytes.fromhex("7fff0400")
    shown = data_of(EventType.EV_EFI_BOOT_SERVICES_DRIVER, struct.pack("<QQQQ", 0, 0, 0, len(path)) + path)
    assert isinstance(shown, dict)
    assert shown["path"] == text


@pytest.mark.parametrize("kind", [*EventType, 0x12345, 0x800000FF])
@pytest.mark.parametrize("data", [b"", b"\0", b"\xff" * 40, GLOBAL_VARIABLE + b"\xff" * 16, bytes(64), b"EFI PART"])
def test_no_data_is_an_error(kind: int, data: bytes) -> None:
    assert described(kind, data)["bytes"] == len(data)


def test_certificates_that_are_none_are_shown_by_their_hash() -> None:
    shown = data_of(EventType.EV_EFI_VARIABLE_AUTHORITY, variable("db", bytes(16) + b"no certificate"))
    assert isinstance(shown, dict)
    assert shown["signature"]["subject"] == ""
