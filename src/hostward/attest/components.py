"""Which part of a machine an event of the boot log speaks of.

Parts are told by PCR, which the TPM proves, and hardly by the event's type, which is the log's own word: every event of a
PCR is in one of its parts, so that nothing escapes by being called something else.
"""

from __future__ import annotations

from enum import StrEnum

from hostward.attest.eventlog.log import Event
from hostward.attest.eventlog.types import EventType


class Component(StrEnum):
    """Parts, each with its alternatives in the reference values."""

    FIRMWARE = "firmware"
    FIRMWARE_SETTINGS = "firmware-settings"
    DRIVERS = "drivers"
    DRIVER_SETTINGS = "driver-settings"
    BOOT_LOADER = "boot-loader"
    BOOT_ACTIONS = "boot-actions"
    PARTITION_TABLE = "partition-table"
    PLATFORM_EVENTS = "platform-events"
    SECURE_BOOT = "secure-boot"
    SECURE_BOOT_AUTHORITY = "secure-boot-authority"
    BOOT_COMMANDS = "boot-commands"
    BOOT_FILES = "boot-files"
    UNIFIED_KERNEL = "unified-kernel"
    KERNEL_PARAMETERS = "kernel-parameters"
    SYSTEM_EXTENSIONS = "system-extensions"
    OWNER_KEYS = "machine-owner-keys"
    MONITOR = "monitor"  # not compared as a sequence: monitor.py
    OTHER = "other"


# What the monitor measures of itself. Not resettable, and of no use to firmware or boot loaders.
MONITOR_PCR = 15
# The Linux TPM PCR registry, and the PC Client profile's 2.3.4 for 0 to 7.
_BY_PCR = {
    0: Component.FIRMWARE,
    1: Component.FIRMWARE_SETTINGS,
    2: Component.DRIVERS,
    3: Component.DRIVER_SETTINGS,
    4: Component.BOOT_LOADER,
    5: Component.PARTITION_TABLE,
    6: Component.PLATFORM_EVENTS,
    7: Component.SECURE_BOOT,
    8: Component.BOOT_COMMANDS,
    9: Component.BOOT_FILES,
    11: Component.UNIFIED_KERNEL,
    12: Component.KERNEL_PARAMETERS,
    13: Component.SYSTEM_EXTENSIONS,
    14: Component.OWNER_KEYS,
    MONITOR_PCR: Component.MONITOR,
}
# Parts that differ from host to host, or from boot to boot, without harm: unknown values warn.
SETTINGS = frozenset(
    {
        Component.FIRMWARE_SETTINGS,
        Component.DRIVER_SETTINGS,
        Component.BOOT_ACTIONS,
        Component.PARTITION_TABLE,
        Component.PLATFORM_EVENTS,
    }
)
# What firmware notes about the course of a boot (profile, 10.4.4); it stands between images in PCR 4.
_HARMLESS_ACTIONS = frozenset(
    {
        b"Calling EFI Application from Boot Option",
        b"Returning from EFI Application from Boot Option",
        b"Exit Boot Services Invocation",
        b"Exit Boot Services Returned with Success",
        b"Exit Boot Services Returned with Failure",
        b"Returning from EFI Application",
    }
)


def component_of(event: Event, *, data_is_genuine: bool) -> Component:
    """The part of an event that extends a PCR and is no separator."""
    part = _BY_PCR.get(event.pcr, Component.OTHER)
    if part is Component.BOOT_LOADER and event.type == EventType.EV_EFI_ACTION and data_is_genuine:
        return Component.BOOT_ACTIONS if event.data.rstrip(b"\0") in _HARMLESS_ACTIONS else part
    if part is Component.SECURE_BOOT and event.type == EventType.EV_EFI_VARIABLE_AUTHORITY:
        return Component.SECURE_BOOT_AUTHORITY
    return part
